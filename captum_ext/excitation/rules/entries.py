"""Which entry of one tensor an entry of another was computed from, read off the autograd graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from captum_ext.excitation.operand import metadata

__all__ = ["copies", "note_entrywise", "note_shift", "same_entries", "shift_of"]

Edge = tuple[Node, int]

_ENTRYWISE = "captum_ext.excitation.entrywise"
_SHIFT = "captum_ext.excitation.shift"
# Rearrangements that leave the entries in their order, and others. What autograd saves of them names them.
_IN_ORDER = (
    *("Alias", "Clone", "CopyBackward", "torch::autograd::CopyBackward", "Reshape", "Squeeze"),
    *("ToCopy", "UnsafeView", "Unsqueeze", "View"),
)
_COPIES = ("Alias", "Clone", "CopyBackward", "torch::autograd::CopyBackward", "ToCopy")
_ELSEWHERE = ("Permute", "Select", "Slice", "Split", "TBackward", "Transpose", "Unbind")


def note_entrywise(output: Tensor) -> Tensor:
    """Note that each entry of ``output`` is a function of the entry below it alone."""
    _metadata(output)[_ENTRYWISE] = True
    return output


def note_shift(output: Tensor, shift: float) -> Tensor:
    """Note that ``output`` is a multiple of something plus ``shift``."""
    _metadata(output)[_SHIFT] = shift
    return output


def shift_of(tensor: Tensor) -> float:
    """The constant that was added to ``tensor``, so far as it was a number."""
    return float(_metadata(tensor).get(_SHIFT, 0.0))


def same_entries(first: Tensor, second: Tensor, entrywise: bool = False) -> bool:
    """Whether the entries of both are the same entries of one tensor, in the same order.

    Args:
        first (Tensor): a tensor with a gradient.
        second (Tensor): another.
        entrywise (bool): also if either is a function of that tensor entry by entry.
    """
    shape = torch.broadcast_shapes(first.shape, second.shape)  # type: ignore[no-untyped-call]
    is_one_to_one = first.numel() == second.numel() == shape.numel()
    sources = dict(_sources(first, entrywise))
    for source, moves in _sources(second, entrywise):
        if source in sources:
            both = moves, sources[source]
            in_order = all(name.startswith(_IN_ORDER) for one in both for name, *_ in one)
            return is_one_to_one and (in_order or both[0] == both[1])
    return False


def copies(tensor: Tensor) -> list[Node]:
    """The node of ``tensor`` and of everything that it is a copy of, from the top."""
    nodes = [] if tensor.grad_fn is None else [tensor.grad_fn]
    while nodes and nodes[-1].name().startswith(_COPIES):
        below = nodes[-1].next_functions[-1][0]
        if below is None:
            break
        nodes.append(below)
    return nodes


def _sources(tensor: Tensor, entrywise: bool) -> list[tuple[Edge, tuple[Any, ...]]]:
    """Where the entries come from, step by step downwards, each with the rearrangements since."""
    edge = get_gradient_edge(tensor)
    source: Edge = edge.node, edge.output_nr
    sources: list[tuple[Edge, tuple[Any, ...]]] = [(source, ())]
    moves: tuple[Any, ...] = ()
    while True:
        node, output_nr = source
        name = node.name()
        if name.startswith((*_IN_ORDER, *_ELSEWHERE)):
            moves = (*moves, (name, output_nr, *_saved(node)))
        elif not (entrywise and metadata(node).get(_ENTRYWISE)):
            return sources
        below, output_nr = node.next_functions[-1]  # of a copy, the second is what was copied
        if below is None:
            return sources
        source = below, output_nr
        sources.append((source, moves))


def _saved(node: Node) -> tuple[Any, ...]:
    return tuple((name, getattr(node, name)) for name in dir(node) if name.startswith("_saved_"))


def _metadata(tensor: Tensor) -> dict[Any, Any]:
    return {} if tensor.grad_fn is None else metadata(tensor.grad_fn)  # a leaf has nothing to be noted
