"""Peak memory of a call: of the tensors on a GPU, of a process of its own on the CPU."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["peak_of_process", "peak_on_gpu"]


def peak_of_process(function: Callable[..., object], *arguments: object) -> float:
    """Megabytes that a fresh process holds at most while it calls ``function``, beyond what imports take.

    The function must be importable. NaN where the system has no /proc.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (function, arguments))


def _measure(function: Callable[..., object], arguments: tuple[object, ...]) -> float:
    before = _peak()
    function(*arguments)
    return _peak() - before


def _peak() -> float:
    status = Path("/proc/self/status")
    if not status.exists():  # the figures of getrusage would include the parent process
        return float("nan")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return float(line.split()[1]) / 2**10


def peak_on_gpu(function: Callable[[], object]) -> float:
    """Megabytes of tensors at most while ``function`` runs, the model and its inputs included."""
    torch.cuda.reset_peak_memory_stats()
    function()
    return torch.cuda.max_memory_allocated() / 2**20
