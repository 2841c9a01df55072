"""Positive and negative parts of weights, computed once per recording."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SignedWeight", "WeightCache"]


class SignedWeight:
    """W^+ = max(W, 0) and W^- = max(-W, 0) of one weight, each computed when first asked for."""

    def __init__(self, weight: Tensor) -> None:
        self._value = weight.detach()
        self._parts: dict[tuple[int, torch.dtype], Tensor] = {}

    def part(self, sign: int, dtype: torch.dtype) -> Tensor:
        """W^+ for sign 1, W^- for sign -1."""
        key = (sign, dtype)
        if key not in self._parts:
            value = self._value.to(dtype)
            self._parts[key] = value.clamp(min=0) if sign > 0 else (-value).clamp(min=0)
        return self._parts[key]

    def scaled(self, factor: Tensor) -> SignedWeight:
        """The weight with row i multiplied by ``factor[i]``."""
        shape = -1, *[1] * (self._value.dim() - 1)
        return SignedWeight(self._value * factor.view(shape))


class WeightCache:
    """Signed parts of the parameters met in one forward pass, shared by layers that are called repeatedly."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Tensor, SignedWeight]] = {}

    def __call__(self, weight: Tensor) -> SignedWeight:
        """The signed parts of ``weight``."""
        if id(weight) not in self._entries:
            # The weight is kept beside its parts, so that its id cannot be given to another tensor.
            self._entries[id(weight)] = weight, SignedWeight(weight)
        return self._entries[id(weight)][1]
