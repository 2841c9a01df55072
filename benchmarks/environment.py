"""What a figure was measured with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import captum
import torch
import torchvision

import captum_ext

__all__ = ["environment"]


def environment() -> dict[str, object]:
    """Versions, machine, load and the command, to stand beside every result."""
    return {
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "commit": _commit(),
        "captum_ext": captum_ext.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "captum": captum.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_1_minute": round(os.getloadavg()[0], 2),
    }


def _commit() -> str | None:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return found.stdout.strip() or None
