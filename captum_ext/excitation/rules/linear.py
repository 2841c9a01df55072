"""Linear and convolutional layers: eq. 1 of Bargal et al. (2018), bias excluded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.first_convolution import FirstConvolutionMap, has_few_channels
from captum_ext.excitation.large_linear import LargeLinearMap, is_large
from captum_ext.excitation.maps import WeightedMap
from captum_ext.excitation.mode import Args, ExcitationMode, Kwargs, constant, is_evidence, rule
from captum_ext.excitation.operand import facts_of
from captum_ext.excitation.rules.pooling import mix
from captum_ext.excitation.weights import SignedWeight

__all__ = ["weighted_layer"]

LinearOp = Callable[[Tensor, Tensor], Tensor]


def weighted_layer(
    mode: ExcitationMode,
    tensor: Tensor,
    weight: Tensor,
    apply: LinearOp,
    adjoint: LinearOp,
    compute: Callable[[Tensor], Tensor],
    has_rows: bool = False,
    kind: type[WeightedMap] = WeightedMap,
) -> Tensor:
    """Run ``compute``, the untouched layer, with the rule of the linear map ``apply`` behind its output."""
    if mode.private_inputs:
        tensor = mode.rearrange(tensor.view_as(tensor), [tensor], lambda t: t, facts_of(tensor))
    signed = SignedWeight(weight) if kind is LargeLinearMap else mode.weight(weight)
    behind = kind(mode.operand(tensor), signed, apply, adjoint, mode.clamp, has_rows)
    if mode.private_inputs:
        mode.layer_inputs[behind] = tensor
    return mode.propagate(behind, compute, tensor)


@rule(F.linear)
def linear(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Y = x W^T + b."""
    tensor, weight, bias = _bind(("input", "weight", "bias"), args, kwargs)
    if is_evidence(weight, bias):
        return mode.run_without_rule(func, args, kwargs, "its weight depends on the explained input")
    return weighted_layer(
        mode,
        tensor,
        weight,
        F.linear,
        lambda q, w: q @ w,
        lambda x: F.linear(x, constant(weight), constant(bias)),
        has_rows=tensor.dim() == 2,
        kind=LargeLinearMap if is_large(weight) else WeightedMap,
    )


