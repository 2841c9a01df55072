"""Element-wise sums and differences: linear maps with weights 1 and -1; constants are biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_ext.excitation.functions import PassThrough
from captum_ext.excitation.maps import ScaledMap, SumMap
from captum_ext.excitation.mode import Args, ExcitationMode, Kwargs, constant, is_evidence, rule
from captum_ext.excitation.operand import Facts, facts_of, set_facts
from captum_ext.excitation.rules.entries import note_entrywise, note_shift, shift_of
from captum_ext.excitation.rules.means import ends_of_mean, note_difference
from captum_ext.excitation.weights import SignedWeight
from captum_ext.excitation.writes import write_back

__all__ = ["scale"]


def scale(
    mode: ExcitationMode,
    tensor: Tensor,
    weight: Tensor | float,
    compute: Callable[[Tensor], Tensor],
    channel_factor: Tensor | None = None,
    with_bias: bool = False,
    entrywise: bool = True,
) -> Tensor:
    """An element-wise affine map with constants.

    Behind a linear map it is one with it; behind anything else mass passes through, since each output has one
    child. ``channel_factor`` repeats the weight if it is one number per channel. ``with_bias`` says that the
    map adds a constant that would be a child if it were evidence, so the sum is a map of its own.
    ``entrywise`` says that an entry of the output depends on that of the input alone.
    """
    facts = facts_of(tensor)
    if facts.map is None and not with_bias:
        output: Tensor = PassThrough.apply(compute, None, None, tensor)
        set_facts(output, Facts(gate=facts.gate))
        return note_entrywise(output) if entrywise else output
    operand, own_shape = mode.operand(tensor), tensor.shape
    signed = SignedWeight(torch.as_tensor(weight, dtype=operand.dtype, device=tensor.device))
    behind = ScaledMap(
        operand,
        signed,
        lambda a, w: (a * w).expand(shape),
        lambda q, w: (q * w).sum_to_size(own_shape),
        mode.clamp,
        channel_factor,
    )
    output = mode.propagate(behind, compute, tensor, gate=facts.gate)
    shape = output.shape  # read by the map above, which is first asked in a backward pass
    return note_entrywise(output) if entrywise else output


def _sum(first_sign: int, second_sign: int, plain: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """first_sign * a + second_sign * b; ``plain`` is the out-of-place twin of an in-place sum."""

    def rule_of_sum(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        if len(args) != 2 or kwargs.keys() - {"alpha"}:
            return mode.run_without_rule(
                func, args, kwargs, "only sums of two positional operands have a rule"
            )
        alpha = kwargs.get("alpha", 1)
        # torch scales the second operand of a + alpha b, and the first of the reflected b - alpha a.
        coefficients = (first_sign * alpha, 1) if first_sign < 0 else (1, second_sign * alpha)
        first, second = args
        mean = ends_of_mean(mode, first, second, coefficients)
        if mean is None and plain is not None and facts_of(first).map is None:
            # The rule needs the value from before the in-place sum, unless a linear map answers for it.
            first = set_facts(first.clone(), facts_of(first)) if is_evidence(first) else first.clone()

        def compute(a: Any, b: Any) -> Tensor:
            result: Tensor = (plain or func)(a, b, **kwargs)
            return result

        if mean is None:
            result = _route(mode, first, second, coefficients, compute)
        else:
            value = compute(*(v.detach() if isinstance(v, Tensor) else v for v in args))
            result = _mean(mode, *mean, value)
        return result if plain is None else write_back(mode, args[0], result)

    return rule_of_sum


def _mean(mode: ExcitationMode, start: Tensor, end: Tensor, gate: Tensor, value: Tensor) -> Tensor:
    """The sum of two gated values, which is ``value`` to rounding."""
    with mode:
        first, second = start * (1 - gate), end * gate
    return _route(mode, first, second, (1, 1), lambda *_: value)


def _route(
    mode: ExcitationMode,
    first: Any,
    second: Any,
    coefficients: tuple[float, float],
    compute: Callable[[Any, Any], Tensor],
) -> Tensor:
    """A sum of two children, or a child with a constant, which is a bias."""
    with_bias = _is_bias(first) != _is_bias(second)
    if with_bias:
        first, second = (value.detach() if _is_bias(value) else value for value in (first, second))
    if not is_evidence(second):
        output = _with_constant(mode, first, second, coefficients, compute, with_bias)
        return note_difference(mode, output, (first, second), coefficients)
    if not is_evidence(first):
        swapped = coefficients[1], coefficients[0]
        output = _with_constant(mode, second, first, swapped, lambda b, a: compute(a, b), with_bias)
        return note_difference(mode, output, (first, second), coefficients)
    facts = facts_of(first), facts_of(second)
    output = mode.propagate(
        SumMap(mode.operand(first), mode.operand(second), coefficients, mode.clamp),
        compute,
        first,
        second,
        non_negative=all(f.non_negative for f in facts) and min(coefficients) >= 0,
        gate=all(f.gate for f in facts),
    )
    return note_difference(mode, output, (first, second), coefficients)


def _with_constant(
    mode: ExcitationMode,
    tensor: Tensor,
    summand: Any,
    coefficients: tuple[float, float],
    compute: Callable[[Any, Any], Tensor],
    with_bias: bool,
) -> Tensor:
    own, other = coefficients
    output = scale(mode, tensor, own, lambda a: compute(a, constant(summand)), with_bias=with_bias)
    if isinstance(summand, int | float):
        note_shift(output, own * shift_of(tensor) + other * summand)
    return output


def _is_bias(value: Any) -> bool:
    return isinstance(value, Tensor) and facts_of(value).bias


rule(torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)(_sum(1, 1))
rule(torch.sub, Tensor.sub, Tensor.__sub__, torch.subtract, Tensor.subtract)(_sum(1, -1))
rule(torch.rsub, Tensor.__rsub__)(_sum(-1, 1))
rule(Tensor.add_, Tensor.__iadd__)(_sum(1, 1, plain=torch.add))
rule(Tensor.sub_, Tensor.__isub__)(_sum(1, -1, plain=torch.sub))
