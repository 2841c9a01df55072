"""A model as a function from inputs to scores, and what goes on at its layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from lightning_callbacks._lightning import MisconfigurationException

__all__ = ["Scores", "goes_into_relus", "outputs_of", "scores_with"]

# What autograd calls operations that commute with a ReLU: new shapes, parts, copies, maxima.
_SHAPES = ("View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "Squeeze", "Unsqueeze", "Expand")
_PARTS = ("Split", "Slice", "Select", "Index", "Cat", "ConstantPad")
_COMMUTING = (*_SHAPES, *_PARTS, "Clone", "ToCopy", "MaxPool", "AdaptiveMaxPool")


class Scores(nn.Module):
    """A model, and how its scores are found in what it returns.

    Args:
        model (nn.Module): takes the inputs.
        output_fn (callable, optional): finds the scores. Default: the model returns them.
    """

    def __init__(self, model: nn.Module, output_fn: Callable[[Any], Tensor] | None) -> None:
        super().__init__()
        self.training = model.training
        self.model = model
        self.output_fn = output_fn

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, K)."""
        try:
            output = self.model(x)
        except NotImplementedError as error:
            raise MisconfigurationException(
                f"{type(self.model).__name__} cannot be called ({error}); name the part that returns the "
                "scores with model="
            ) from error
        scores = output if self.output_fn is None else self.output_fn(output)
        if not isinstance(scores, Tensor) or scores.dim() != 2:
            what = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(
                f"the model must return scores (N, K), got {what}; pass output_fn to say where they are"
            )
        return scores


@torch.no_grad()
def outputs_of(
    network: nn.Module, x: Tensor, modules: Mapping[str, nn.Module]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores, and a copy of the output of each module, which must run once."""
    found: dict[str, list[Tensor]] = {name: [] for name in modules}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            if not isinstance(output, Tensor):
                raise TypeError(f"layer {name!r} returns a {type(output).__name__}, not a tensor")
            found[name].append(output.detach().clone())

        return hook

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(keep(name)).remove)
        scores = network(x.clone())
    for name, calls in found.items():
        if len(calls) != 1:
            raise ValueError(
                f"layer {name!r} runs {len(calls)} times in a forward pass; choose a layer that runs once"
            )
    return scores, {name: calls[0] for name, calls in found.items()}


@torch.no_grad()
def scores_with(network: nn.Module, x: Tensor, module: nn.Module, output: Tensor) -> Tensor:
    """Scores of the network with another output of ``module``."""

    def hook(module: nn.Module, args: object, own: Tensor) -> Tensor:
        return output.to(own.dtype)

    handle = module.register_forward_hook(hook)
    try:
        scores: Tensor = network(x.clone())
        return scores
    finally:
        handle.remove()


def goes_into_relus(network: nn.Module, x: Tensor, module: nn.Module) -> bool:
    """Whether nothing but ReLUs reads the output of ``module``, so that its negative values are 0 to all.

    That the scores stay the same without the negative values does not say so: a shift between the two, as of
    a batch norm, may cut off positive values as well.
    """
    outputs: list[Tensor] = []

    def hook(module: nn.Module, args: object, own: Tensor) -> Tensor:
        outputs.append(own.detach().requires_grad_())
        return outputs[0].clone()  # which may be changed in place

    handle = module.register_forward_hook(hook)
    try:
        with torch.enable_grad():
            scores: Tensor = network(x.clone())
    finally:
        handle.remove()
    assert scores.grad_fn is not None  # noqa: S101 (Excitation Backprop has run)
    readers: dict[Node, list[Node]] = defaultdict(list)
    todo, seen = [scores.grad_fn], {scores.grad_fn}
    while todo:
        node = todo.pop()
        for source in (source for source, _ in node.next_functions if source is not None):
            readers[source].append(node)
            if source not in seen:
                seen.add(source)
                todo.append(source)
    starts = [node for node in seen if getattr(node, "variable", None) is outputs[0]]
    todo = list(starts)
    while todo:
        for reader in readers[todo.pop()]:
            if reader.name().startswith(_COMMUTING):
                todo.append(reader)
            elif not _is_relu(reader):
                return False
    return bool(starts)


def _is_relu(node: Node) -> bool:
    """Whether an operation is a ReLU, as it is or cut off above."""
    if node.name().startswith(("Hardtanh", "Clamp")):
        return getattr(node, "_saved_min_val", getattr(node, "_saved_min", None)) == 0
    return node.name().startswith("Relu")
