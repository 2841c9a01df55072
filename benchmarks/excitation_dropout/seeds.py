"""A mean over training runs, with an interval that is honest for three of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from benchmarks.tables import Cell

__all__ = ["over_seeds"]

# Quantiles 0.975 of Student's t for 1 to 9 degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_NORMAL = 1.960


def over_seeds(values: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> Cell:
    """Mean with Student's 95 % interval, cut off at the bounds; without one for a single run.

    A bootstrap over three runs would give intervals that are far too short.
    """
    kept = torch.tensor([value for value in values if not math.isnan(value)], dtype=torch.float64)
    n = len(kept)
    if n == 0:
        return Cell(math.nan, 0)
    mean = float(kept.mean())
    if n == 1:
        return Cell(mean, 1)
    half = (_T[n - 2] if n - 2 < len(_T) else _NORMAL) * float(kept.std()) / n**0.5
    return Cell(mean, n, (max(mean - half, bounds[0]), min(mean + half, bounds[1])))
