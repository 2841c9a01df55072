"""Packing sequences of several lengths, and back: entries move, the filling is a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_ext.excitation.mode import Args, ExcitationMode, Kwargs, constant, rule
from captum_ext.excitation.operand import Facts, facts_of

__all__: list[str] = []


@rule(torch._pack_padded_sequence)
def pack(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """The filling is left away, so that it gets exactly nothing."""
    padded, *rest = args
    data, batch_sizes = func(padded, *rest, **kwargs)
    facts = Facts(non_negative=facts_of(padded).non_negative, gate=facts_of(padded).gate)
    return mode.rearrange(data, [padded], lambda t: func(t, *rest, **kwargs)[0], facts), batch_sizes


@rule(torch._pad_packed_sequence)
def unpack(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """The filling is a constant."""
    data, batch_sizes, batch_first, value, total_length = args
    padded, lengths = func(*args, **kwargs)

    def rearrange(part: Tensor) -> Tensor:
        output: Tensor = func(part, batch_sizes, batch_first, 0.0, total_length, **kwargs)[0]
        return output

    facts = Facts(non_negative=facts_of(data).non_negative and value >= 0, gate=facts_of(data).gate)
    return mode.rearrange(padded, [data], rearrange, facts, with_constants=value != 0), lengths


@rule(torch._C._nn.pad_sequence)
def pad(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Sequences of several lengths side by side, as ``pack_sequence`` puts them."""
    sequences, *rest = args
    names = ("batch_first", "padding_value", "padding_side")
    given = {**dict(zip(names, rest, strict=False)), **kwargs}
    value, is_right = given.get("padding_value", 0.0), given.get("padding_side", "right") == "right"
    length = max(map(len, sequences))
    with mode:
        filled = [_fill(sequence, length - len(sequence), value, is_right) for sequence in sequences]
        return torch.stack(filled, dim=0 if given.get("batch_first") else 1)


def _fill(sequence: Tensor, missing: int, value: float, is_right: bool) -> Tensor:
    margins = (0, missing) if is_right else (missing, 0)
    axes = [0, 0] * (sequence.dim() - 1)
    return torch.nn.functional.pad(constant(sequence), (*axes, *margins), value=value)
