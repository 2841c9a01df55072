"""The autograd functions that carry the rules: the untouched operation forward, mass backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from captum_ext.excitation.maps import EvidenceMap, LinearMap

__all__ = ["FUNCTIONS", "EqualShares", "LSTMFunction", "PassThrough", "Propagate"]

States = tuple[Tensor, Tensor, Tensor]


class RecurrentLayer(Protocol):
    """The rule of a recurrent layer."""

    outputs: Tensor | None

    def distribute(self, m_outputs: Tensor, m_h: Tensor, m_c: Tensor) -> States:
        """Mass of the sequence and the initial states, from that of the outputs and last states."""


class Propagate(torch.autograd.Function):
    """A linear map: ``compute(*tensors)`` forward, :meth:`LinearMap.distribute` backward."""

    @staticmethod
    def forward(ctx: Any, linear_map: LinearMap, compute: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Run the operation as it is."""
        ctx.linear_map = linear_map
        return compute(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mass: Tensor) -> tuple[Tensor | None, ...]:
        """Share the mass over the operands, in full precision."""
        with torch.autocast(mass.device.type, enabled=False):
            return None, None, *ctx.linear_map.distribute(mass)


class PassThrough(torch.autograd.Function):
    """An element-wise operation or normalisation: mass passes to the same position of its input.

    ``positive`` says which of the mass supports a positive input: all of it (True), or that where the mask
    holds (a tensor). None leaves the question to the map behind the input.
    """

    @staticmethod
    def forward(
        ctx: Any,
        compute: Callable[[Tensor], Tensor],
        behind: EvidenceMap | None,
        positive: Tensor | bool | None,
        tensor: Tensor,
    ) -> Tensor:
        """Run the operation as it is."""
        ctx.behind, ctx.positive, ctx.shape = behind, positive, tensor.shape
        return compute(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mass: Tensor) -> tuple[Tensor | None, ...]:
        """Pass the mass on."""
        behind, positive = ctx.behind, ctx.positive
        if behind is not None and positive is not None:
            if isinstance(positive, Tensor):
                plus, minus = mass.masked_fill(~positive, 0.0), mass.masked_fill(positive, 0.0)
                behind.deliver(_to(plus, ctx.shape), _to(minus, ctx.shape))
            else:
                behind.deliver(_to(mass, ctx.shape), None)
        return None, None, None, _to(mass, ctx.shape)


class EqualShares(torch.autograd.Function):
    """The product of two values: each takes half of the mass."""

    @staticmethod
    def forward(ctx: Any, compute: Callable[[Any, Any], Tensor], a: Tensor, b: Tensor) -> Tensor:
        """Run the operation as it is."""
        ctx.shapes = a.shape, b.shape
        return compute(a, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mass: Tensor) -> tuple[Tensor | None, ...]:
        """Halve the mass."""
        return None, *(_to(mass / 2, shape) for shape in ctx.shapes)


class LSTMFunction(torch.autograd.Function):
    """One LSTM layer: the untouched layer forward, the rule of ``layer`` backward."""

    @staticmethod
    def forward(
        ctx: Any, layer: RecurrentLayer, compute: Callable[[], States], x: Tensor, h_0: Tensor, c_0: Tensor
    ) -> States:
        """Run the layer as it is."""
        outputs, h_n, c_n = compute()
        # A copy, so that in-place operations on the outputs cannot reach it.
        layer.outputs = outputs.clone()
        ctx.layer = layer
        return outputs, h_n, c_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, m_outputs: Tensor, m_h: Tensor, m_c: Tensor) -> tuple[Tensor | None, ...]:
        """Share the mass over the sequence and the initial states, in full precision."""
        with torch.autocast(m_outputs.device.type, enabled=False):
            return None, None, *ctx.layer.distribute(m_outputs, m_h, m_c)


FUNCTIONS = (Propagate, PassThrough, EqualShares, LSTMFunction)


def _to(mass: Tensor, shape: torch.Size) -> Tensor:
    """Undo a broadcast, e.g. of a value that a larger gate multiplies."""
    return mass.sum_to_size(shape)
