"""Convolutions of a few signed channels, such as the first one of a network."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ext.excitation.maps import WeightedMap
from captum_ext.excitation.operand import Sign

__all__ = ["FirstConvolutionMap", "has_few_channels"]


def has_few_channels(weight: Tensor) -> bool:
    """Whether a convolution with this weight costs hardly more with twice as many channels."""
    return weight.shape[1] <= 4


class FirstConvolutionMap(WeightedMap):
    """A convolution, without groups, of so few channels that twice as many cost hardly more.

    The positive and the negative parts of the children are stacked as channels, so that one convolution and
    one transposed convolution do for both. Axis 1 holds the channels of the children and of the weight.
    """

    def _support(self, sign: Sign) -> Tensor:
        (operand,) = self.operands
        down = operand.part(-1)
        if down is None:
            return super()._support(sign)
        return self._apply(torch.cat([operand.part_or_zeros(1), down], dim=1), self._stacked(sign))

    def _share(self, plus: Tensor, minus: Tensor | None) -> tuple[Tensor, ...]:
        (operand,) = self.operands
        down = operand.part(-1)
        if down is None:
            return super()._share(plus, minus)
        pull = self._adjoint(plus, self._stacked(1))
        if minus is not None:
            pull += self._adjoint(minus, self._stacked(-1))
        pull_up, pull_down = pull.chunk(2, dim=1)
        return (operand.receive(pull_up * operand.part_or_zeros(1), pull_down * down),)

    def _stacked(self, sign: int) -> Tensor:
        return torch.cat([self._weight(sign), self._weight(-sign)], dim=1)
