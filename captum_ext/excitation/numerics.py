"""Arithmetic that every rule shares."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["UNIT", "full_precision", "safe_divide", "working_dtype"]


UNIT = 2.0**14
"""What a unit of mass is in a backward pass: float16 has nothing below 6e-8, which a pixel's share may be."""


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision rules compute in: float32, or float64 where the model runs in float64."""
    return torch.promote_types(dtype, torch.float32)


def safe_divide(mass: Tensor, support: Tensor) -> Tensor:
    """``mass / support``, and 0 where nothing supports the parent.

    The test is exact, since an added epsilon would leak mass. It compares with the smallest normal number,
    because a subnormal denominator makes the quotient infinite.
    """
    denominator = F.threshold(support, torch.finfo(support.dtype).tiny, torch.inf)
    return torch.div(mass, denominator, out=denominator)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast switched off, whatever the caller has set."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
