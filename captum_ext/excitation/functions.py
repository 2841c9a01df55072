"""The autograd functions that carry the rules: the untouched operation forward, mass backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from captum_ext.excitation.maps import EvidenceMap, LinearMap
from captum_ext.excitation.numerics import full_precision

__all__ = ["FUNCTIONS", "EqualShares", "PassThrough", "Propagate", "RecurrentFunction"]


class RecurrentLayer(Protocol):
    """The rule of a recurrent layer."""

    def distribute(self, *masses: Tensor) -> tuple[Tensor | None, ...]:
        """Mass of the sequence and the initial states, from that of what the layer computed."""


class Propagate(torch.autograd.Function):
    """A linear map: ``compute(*tensors)`` forward, :meth:`LinearMap.distribute` backward."""

    @staticmethod
    def forward(ctx: Any, linear_map: LinearMap, compute: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Run the operation as it is."""
        ctx.linear_map = linear_map
        output = compute(*tensors)
        # Torch forbids in-place writes to views made in here; linear layers make them in torch 2.8.
        return torch.ops.aten._unsafe_view(output, output.shape) if output._is_view() else output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mass: Tensor) -> tuple[Tensor | None, ...]:
        """Share the mass over the operands, in full precision."""
        with full_precision(mass.device):
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


class RecurrentFunction(torch.autograd.Function):
    """One recurrent layer: what the layer computed forward, the rule of ``layer`` backward."""

    @staticmethod
    def forward(
        ctx: Any, layer: RecurrentLayer, values: tuple[Tensor, ...], x: Tensor, *initial: Tensor
    ) -> tuple[Tensor, ...]:
        """Hand out what the layer computed."""
        ctx.layer = layer
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *masses: Tensor) -> tuple[Tensor | None, ...]:
        """Share the mass over the sequence and the initial states, in full precision."""
        with full_precision(masses[0].device):
            return None, None, *ctx.layer.distribute(*masses)


FUNCTIONS = (Propagate, PassThrough, EqualShares, RecurrentFunction)


def _to(mass: Tensor, shape: torch.Size) -> Tensor:
    """Undo a broadcast, e.g. of a value that a larger gate multiplies."""
    return mass.sum_to_size(shape)
