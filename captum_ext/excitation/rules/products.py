"""Products and quotients: constants scale, gates modulate, two values share equally."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_ext.excitation.functions import EqualShares, PassThrough
from captum_ext.excitation.mode import (
    Args,
    ExcitationMode,
    Kwargs,
    constant,
    is_evidence,
    read_as_state,
    rule,
)
from captum_ext.excitation.operand import Facts, facts_of, set_facts
from captum_ext.excitation.rules.entries import note_shift, same_entries, shift_of
from captum_ext.excitation.rules.means import note_step
from captum_ext.excitation.rules.sums import scale
from captum_ext.excitation.writes import write_back

__all__ = ["gated"]


def gated(value: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """A value times (or divided by) something that only modulates it: all mass goes to the value."""
    read_as_state(value)
    output: Tensor = PassThrough.apply(compute, None, None, value)
    return set_facts(output, Facts(gate=facts_of(value).gate))


def _product(plain: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A * b; ``plain`` is the out-of-place twin of the in-place product."""

    def rule_of_product(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        if len(args) != 2 or kwargs:
            return mode.run_without_rule(func, args, kwargs, "only a * b has a rule")
        result = _multiply(mode, *args, plain or func)
        return result if plain is None else write_back(mode, args[0], result)

    return rule_of_product


def _multiply(mode: ExcitationMode, first: Any, second: Any, multiply: Callable[..., Any]) -> Tensor:
    if not is_evidence(second):
        return _scaled(mode, first, constant(second), lambda a: multiply(a, constant(second)))
    if not is_evidence(first):
        return _scaled(mode, second, constant(first), lambda b: multiply(constant(first), b))
    gates = facts_of(first).gate, facts_of(second).gate
    if gates == (True, False):
        output = _modulated(mode, second, first, lambda b: multiply(first.detach(), b))
        return note_step(mode, output, second, first)
    if gates == (False, True):
        output = _modulated(mode, first, second, lambda a: multiply(a, second.detach()))
        return note_step(mode, output, first, second)
    read_as_state(first, second)
    output = EqualShares.apply(multiply, first, second)
    return set_facts(output, Facts(gate=all(gates)))


def _modulated(
    mode: ExcitationMode, value: Tensor, gate: Tensor, compute: Callable[[Tensor], Tensor]
) -> Tensor:
    """A value times a gate; a weighted layer and the gate on it are one linear map, as r (U h) of a GRU."""
    behind = facts_of(value).map
    if behind is None or not behind.is_of_layers or _is_activation(value, gate):
        return gated(value, compute)
    return scale(mode, value, gate.detach(), compute)


def _is_activation(value: Tensor, gate: Tensor) -> bool:
    """Whether the gate is a function of the value entry by entry: x * sigmoid(x) is SiLU."""
    return same_entries(value, gate, entrywise=True)


def _scaled(mode: ExcitationMode, tensor: Tensor, factor: Any, compute: Callable[[Tensor], Tensor]) -> Tensor:
    is_gate = facts_of(tensor).gate
    if isinstance(factor, Tensor) and factor.dtype == torch.bool:
        return gated(tensor, compute)  # a mask, as in a hand-written ReLU
    output = scale(mode, tensor, factor, compute)
    if isinstance(factor, int | float):
        note_shift(output, shift_of(tensor) * factor)
    if is_gate and isinstance(factor, Tensor) and factor.dim() > 0:
        # A constant state under a gate, such as the initial state of a recurrent cell.
        set_facts(output, Facts(gate=True, bias=True))
    return output


rule(torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply, Tensor.multiply)(_product())
rule(Tensor.mul_, Tensor.__imul__)(_product(plain=torch.mul))


def _quotient(plain: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A / b; a divisor that depends on the input is a normaliser and receives nothing."""

    def rule_of_quotient(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        if len(args) != 2 or kwargs or not is_evidence(args[0]):
            return mode.run_without_rule(func, args, kwargs, "only a / b with evidence in a has a rule")
        first, second = args
        divide = plain or func
        if is_evidence(second):
            result = gated(first, lambda a: divide(a, second.detach()))
        else:
            divisor = constant(second)
            result = scale(mode, first, 1 / divisor, lambda a: divide(a, divisor))
            if isinstance(divisor, int | float):
                note_shift(result, shift_of(first) / divisor)
        return result if plain is None else write_back(mode, args[0], result)

    return rule_of_quotient


rule(torch.div, Tensor.div, Tensor.__truediv__, torch.true_divide)(_quotient())
rule(Tensor.div_, Tensor.__itruediv__)(_quotient(plain=torch.div))


@rule(torch.neg, Tensor.neg, Tensor.__neg__)
def negation(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """-a."""
    (tensor,) = args
    return scale(mode, tensor, -1.0, func)


@rule(torch.lerp, Tensor.lerp)
def mean_of_two(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A + w (b - a), the mean of two values with weights 1 - w and w, as in a GRU."""
    if len(args) != 3 or kwargs:
        return mode.run_without_rule(func, args, kwargs, "only lerp(a, b, w) has a rule")
    first, second, weight = args
    with mode:
        return first * (1 - weight) + second * weight


@rule(Tensor.lerp_)
def mean_of_two_in_place(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """The mean of two values, written over the first."""
    if len(args) != 3 or kwargs:
        return mode.run_without_rule(func, args, kwargs, "only a.lerp_(b, w) has a rule")
    return write_back(mode, args[0], mean_of_two(mode, torch.lerp, args, kwargs))


@rule(torch.addcmul, Tensor.addcmul)
def sum_with_product(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A + value * b c, as in an LSTM's cell state."""
    if len(args) != 3 or kwargs.keys() - {"value"}:
        return mode.run_without_rule(func, args, kwargs, "only addcmul(a, b, c) has a rule")
    summand, first, second = args
    with mode:
        return torch.add(summand, first * second, alpha=kwargs.get("value", 1))
