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
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.suite.errors import RunError

__all__ = ["is_rank_zero", "prepared"]

_POLL_S = 0.5
_PATIENCE_S = 60.0


def is_rank_zero() -> bool:
    """Whether this process prepares for the others, whoever launched them (Lightning, torchrun, SLURM)."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
    return all(int(os.environ.get(name, 0)) == 0 for name in names)


def prepared(root: Path, name: str, settings: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` fills, made by the first process that asks for these settings.

    It appears when it is complete, so a killed preparation leaves nothing that looks finished, only a folder
    whose name begins with a dot.

    Args:
        root (Path): where prepared folders lie.
        name (str): what is prepared; together with the settings it names the folder.
        settings (Mapping): everything that decides what is built.
        build (Callable): fills the folder that it is given.

    Raises:
        RunError: in the processes that wait, if the first one cannot prepare the folder.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = root / f"{name}-{digest}"
    failure = root / f".{folder.name}.failed"
    if not is_rank_zero():
        _wait(folder, failure)
    if folder.exists():
        return folder
    failure.unlink(missing_ok=True)
    unfinished = root / f".{folder.name}.{uuid.uuid4().hex}"
    unfinished.mkdir(parents=True)
    try:
        build(unfinished)
    except BaseException as error:
        with suppress(OSError):  # the first error says more
            failure.write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.exists():
            raise
        # another run was faster, with the same settings
    return folder


def _wait(folder: Path, failure: Path) -> None:
    """Until the first process has prepared the folder, or says that it cannot.

    What an earlier run says of its failure counts for nothing: the first process of this run removes it when
    it begins, and has some time for that.
    """
    if folder.exists():
        return
    sys.stderr.write(f"waiting for the first process to prepare {folder}\n")
    start = time.monotonic()
    while not folder.exists():
        if failure.exists() and time.monotonic() - start > _PATIENCE_S:
            raise RunError(f"the first process could not prepare {folder}: {failure.read_text('utf-8')}")
        time.sleep(_POLL_S)
