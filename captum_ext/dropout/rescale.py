"""By what the kept activations are multiplied, so that training and test see a similar scale."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["Rescale", "check_rescale", "rescale_factor"]

Rescale = Literal["fraction", "none", "unit", "mass"]


def rescale_factor(
    h: Tensor, keep: Tensor, keep_probability: Tensor | None, rescale: Rescale, max_scale: float
) -> Tensor | float:
    """The factor of the kept activations, per example or per unit.

    Args:
        h (Tensor): activations.
        keep (Tensor): the mask, True for kept units.
        keep_probability (Tensor, optional): what the mask was drawn with, for ``"unit"`` and ``"mass"``.
        rescale (str): ``"fraction"``: 1 / the share of units that were kept; ``"none"``: 1; ``"unit"``: 1 /
            the unit's own keep probability; ``"mass"``: the sum of magnitudes / its expectation.
        max_scale (float): no factor of ``"unit"`` and ``"mass"`` is larger.

    Shape:
        ``h`` (N, C, *); mask and probabilities (N, C, *) or (N, C, 1, ...); the factor broadcasts.
    """
    axes = tuple(range(1, keep.dim()))
    if rescale == "none":
        return 1.0
    if rescale == "fraction":
        dtype = torch.promote_types(h.dtype, torch.float32)
        # The guard is for masks that keep nothing, where 0 times anything finite is right.
        return 1.0 / keep.mean(axes, keepdim=True, dtype=dtype).clamp_min(1.0 / math.prod(keep.shape[1:]))
    assert keep_probability is not None  # noqa: S101
    if rescale == "unit":
        return (1.0 / keep_probability).clamp_max(max_scale)
    size = h.detach().abs().to(keep_probability.dtype)
    axes = tuple(range(1, size.dim()))
    total, expected = size.sum(axes, keepdim=True), (size * keep_probability).sum(axes, keepdim=True)
    return torch.where(total > 0, total / expected, 1.0).clamp_max(max_scale)


def check_rescale(rescale: str) -> None:
    """Raise for an unknown name."""
    if rescale not in get_args(Rescale):
        raise ValueError(f"rescale must be one of {', '.join(map(repr, get_args(Rescale)))}, got {rescale!r}")
