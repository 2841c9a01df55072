"""Linear layers whose signed weights would take as much memory as the rest of the model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.maps import WeightedMap
from captum_ext.excitation.numerics import safe_divide
from captum_ext.excitation.operand import Sign
from captum_ext.excitation.weights import SignedWeight

__all__ = ["LargeLinearMap", "is_large"]

_ENTRIES_AT_A_TIME = 2**21


def is_large(weight: Tensor) -> bool:
    """Whether making the signed parts of the whole weight costs more than using them."""
    return weight.numel() >= 2**23


class LargeLinearMap(WeightedMap):
    """y = x W^T + b, a few rows of W at a time.

    The signed parts of some rows are made, used for their support and for their share, and dropped while they
    are still in the processor's cache.
    """

    def _support(self, sign: Sign) -> Tensor:
        up, down = self._children()
        return torch.cat([self._row_support(up, down, rows, sign) for _, rows in self._rows()], dim=-1)

    def _divide_and_share(self, plus: Tensor, minus: Tensor | None) -> tuple[Tensor, ...]:
        up, down = self._children()
        pull_up, pull_down = torch.zeros_like(up), None if down is None else torch.zeros_like(down)
        kinds: list[tuple[Tensor, Sign]] = [(plus, 1)] if minus is None else [(plus, 1), (minus, -1)]
        for position, rows in self._rows():
            # As at the output, where mass starts in one row. On a GPU, looking costs more than it saves.
            if plus.device.type == "cpu" and not any(bool(mass[..., position].any()) for mass, _ in kinds):
                continue
            for mass, sign in kinds:
                quotient = safe_divide(mass[..., position], self._row_support(up, down, rows, sign))
                pull_up += quotient @ self._part(rows, sign)
                if pull_down is not None:
                    pull_down += quotient @ self._part(rows, -sign)
        lower = None if down is None or pull_down is None else down * pull_down
        return (self.operands[0].receive(up * pull_up, lower),)

    def _children(self) -> tuple[Tensor, Tensor | None]:
        (operand,) = self.operands
        return operand.part_or_zeros(1), operand.part(-1)

    def _rows(self) -> Iterator[tuple[slice, SignedWeight]]:
        n_rows, n_columns = self._signed_weight.value.shape
        step = max(1, _ENTRIES_AT_A_TIME // n_columns)
        for start in range(0, n_rows, step):
            yield slice(start, start + step), self._signed_weight.rows(start, start + step)

    def _row_support(self, up: Tensor, down: Tensor | None, rows: SignedWeight, sign: Sign) -> Tensor:
        support = F.linear(up, self._part(rows, sign))
        return support if down is None else support + F.linear(down, self._part(rows, -sign))

    def _part(self, rows: SignedWeight, sign: int) -> Tensor:
        return rows.part(-sign if self.is_dual else sign, self.operands[0].dtype)
