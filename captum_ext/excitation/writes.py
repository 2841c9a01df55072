"""In-place operations: what a tensor, its base and other views of it hold after a part was overwritten."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

import torch
from torch import Tensor

from captum_ext.excitation.maps import RearrangedMap
from captum_ext.excitation.mode import ExcitationMode, is_evidence
from captum_ext.excitation.operand import Facts, facts_of, set_facts

__all__ = ["note_view", "refuse_write", "write_back", "write_into"]


class _Views(dict[int, list["ref[Tensor]"]]):
    """Views by the id of their base."""


def note_view(mode: ExcitationMode, view: Tensor) -> None:
    """Remember a view: a write to its base gives it a new node, of which nothing is known."""
    base = view._base
    if base is not None:
        mode.notes(_Views).setdefault(id(base), []).append(ref(view))


def write_back(mode: ExcitationMode, target: Tensor, result: Tensor) -> Tensor:
    """Finish an in-place operation; right also where ``target`` is a view."""
    if target._base is None:
        target.copy_(result)
        set_facts(target, facts_of(result))
        _refresh_views(mode, target)
        return target
    write_into(
        mode,
        target,
        result,
        lambda before, new: torch.where(torch.ones_like(before, dtype=torch.bool), new, before),
        lambda: target.copy_(result),
    )
    return set_facts(target, facts_of(result))


def write_into(
    mode: ExcitationMode,
    target: Tensor,
    value: Tensor,
    replaced: Callable[[Tensor, Tensor], Tensor],
    write: Callable[[], object],
) -> None:
    """Overwrite a part of ``target`` by calling ``write``, and note what everything it touches holds then.

    Args:
        mode (ExcitationMode): the active mode.
        target (Tensor): a tensor or a view of one.
        value (Tensor): what a part of it becomes.
        replaced (Callable): ``replaced(target, value)``, the same without writing.
        write (Callable): the write itself.
    """
    whole = target if target._base is None else target._base
    operands = [tensor for tensor in (whole, value) if is_evidence(tensor)]
    first_is_whole = is_evidence(whole)
    old = facts_of(whole)
    if first_is_whole and old.map is None:
        # Its values are gone once they are overwritten.
        operands[0] = set_facts(whole.clone(), old)
    zeros = [torch.zeros_like(tensor.detach()) for tensor in (whole, value)]
    laid_out, take = _window(whole, target)

    def rearrange(*parts: Tensor) -> Tensor:
        if len(parts) == 2:
            before, new = parts
        else:
            before, new = (parts[0], zeros[1]) if first_is_whole else (zeros[0], parts[0])
            before, new = before.to(parts[0].dtype), new.to(parts[0].dtype)
        after = laid_out(before)
        part = take(after)
        part.copy_(replaced(part.clone(), new))
        return after

    facts = [facts_of(operand) for operand in operands]
    with_constants = len(operands) == 1
    behind: RearrangedMap | None = None
    if with_constants or any(f.map is not None for f in facts):
        behind = RearrangedMap([mode.operand(operand) for operand in operands], rearrange, with_constants)
        mode.maps.append(behind)
    write()
    known = Facts(
        map=behind,
        non_negative=not with_constants and all(f.non_negative for f in facts),
        gate=all(f.gate for f in facts),
    )
    set_facts(whole, known)
    if target is not whole:
        note_view(mode, target)
    _refresh_views(mode, whole)


def refuse_write(target: Tensor, why: str) -> None:
    """Note that an in-place operation without a rule wrote to ``target``; mass that arrives is an error."""
    for tensor in (target, target._base):
        if tensor is not None:
            set_facts(tensor, Facts(unsupported=why))


def _window(whole: Tensor, part: Tensor) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """How to copy a tensor into the layout of ``whole``, and how to find the view ``part`` in it."""
    size, stride, offset = part.shape, part.stride(), part.storage_offset() - whole.storage_offset()
    layout = whole.shape, whole.stride()

    def laid_out(tensor: Tensor) -> Tensor:
        return torch.empty_strided(*layout, dtype=tensor.dtype, device=tensor.device).copy_(tensor)

    return laid_out, lambda tensor: tensor.as_strided(size, stride, offset)


def _refresh_views(mode: ExcitationMode, base: Tensor) -> None:
    """Views hold what the base holds now."""
    views = mode.notes(_Views).get(id(base), [])
    alive = [view for item in views if (view := item()) is not None and view._base is base]
    views[:] = [ref(view) for view in alive]
    facts = facts_of(base)
    for view in alive:
        laid_out, take = _window(base, view)
        mode.rearrange(
            view,
            [base],
            lambda tensor, laid_out=laid_out, take=take: take(laid_out(tensor)),
            Facts(non_negative=facts.non_negative, gate=facts.gate),
        )
