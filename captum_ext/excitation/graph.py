"""Questions about the autograd graph of a forward pass that ran under the mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from captum_ext.excitation.errors import UnsupportedOperationError
from captum_ext.excitation.functions import FUNCTIONS, PassThrough, Propagate, RecurrentFunction
from captum_ext.excitation.maps import EvidenceMap, LinearMap, RearrangedMap, ScaledMap, WeightedMap
from captum_ext.excitation.mode import RecurrentCall
from captum_ext.excitation.operand import facts_by_output, facts_of

__all__ = ["OutputUnits", "boundary_calls", "check_covered", "check_parallel", "output_units"]

# Nodes made by torch itself whose gradient moves mass without changing it.
_MOVES_MASS = (
    "torch::autograd::AccumulateGrad",
    "AdaptiveMaxPool",
    "Alias",
    "Amax",
    "Amin",
    "AsStrided",
    "Broadcast",
    "Cat",
    "ChannelShuffle",
    "Clone",
    "ConstantPad",
    "Copy",
    "Diagonal",
    "Expand",
    "Flip",
    "Gather",
    "Im2Col",
    "Index",
    "MaskedFill",
    "MaskedScatter",
    "MaskedSelect",
    "MaxPool",
    "Max",
    "Maximum",
    "Min",
    "Minimum",
    "Narrow",
    "PackPaddedSequence",
    "Permute",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad",
    "Relu",
    "Repeat",
    "ReplicationPad",
    "Reshape",
    "Roll",
    "Rot90",
    "Scatter",
    "Select",
    "Slice",
    "Sort",
    "Split",
    "Squeeze",
    "Stack",
    "TBackward",
    "ToCopy",
    "Topk",
    "Transpose",
    "Unbind",
    "Unfold",
    "UnsafeSplit",
    "UnsafeView",
    "Unsqueeze",
    "Value",
    "View",
    "Where",
    "torch::autograd::CopyBackwards",
    "torch::autograd::CopySlices",
)
_SELECTS = ("AdaptiveMaxPool", "Amax", "Amin", "Max", "Maximum", "Min", "Minimum", "Relu", "Sort", "Topk")


def check_covered(outputs: Sequence[Tensor], stop: Sequence[Tensor]) -> None:
    """Raise unless every operation between ``outputs`` and ``stop`` carries a rule or only moves mass.

    Operations that the mode never saw (scripted modules, other threads, custom autograd functions) leave
    nodes of their own in the graph, and so cannot pass for the gradient unnoticed.
    """
    last = {tensor.grad_fn for tensor in stop}
    for node, arrivals in _walk([t.grad_fn for t in outputs if t.grad_fn is not None], last):
        arrived = [facts for number, facts in facts_by_output(node).items() if number in arrivals]
        for facts in arrived:
            if facts.unsupported is not None:
                raise UnsupportedOperationError(
                    f"no Excitation Backprop rule for {facts.unsupported}. Choose a layer above it, or "
                    "replace the operation by one that has a rule."
                )
        name = node.name()
        if any(facts.foreign for facts in arrived) or not (_is_ours(node) or _moves_mass(node)):
            raise UnsupportedOperationError(
                f"the operation behind '{name}' did not run as ordinary Python code of torch (a scripted "
                "module, another thread, a custom autograd function, a backward hook on a module), so it "
                "carries no Excitation Backprop rule. Explain the plain module instead."
            )


def check_parallel(calls: Sequence[Tensor], what: str) -> None:
    """Raise if the mass at one of the tensors is handed down to another, so that it would count twice."""
    nodes = {call.grad_fn for call in calls if call.grad_fn is not None}
    below = [child for node in nodes for child, _ in node.next_functions if child is not None]
    if any(node in nodes for node, _ in _walk(below, set())):
        raise ValueError(
            f"{what} runs several times in a row, each time on what came out of it before, so its mass would "
            "count several times; choose a layer that runs once, such as the block around it"
        )


@dataclass(frozen=True)
class OutputUnits:
    """What lies right under the explained entries of the output.

    Args:
        classifier (list[WeightedMap]): the last weighted layer on every path, one entry per call.
        hidden (list[LinearMap]): maps whose state counts as positive, since nothing but an activation or a
            maximum, which is skipped, separates them from the output.
    """

    classifier: list[WeightedMap]
    hidden: list[LinearMap]


def output_units(output: Tensor) -> OutputUnits:
    """The classifier and other maps at the top."""
    nodes = [] if output.grad_fn is None else [output.grad_fn]
    top, is_all = _top_maps(output)
    layers = _layers_of(top) if is_all else None
    if layers is None:
        below = _walk(
            nodes, set(), below=lambda node: _layer(node) is None and not _is_ours(node, RecurrentFunction)
        )
        layers = [layer for node, _ in below if (layer := _layer(node)) is not None]
    if is_all:
        return OutputUnits(layers, [])
    separated = [
        node
        for node, _ in _walk(nodes, set(), below=_is_above_maps)
        if _is_ours(node, Propagate) and _map(node) not in top
    ]
    hidden = [_map(node) for node, _ in _walk(separated, set(), below=_is_linear_above_layer)]
    return OutputUnits(layers, [behind for behind in hidden if behind is not None])


def _top_maps(output: Tensor) -> tuple[list[LinearMap], bool]:
    """The linear maps that entries of ``output`` come from, and whether those are all of its entries."""
    found: list[LinearMap] = []
    behind, is_all = facts_of(output).map, True
    pending = [(behind, torch.ones_like(output.detach()))]
    while pending:
        behind, entries = pending.pop()
        if isinstance(behind, RearrangedMap):
            # If there is nothing else, the entries are of it; to look would make the host wait for a GPU.
            is_only = len(behind.operands) == 1 and not behind.with_constants
            parts = zip(behind.operands, behind.transposed(entries), strict=True)
            pending += [(operand.map, part) for operand, part in parts if is_only or bool(part.any())]
        elif isinstance(behind, LinearMap):
            found.append(behind)
        else:
            is_all = False
    return found, is_all


def _layers_of(top: Sequence[LinearMap]) -> list[WeightedMap] | None:
    """The layers under sums, means and scalings; None if something else is under one of them."""
    layers: dict[WeightedMap, None] = {}
    pending: list[EvidenceMap | None] = list(top)
    while pending:
        behind = pending.pop()
        if behind is None:
            return None
        if isinstance(behind, WeightedMap) and not isinstance(behind, ScaledMap):
            layers[behind] = None
        else:
            pending += [operand.map for operand in behind.operands]
    return list(layers)


def boundary_calls(calls: Sequence[RecurrentCall]) -> list[RecurrentCall]:
    """The calls whose input does not come out of another recurrent call: the lowest recurrent layer.

    A call whose input is constant, as the words are that a captioner is given, is none of them.
    """
    lowest = []
    clear: set[Node] = set()
    for call in calls:
        if not call.input.requires_grad:
            continue
        nodes = [] if call.input.grad_fn is None else [call.input.grad_fn]
        seen = set()
        for node, _ in _walk(nodes, clear):
            if _is_ours(node, RecurrentFunction):
                break
            seen.add(node)
        else:
            clear |= seen
            lowest.append(call)
    return lowest


def _is_ours(node: Node, *functions: type[Function]) -> bool:
    """Whether the node was made by one of the engine's functions (any of them by default)."""
    return type(node) in {function._backward_cls for function in functions or FUNCTIONS}


