"""Element-wise activations and dropout: mass passes to the same position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.functions import PassThrough
from captum_ext.excitation.mode import Args, ExcitationMode, Kwargs, constant, read_as_state, rule
from captum_ext.excitation.operand import Facts, facts_of, set_facts
from captum_ext.excitation.rules.entries import note_entrywise, shift_of
from captum_ext.excitation.rules.sums import scale
from captum_ext.excitation.writes import write_back

__all__: list[str] = []


@rule(F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_, F.relu_)
def relu(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """ReLU: its gradient is the rule, and only positive units pass mass to the map behind it."""
    tensor = args[0]
    facts = Facts(non_negative=True, gate=facts_of(tensor).gate)
    if tensor._is_view() and _is_in_place(func, args, kwargs):
        return write_back(mode, tensor, set_facts(torch.relu(tensor), facts))
    return set_facts(func(*args, **kwargs), facts)


@rule(
    torch.tanh,
    Tensor.tanh,
    F.tanh,
    Tensor.tanh_,
    torch.tanh_,
    F.leaky_relu,
    F.elu,
    F.celu,
    F.selu,
    F.gelu,
    F.silu,
    F.mish,
    F.hardswish,
    F.softsign,
    F.hardshrink,
    F.softshrink,
    F.prelu,
    torch.prelu,
)
def signed_activation(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Activations whose output has the sign of their input."""
    return _activation(mode, func, args, kwargs, positive=None, facts=Facts())


@rule(torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.sigmoid_, Tensor.sigmoid_, F.hardsigmoid)
def sigmoid(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Sigmoids are gates wherever they multiply a value; read as a value they are positive."""
    return _activation(mode, func, args, kwargs, positive=True, facts=Facts(non_negative=True, gate=True))


@rule(F.softmax, torch.softmax, Tensor.softmax)
def softmax(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A softmax is a gate; at the output it is skipped: mass starts at the logit."""
    facts = Facts(non_negative=True, gate=True)
    return _activation(mode, func, args, kwargs, positive=True, facts=facts, entrywise=False)


@rule(F.log_softmax, torch.log_softmax, Tensor.log_softmax)
def log_softmax(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A logit minus its normaliser, which acts as a bias; mass starts at the logit."""
    rest = {name: constant(value) for name, value in kwargs.items()}
    return scale(mode, args[0], 1.0, lambda x: func(x, *args[1:], **rest), entrywise=False)


@rule(F.softplus)
def softplus(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Always positive."""
    return _activation(mode, func, args, kwargs, positive=True, facts=Facts(non_negative=True))


@rule(F.relu6, F.hardtanh, F.hardtanh_, torch.clamp, Tensor.clamp, Tensor.clamp_, Tensor.clamp_min)
def clamp(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Clipping passes mass on also where it saturates; the gradient would drop it there.

    A clip of a z + c / 2 to 0 and c is a hard sigmoid written by hand, and so a gate.
    """
    lower, upper = _limits(func, args, kwargs)
    positive = isinstance(lower, int | float) and lower >= 0
    is_gate = lower == 0 and isinstance(upper, int | float) and upper == 2 * shift_of(args[0]) > 0
    return _activation(
        mode, func, args, kwargs, positive=positive or None, facts=Facts(non_negative=positive, gate=is_gate)
    )


def _limits(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> tuple[Any, Any]:
    if func is F.relu6:
        return 0.0, 6.0
    is_hardtanh = func in (F.hardtanh, F.hardtanh_)
    names = ("min_val", "max_val") if is_hardtanh else ("min", "max")
    given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
    lower, upper = (-1.0, 1.0) if is_hardtanh else (None, None)
    return given.get(names[0], lower), given.get(names[1], upper)


@rule(
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout, torch.dropout
)
def dropout(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """The identity in evaluation mode."""
    given = {**dict(zip(("input", "p", "training"), args, strict=False)), **kwargs}
    training = given.get("training", func is not F.alpha_dropout and func is not F.feature_alpha_dropout)
    if training and given.get("p", 0.5) > 0:
        raise ValueError(
            f"dropout is in training mode in {mode.module_path()}: the explanation would be random; "
            "call model.eval() first"
        )
    return func(*args, **kwargs)


def _activation(
    mode: ExcitationMode,
    func: Callable[..., Any],
    args: Args,
    kwargs: Kwargs,
    *,
    positive: bool | None,
    facts: Facts,
    entrywise: bool = True,
) -> Tensor:
    tensor = args[0] if args else kwargs["input"]
    rest = {name: constant(value) for name, value in kwargs.items() if name not in ("input", "inplace")}
    others = tuple(constant(value) for value in args[1:])
    in_place = _is_in_place(func, args, kwargs)
    if positive is None:
        read_as_state(tensor)

    def compute(x: Tensor) -> Tensor:
        # An in-place activation works on a copy here; its result is written back below.
        result: Tensor = func(x.clone() if in_place else x, *others, **rest)
        return result

    output: Tensor = PassThrough.apply(compute, facts_of(tensor).map, positive, tensor)
    # What is done to a gate entry by entry leaves it one.
    set_facts(output, replace(facts, gate=facts.gate or facts_of(tensor).gate))
    if entrywise:
        note_entrywise(output)
    return write_back(mode, tensor, output) if in_place else output


_IN_PLACE_POSITION = {
    F.leaky_relu: 2,
    F.elu: 2,
    F.celu: 2,
    F.selu: 1,
    F.silu: 1,
    F.mish: 1,
    F.hardswish: 1,
    F.hardsigmoid: 1,
    F.relu: 1,
    F.relu6: 1,
    F.hardtanh: 3,
}


def _is_in_place(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    position = _IN_PLACE_POSITION.get(func)
    flag = kwargs.get("inplace", position is not None and len(args) > position and args[position])
    return bool(flag) or func.__name__.endswith("_")
