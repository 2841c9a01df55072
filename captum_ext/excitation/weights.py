"""Positive and negative parts of weights, kept from one explanation to the next."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from captum_ext.excitation.numerics import full_precision, working_dtype

__all__ = ["ChangingWeights", "SignedWeight", "WeightCache"]


class SignedWeight:
    """W^+ = max(W, 0) and W^- = max(-W, 0) of one weight, each computed when first asked for.

    Args:
        weight (Tensor): W.
        factor (Tensor, optional): numbers that its rows are multiplied by.
    """

    def __init__(self, weight: Tensor, factor: Tensor | None = None) -> None:
        self.value, self._factor = weight.detach(), factor
        self._parts: dict[tuple[int, torch.dtype], Tensor] = {}
        self._scaled: tuple[Tensor, SignedWeight] | None = None

    def part(self, sign: int, dtype: torch.dtype) -> Tensor:
        """W^+ for sign 1, W^- for sign -1."""
        key = (sign, dtype)
        if key not in self._parts:
            value = self.value.to(dtype)
            if self._factor is not None:
                value = value * self._factor.view(-1, *[1] * (value.dim() - 1))
            self._parts[key] = value.clamp(min=0) if sign > 0 else value.clamp(max=0).neg_()
        return self._parts[key]

    def scaled(self, factor: Tensor) -> SignedWeight:
        """The weight with row i multiplied by ``factor[i]``; the last result is kept."""
        kept = self._scaled
        if kept is None or not torch.equal(kept[0], factor):
            kept = self._scaled = factor, SignedWeight(self.value, factor)
        return kept[1]

    def rows(self, start: int, stop: int) -> SignedWeight:
        """Some rows of the weight."""
        return SignedWeight(
            self.value[start:stop], None if self._factor is None else self._factor[start:stop]
        )


class _Entry(NamedTuple):
    version: int
    address: int
    row_sums: Tensor
    signed: SignedWeight


class WeightCache:
    """Signed parts of parameters, each kept for as long as its parameter lives and has not changed.

    Neither a write through ``parameter.data`` nor a fused optimiser moves the version counter, so what was
    kept is used only if weighted sums of every row are the same as well: one pass over the weight instead of
    several. What they miss is below the rounding of a row's sum.
    """

    def __init__(self) -> None:
        self._entries: Any = WeakIdKeyDictionary()

    def __call__(self, weight: Tensor) -> SignedWeight:
        """The signed parts of ``weight``."""
        if not isinstance(weight, nn.Parameter):
            return SignedWeight(weight)
        version = 0 if weight.is_inference() else weight._version
        address, row_sums = weight.data_ptr(), _row_sums(weight.detach())
        found: _Entry | None = self._entries.get(weight)
        if (
            found is None
            or (found.version, found.address) != (version, address)
            or not torch.equal(found.row_sums, row_sums)
        ):
            found = self._entries[weight] = _Entry(version, address, row_sums, SignedWeight(weight))
        return found.signed

    def __reduce__(self) -> tuple[type[WeightCache], tuple[()]]:
        """Copies start empty."""
        return WeightCache, ()


class ChangingWeights(WeightCache):
    """Keeps nothing: for weights that are trained, and so differ at every pass."""

    def __call__(self, weight: Tensor) -> SignedWeight:
        """The signed parts of ``weight``."""
        return SignedWeight(weight)

    def __reduce__(self) -> tuple[type[WeightCache], tuple[()]]:
        """Nothing to copy."""
        return ChangingWeights, ()


def _row_sums(weight: Tensor) -> Tensor:
    rows = weight.reshape(len(weight), -1) if weight.dim() > 1 else weight.reshape(1, -1)
    rows = rows.to(working_dtype(rows.dtype))
    with full_precision(rows.device):
        return rows @ _coefficients(rows.shape[1], rows.dtype, rows.device)


@lru_cache(maxsize=256)
def _coefficients(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers from 1 to 2 of which no two are close: the multiples of the golden ratio, modulo 1."""
    multiples = torch.arange(1, n + 1, dtype=torch.float64) * (math.sqrt(5) - 1) / 2
    return (1 + multiples % 1).to(device, dtype)