def _moves_mass(node: Node) -> bool:
    """Whether the node is one of torch's own, not of a Python function, that hands mass on as it is."""
    return not isinstance(node, BackwardCFunction) and node.name().startswith(_MOVES_MASS)


def _is_above_maps(node: Node) -> bool:
    return _is_ours(node, PassThrough) or _moves_mass(node)


def _is_linear_above_layer(node: Node) -> bool:
    if _is_ours(node, Propagate):
        return _layer(node) is None
    return _moves_mass(node) and not node.name().startswith(_SELECTS)


def _map(node: Node) -> LinearMap | None:
    behind = getattr(node, "linear_map", None)
    return behind if isinstance(behind, LinearMap) else None


def _layer(node: Node) -> WeightedMap | None:
    behind = _map(node)
    return behind if isinstance(behind, WeightedMap) and not isinstance(behind, ScaledMap) else None


def _walk(
    start: Sequence[Node], stop: set[Any], below: Any = lambda node: True
) -> Iterator[tuple[Node, set[int]]]:
    """Nodes from ``start`` downwards, without ``stop``, each with the output numbers it is reached at."""
    stack: list[Node] = [node for node in start if node not in stop]
    seen: dict[Node, set[int]] = {node: {0} for node in stack}
    while stack:
        node = stack.pop()
        yield node, seen[node]
        if not below(node):
            continue
        for child, output_nr in node.next_functions:
            if child is None or child in stop:
                continue
            if child not in seen:
                seen[child] = set()
                stack.append(child)
            seen[child].add(output_nr)
