"""Arithmetic that every rule shares."""

import torch
from torch import Tensor

__all__ = ["safe_divide", "working_dtype"]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision rules compute in: float32, or float64 where the model runs in float64."""
    return torch.promote_types(dtype, torch.float32)


def safe_divide(mass: Tensor, support: Tensor) -> Tensor:
    """``mass / support``, and 0 where nothing supports the parent.

    The test is exact, since an added epsilon would leak mass. It compares with the smallest normal number,
    because a subnormal denominator makes the quotient infinite.
    """
    return (mass / support).masked_fill_(support < torch.finfo(support.dtype).tiny, 0.0)
