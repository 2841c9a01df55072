"""In-place operations: what a tensor holds after a part of it was overwritten."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_ext.excitation.maps import RearrangedMap
from captum_ext.excitation.mode import ExcitationMode, is_evidence
from captum_ext.excitation.operand import Facts, facts_of, set_facts

__all__ = ["write_back", "write_into"]


def write_back(mode: ExcitationMode, target: Tensor, result: Tensor) -> Tensor:
    """Finish an in-place operation; right also where ``target`` is a view."""
    base = target._base
    if base is None:
        target.copy_(result)
    else:
        whole, part = (base.shape, base.stride()), (target.shape, target.stride())
        offset = target.storage_offset() - base.storage_offset()

        def replaced(before: Tensor, new: Tensor) -> Tensor:
            after = torch.empty_strided(*whole, dtype=new.dtype, device=new.device).copy_(before)
            after.as_strided(*part, offset).copy_(new)
            return after

        write_into(mode, base, result, replaced, lambda: target.copy_(result))
    return set_facts(target, facts_of(result))


def write_into(
    mode: ExcitationMode,
    target: Tensor,
    value: Tensor,
    replaced: Callable[[Tensor, Tensor], Tensor],
    write: Callable[[], object],
) -> None:
    """Overwrite a part of ``target`` by calling ``write``, and note what ``target`` holds then.

    Args:
        mode (ExcitationMode): the active mode.
        target (Tensor): the whole tensor.
        value (Tensor): what a part of it becomes.
        replaced (Callable): ``replaced(target, value)``, the same without writing.
        write (Callable): the write itself.
    """
    operands = [tensor for tensor in (target, value) if is_evidence(tensor)]
    old = facts_of(target)
    if is_evidence(target) and old.map is None:
        # Its values are gone once they are overwritten.
        operands[0] = set_facts(target.clone(), old)
    zeros = [torch.zeros_like(tensor.detach()) for tensor in (target, value)]
    first_is_target = is_evidence(target)

    def rearrange(*parts: Tensor) -> Tensor:
        if len(parts) == 2:
            return replaced(*parts)
        before, new = (parts[0], zeros[1]) if first_is_target else (zeros[0], parts[0])
        return replaced(before.to(parts[0].dtype), new.to(parts[0].dtype))

    facts = [facts_of(operand) for operand in operands]
    with_constants = len(operands) == 1
    behind: RearrangedMap | None = None
    if with_constants or any(f.map is not None for f in facts):
        behind = RearrangedMap([mode.operand(operand) for operand in operands], rearrange)
        mode.maps.append(behind)
    write()
    known = Facts(map=behind, non_negative=not with_constants and all(f.non_negative for f in facts))
    set_facts(target, known)
