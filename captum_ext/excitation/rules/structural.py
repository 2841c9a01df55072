"""Operations that move entries without mixing them: the gradient already routes mass without loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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
from captum_ext.excitation.writes import write_back, write_into

__all__: list[str] = []


def _both(*names: str) -> list[Callable[..., Any]]:
    """The function and the method of each name, as far as torch has them."""
    owners = (torch, Tensor)
    return [getattr(owner, name) for name in names for owner in owners if hasattr(owner, name)]


@rule(
    *_both(
        "view", "reshape", "flatten", "unflatten", "ravel", "permute", "transpose", "t", "swapaxes",
        "swapdims", "movedim", "moveaxis", "contiguous", "clone", "squeeze", "unsqueeze", "expand",
        "expand_as", "view_as", "reshape_as", "broadcast_to", "chunk", "split", "split_with_sizes",
        "tensor_split", "unbind", "__getitem__", "narrow", "select", "index_select", "gather",
        "take_along_dim", "roll", "flip", "fliplr", "flipud", "rot90", "repeat",
        "repeat_interleave", "tile", "diagonal", "unfold", "to", "float", "double", "half",
        "bfloat16", "type", "type_as", "cpu", "cuda", "pixel_shuffle", "pixel_unshuffle",
        "channel_shuffle",
    ),
    F.unfold,
    *(getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH")),
)  # fmt: skip
def rearrangement(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Views, slices, permutations, copies and casts of one tensor."""
    tensor, rest = args[0], args[1:]
    result = func(*args, **kwargs)
    facts = facts_of(tensor)
    facts = Facts(non_negative=facts.non_negative, gate=facts.gate)
    if isinstance(result, Tensor):
        if result is tensor:
            return result
        if result.dtype != tensor.dtype:  # a cast; supports keep their own precision
            return mode.rearrange(result, [tensor], lambda t: t, facts)
        return mode.rearrange(result, [tensor], lambda t: func(t, *rest, **kwargs), facts)
    for index, output in enumerate(result):
        mode.rearrange(output, [tensor], lambda t, i=index: func(t, *rest, **kwargs)[i], facts)
    return result


@rule(*_both("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack"))
def joining(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Concatenations of several tensors."""
    tensors, rest = constant(args[0]), args[1:]
    result: Tensor = func(tensors, *rest, **kwargs)
    evidence = [index for index, tensor in enumerate(tensors) if is_evidence(tensor)]
    facts = [facts_of(tensors[index]) for index in evidence]
    constants = [tensor.detach() for tensor in tensors]

    def rearrange(*parts: Tensor) -> Tensor:
        joined = [torch.zeros_like(tensor, dtype=parts[0].dtype) for tensor in constants]
        for index, part in zip(evidence, parts, strict=True):
            joined[index] = part
        output: Tensor = func(joined, *rest, **kwargs)
        return output

    everything = len(evidence) == len(tensors)
    return mode.rearrange(
        result,
        [tensors[index] for index in evidence],
        rearrange,
        Facts(
            non_negative=everything and all(f.non_negative for f in facts),
            gate=everything and all(f.gate for f in facts),
        ),
        with_constants=not everything,
    )


@rule(F.pad)
def pad(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Padding with a constant, or with copies of the border."""
    tensor = args[0] if args else kwargs["input"]
    rest = {name: value for name, value in kwargs.items() if name != "input"}
    value = kwargs.get("value", args[3] if len(args) > 3 else None) or 0
    facts = facts_of(tensor)

    def rearrange(part: Tensor) -> Tensor:
        # The constant border is no evidence.
        output: Tensor = func(part, *args[1:3], **{**rest, "value": None} if "value" in rest else rest)
        return output

    return mode.rearrange(
        func(*args, **kwargs),
        [tensor],
        rearrange,
        Facts(non_negative=facts.non_negative and value >= 0, gate=facts.gate),
        with_constants=value != 0,
    )


@rule(
    *(getattr(F, f"{kind}{n}d{suffix}")
      for kind in ("max_pool", "adaptive_max_pool") for n in (1, 2, 3) for suffix in ("", "_with_indices")),
    *(getattr(torch, f"max_pool{n}d") for n in (1, 2, 3)),
    *_both("amax", "maximum", "amin", "minimum"),
)  # fmt: skip
def selection(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Maxima: all mass goes to the entries that were taken."""
    evidence = [value for value in (*args, *kwargs.values()) if is_evidence(value)]
    read_as_state(*evidence)
    result = func(*args, **kwargs)
    facts = Facts(non_negative=all(facts_of(tensor).non_negative for tensor in evidence))
    output = result if isinstance(result, Tensor) else result[0]
    set_facts(output, facts)
    return result


_MAXIMA, _TOPK = _both("max", "min"), _both("topk")


@rule(*_MAXIMA, *_TOPK, *_both("sort"))
def choice(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Maxima along an axis and sorting, which say what they took: a gather of fixed entries."""
    if func in _MAXIMA and not _names_axis(args, kwargs):  # of everything, or of two tensors
        return selection(mode, func, args, kwargs)
    tensor, result = args[0], func(*args, **kwargs)
    values, indices = result
    position = 2 if func in _TOPK else 1
    axis = kwargs.get("dim", args[position] if len(args) > position else -1)
    keeps_axis = values.dim() == tensor.dim()
    fixed = indices if keeps_axis else indices.unsqueeze(axis)

    def gather(part: Tensor) -> Tensor:
        taken = part.gather(axis, fixed)
        return taken if keeps_axis else taken.squeeze(axis)

    facts = facts_of(tensor)
    mode.rearrange(values, [tensor], gather, Facts(non_negative=facts.non_negative, gate=facts.gate))
    return result


def _names_axis(args: Args, kwargs: Kwargs) -> bool:
    return "dim" in kwargs or (len(args) > 1 and isinstance(args[1], int))


@rule(torch.masked_fill, Tensor.masked_fill)
def masked_fill(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Entries replaced by a constant, which is a bias to what comes next."""
    if len(args) != 3 or is_evidence(args[2]):
        return overwriting(mode, func, args, kwargs)
    tensor, mask, value = args
    return mode.rearrange(
        func(tensor, mask, constant(value)),
        [tensor],
        lambda part: part.masked_fill(mask, 0.0),
        Facts(),
        with_constants=True,
    )


@rule(Tensor.copy_)
def copy(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A tensor overwritten by another, or a part of one if it is a view."""
    target, value = args[:2]
    if not is_evidence(value) or value.shape != target.shape or value.dtype != target.dtype:
        return overwriting(mode, func, args, kwargs)
    return write_back(mode, target, value)


@rule(
    *_both("where", "masked_fill_", "masked_select", "masked_scatter", "index_put", "index_put_"),
    *_both("index_copy", "scatter"),
)
def overwriting(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Entries replaced by others: mass follows the entry, and what falls on a constant is lost."""
    read_as_state(*(value for value in (*args, *kwargs.values()) if is_evidence(value)))
    return func(*constant(args), **{name: constant(value) for name, value in kwargs.items()})


@rule(Tensor.__setitem__)
def assignment(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """x[index] = value: what was there before is forgotten, the rest stays."""
    target, index, value = args
    if not isinstance(value, Tensor):
        value = torch.as_tensor(value, dtype=target.dtype, device=target.device)
    value = constant(value)

    def replaced(before: Tensor, new: Tensor) -> Tensor:
        after = before.clone()
        after[index] = new.expand(after[index].shape)
        return after

    write_into(mode, target, value, replaced, lambda: func(target, index, value))
