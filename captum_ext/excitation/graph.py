"""Questions about the autograd graph of a forward pass that ran under the mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from captum_ext.excitation.errors import UnsupportedOperationError
from captum_ext.excitation.functions import FUNCTIONS, PassThrough, Propagate, RecurrentFunction
from captum_ext.excitation.maps import LinearMap, ScaledMap, WeightedMap
from captum_ext.excitation.mode import RecurrentCall
from captum_ext.excitation.operand import facts_by_output

__all__ = ["boundary_calls", "check_covered", "check_parallel", "classifier_calls"]

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


def check_parallel(calls: Sequence[Tensor]) -> None:
    """Raise if the mass at one call of a layer is handed down to another, so that it would count twice."""
    nodes = {call.grad_fn for call in calls if call.grad_fn is not None}
    if len(nodes) < 2:
        return
    for start in nodes:
        for node, _ in _walk([start], set()):
            if node in nodes and node is not start:
                raise ValueError(
                    "the layer runs several times in a row, each time on what came out of it before, so its "
                    "mass would count several times; choose a layer that runs once, such as the block "
                    "around it"
                )


def classifier_calls(output: Tensor) -> list[WeightedMap]:
    """The last weighted layer on every path to ``output``, one entry for each time it was called.

    They and the maps above them, as far as nothing non-linear is in between, are the output units: their
    state counts as positive.
    """
    nodes = [] if output.grad_fn is None else [output.grad_fn]
    # An activation of the output itself is skipped.
    top = [n for n, _ in _walk(nodes, set(), below=_is_above_maps) if _is_ours(n, Propagate)]
    for node, _ in _walk(top, set(), below=_is_linear_above_layer):
        linear_map = getattr(node, "linear_map", None)
        if isinstance(linear_map, LinearMap):
            linear_map.is_output = True
    below = _walk(
        nodes, set(), below=lambda node: _layer(node) is None and not _is_ours(node, RecurrentFunction)
    )
    return [layer for node, _ in below if (layer := _layer(node)) is not None]


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


def _layer(node: Node) -> WeightedMap | None:
    linear_map = getattr(node, "linear_map", None)
    return (
        linear_map if isinstance(linear_map, WeightedMap) and not isinstance(linear_map, ScaledMap) else None
    )


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
