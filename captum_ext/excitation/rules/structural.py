"""Operations that move entries without mixing them: the gradient already routes mass without loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import resolve_name

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
from captum_ext.excitation.writes import note_view, refuse_write, write_back, write_into

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
        note_view(mode, result)
        if result.dtype != tensor.dtype:  # a cast; supports keep their own precision
            return mode.rearrange(result, [tensor], lambda t: t, facts)
        return mode.rearrange(result, [tensor], lambda t: func(t, *rest, **kwargs), facts)
    for index, output in enumerate(result):
        note_view(mode, output)
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
            gate=all(f.gate for f in facts),
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
    known = [facts_of(tensor) for tensor in evidence]
    facts = Facts(non_negative=all(f.non_negative for f in known), gate=all(f.gate for f in known))
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
        Facts(gate=facts_of(tensor).gate),
        with_constants=True,
    )


@rule(Tensor.copy_)
def copy(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """A tensor overwritten by another, or a part of one if it is a view."""
    target, value = args[:2]
    if not is_evidence(value):
        return _overwrite(mode, func, target, ..., value)
    with mode:
        value = value.to(device=target.device, dtype=target.dtype).expand_as(target)
    return write_back(mode, target, value)


@rule(*_both("where", "masked_select", "masked_scatter", "index_put", "index_copy", "scatter"))
def overwriting(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Entries replaced by others: mass follows the entry, and what falls on a constant is lost."""
    if _accumulates(func, args, kwargs):
        return mode.run_without_rule(func, args, kwargs, _ACCUMULATES)
    evidence = [value for value in (*args, *kwargs.values()) if is_evidence(value)]
    if func in _INDEX_PUT and is_evidence(args[2]) and _repeats(args[0], _as_index(args[1])):
        return mode.run_without_rule(func, args, kwargs, _REPEATS)
    read_as_state(*evidence)
    result = func(*constant(args), **{name: constant(value) for name, value in kwargs.items()})
    return set_facts(result, Facts(gate=all(facts_of(value).gate for value in evidence)))


@rule(Tensor.zero_, torch.zero_)
def emptying(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """All entries replaced by zeros."""
    return _overwrite(mode, func, args[0], ..., 0.0)


@rule(Tensor.fill_, torch.fill_)
def filling(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """All entries replaced by one value."""
    return _overwrite(mode, func, args[0], ..., kwargs.get("value", args[-1]))


@rule(Tensor.masked_fill_)
def masked_filling(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Some entries replaced by one value."""
    given = {**dict(zip(("self", "mask", "value"), args, strict=False)), **kwargs}
    target = given["self"]
    return _overwrite(mode, func, target, given["mask"].expand_as(target), given["value"])


@rule(*_both("index_put_"))
def index_filling(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """x[indices] = values, unless the values are added."""
    names = ("self", "indices", "values", "accumulate")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if _accumulates(func, args, kwargs):
        return summing(mode, func, args, kwargs)
    return _overwrite(mode, func, given["self"], _as_index(given["indices"]), given["values"])


@rule(*_both("index_add_", "scatter_add_", "scatter_reduce_"))
def summing(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Sums by index, written over a tensor, have no rule."""
    return mode.run_without_rule(func, args, kwargs, _ACCUMULATES)


@rule(Tensor.__setitem__)
def assignment(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """x[index] = value: what was there before is forgotten, the rest stays."""
    _overwrite(mode, func, *args)


def _overwrite(
    mode: ExcitationMode, func: Callable[..., Any], target: Tensor, index: Any, value: Any
) -> Tensor:
    """Write ``value`` to some entries of ``target``, as ``func`` does."""
    if not isinstance(value, Tensor):
        value = torch.as_tensor(value, dtype=target.dtype, device=target.device)
    value = constant(value)

    def replaced(before: Tensor, new: Tensor) -> Tensor:
        after = before.clone()
        after[index] = new.expand(after[index].shape)
        return after

    def write() -> None:
        if index is ...:
            target.copy_(value)  # an assignment would fill, which is a node of its own
        else:
            target[index] = value

    if is_evidence(value) and _repeats(target, index):
        write()
        refuse_write(target, f"{resolve_name(func)} in {mode.module_path()}: {_REPEATS}")
    else:
        write_into(mode, target, value, replaced, write)
    return target


_INDEX_PUT = _both("index_put")
_ACCUMULATES = "it combines values with what is there; write a sum"
_REPEATS = "it writes to an entry twice, and which value stays is not defined"


def _accumulates(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> bool:
    if func.__name__ == "scatter":
        return kwargs.get("reduce", args[4] if len(args) > 4 else None) is not None
    if func.__name__.startswith("index_put"):
        return bool(kwargs.get("accumulate", len(args) > 3 and args[3]))
    return False


def _as_index(indices: Any) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in indices)


def _repeats(target: Tensor, index: Any) -> bool:
    """Whether an index names an entry twice, which slices and masks cannot."""
    parts = index if isinstance(index, tuple) else (index,)
    if not any(isinstance(part, list) or _is_integer_tensor(part) for part in parts):
        return False
    places = torch.arange(target.numel(), device=target.device).view(target.shape)[index].flatten()
    return bool((places.sort().values.diff() == 0).any())


def _is_integer_tensor(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dim() > 0 and part.dtype != torch.bool
