"""A model as a function from inputs to scores, and what goes on at its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lightning_callbacks._lightning import MisconfigurationException

__all__ = ["Scores", "outputs_of", "scores_with"]


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