@rule(torch.addmm)
def addmm(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Y = b + x W."""
    if kwargs or is_evidence(args[0], args[2]):
        return mode.run_without_rule(func, args, kwargs, "only b + x W with constant b and W has a rule")
    bias, tensor, weight = args
    return weighted_layer(
        mode,
        tensor,
        weight,
        torch.matmul,
        lambda q, w: q @ w.T,
        lambda x: func(constant(bias), x, constant(weight)),
    )


@rule(torch.matmul, Tensor.matmul, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm, Tensor.__rmatmul__)
def matmul(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A matrix product."""
    if len(args) != 2 or kwargs:
        return mode.run_without_rule(func, args, kwargs, "only a product of two tensors has a rule")
    output = _bilinear(mode, func, *args)
    return mode.run_without_rule(func, args, kwargs, _TWO_VALUES) if output is None else output


@rule(torch.einsum)
def einsum(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """An einsum of two operands."""
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    if not isinstance(equation, str) or len(operands) != 2:
        why = "only einsum with an equation and two operands has a rule"
        return mode.run_without_rule(func, args, kwargs, why)
    output = _bilinear(mode, lambda a, b: func(equation, a, b), *operands)
    return mode.run_without_rule(func, args, kwargs, _TWO_VALUES) if output is None else output


_TWO_VALUES = "of two factors that depend on the explained input, one must be a gate"


def _bilinear(
    mode: ExcitationMode, product: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor
) -> Tensor | None:
    """A product that is linear in either factor: one, constant or a gate, holds the weights of the other.

    None if neither is.
    """
    if is_evidence(first) and is_evidence(second):
        gates = facts_of(first).gate, facts_of(second).gate
        if gates == (True, False):
            weights = first.detach()
            return mix(mode, second, lambda v: product(weights.to(v.dtype), v))
        if gates == (False, True):
            weights = second.detach()
            return mix(mode, first, lambda v: product(v, weights.to(v.dtype)))
        return None
    left = is_evidence(first)
    tensor, weight = (first, second) if left else (second, first)
    shape = tensor.shape

    def apply(x: Tensor, w: Tensor) -> Tensor:
        result: Tensor = product(x, w) if left else product(w, x)
        return result

    def adjoint(q: Tensor, w: Tensor) -> Tensor:
        with torch.enable_grad():
            x = q.new_zeros(shape).requires_grad_()
            return torch.autograd.grad(apply(x, w), x, q)[0].clone()

    return weighted_layer(mode, tensor, weight, apply, adjoint, lambda x: apply(x, constant(weight)))


def _convolution(n_axes: int, transposed: bool) -> Callable[..., Any]:
    names = (
        ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
        if transposed
        else ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    )
    defaults = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}

    def convolution(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        given = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
        tensor, weight, bias = given["input"], given["weight"], given.get("bias")
        if is_evidence(weight, bias):
            return mode.run_without_rule(func, args, kwargs, "its weight depends on the explained input")
        stride, dilation, output_padding = (
            _per_axis(given[name], n_axes) for name in ("stride", "dilation", "output_padding")
        )
        padding, extra = _padding(given["padding"], dilation, weight.shape[2:])
        groups = given["groups"]
        settings = (stride, padding, dilation, transposed, output_padding, groups)
        batched = tensor.dim() == n_axes + 2
        size = tensor.shape if batched else (1, *tensor.shape)

        def apply(x: Tensor, w: Tensor) -> Tensor:
            y = torch.convolution(_padded(x if batched else x[None], extra), w, None, *settings)
            return y if batched else y[0]

        def adjoint(q: Tensor, w: Tensor) -> Tensor:
            n_channels = size[1] if transposed else w.shape[1] * groups
            like = _padded(q.new_empty((size[0], n_channels, *size[2:])), extra)  # only its shape is read
            mask = [True, False, False]
            x: Tensor = torch.ops.aten.convolution_backward(
                q if batched else q[None], like, w, None, *settings, mask
            )[0]
            for axis, right in enumerate(extra):
                x = x.narrow(2 + axis, 0, x.shape[2 + axis] - right)
            return x if batched else x[0]

        rest = {name: constant(value) for name, value in given.items() if name in names and name != "input"}
        can_stack = batched and not transposed and groups == 1 and has_few_channels(weight)
        return weighted_layer(
            mode,
            tensor,
            weight,
            apply,
            adjoint,
            lambda x: func(x, **rest),
            has_rows=batched and not transposed,
            kind=FirstConvolutionMap if can_stack else WeightedMap,
        )

    return convolution


for _n in (1, 2, 3):
    rule(getattr(F, f"conv{_n}d"))(_convolution(_n, transposed=False))
    rule(getattr(F, f"conv_transpose{_n}d"))(_convolution(_n, transposed=True))


def _padding(
    padding: int | str | tuple[int, ...], dilation: tuple[int, ...], kernel: torch.Size
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Symmetric padding per axis, and what "same" adds on the right of it."""
    if padding == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple(t // 2 for t in total), tuple(t % 2 for t in total)
    assert not isinstance(padding, str)  # noqa: S101
    return _per_axis(padding, len(kernel)), (0,) * len(kernel)


def _padded(x: Tensor, extra: tuple[int, ...]) -> Tensor:
    return F.pad(x, [p for right in reversed(extra) for p in (0, right)]) if any(extra) else x


def _per_axis(value: int | tuple[int, ...], n_axes: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n_axes if len(values) == 1 else values


def _bind(names: tuple[str, ...], args: Args, kwargs: Kwargs) -> tuple[Any, ...]:
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return tuple(given.get(name) for name in names)
