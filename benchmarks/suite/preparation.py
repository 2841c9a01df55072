"""Clips and models that are made once, whichever process or benchmark asks first."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["is_rank_zero", "prepared"]

_POLL_S = 0.5


def is_rank_zero() -> bool:
    """Whether this process prepares for the others, whoever launched them (Lightning, torchrun, SLURM)."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
    return all(int(os.environ.get(name, 0)) == 0 for name in names)


def prepared(root: Path, name: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` fills, made by the first process that asks for these settings.

    It appears when it is complete, so a killed preparation leaves nothing that looks finished.

    Args:
        root (Path): where prepared folders lie.
        name (str): what is prepared; together with the settings it names the folder.
        settings (Mapping): everything that decides what is built.
        build (Callable): fills the folder that it is given.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = root / f"{name}-{digest}"
    if not is_rank_zero() and not folder.exists():
        sys.stderr.write(f"waiting for the first process to prepare {folder}\n")
        while not folder.exists():
            time.sleep(_POLL_S)
    if folder.exists():
        return folder
    unfinished = root / f".{folder.name}.{uuid.uuid4().hex}"
    unfinished.mkdir(parents=True)
    try:
        build(unfinished)
        unfinished.rename(folder)
    except FileExistsError:
        pass  # another run was faster, with the same settings
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
