"""All methods for one network, and what they are compared with."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.ebr.methods import Method, recurrent_methods
from benchmarks.step.methods import every_method
from benchmarks.step.networks import Network
from benchmarks.suite.batches import Batch
from benchmarks.suite.errors import RunError
from benchmarks.suite.evaluation import Explained

__all__ = ["RANDOM", "every_map", "explanation", "fast_maps", "refuse_saved_maps"]

RANDOM = "random map"


def refuse_saved_maps(arguments: argparse.Namespace) -> None:
    """Figures that come from running the model again cannot come from maps alone.

    Raises:
        RunError: if the run is to score saved maps.
    """
    if arguments.from_maps is not None:
        raise RunError(
            "--from-maps scores maps without the model, and these figures come from running the model again; "
            "leave the option out."
        )


def fast_maps(network: Network, seed: int) -> dict[str, Method]:
    """Methods of a few passes, and a random map."""
    if network.is_recurrent:
        return recurrent_methods(network.module) | {RANDOM: _random(seed)}
    raise ValueError(f"sanity checks are made of the CNN-LSTM, not of {network.name}")


def every_map(network: Network, arguments: argparse.Namespace) -> dict[str, Method]:
    """All methods for the network, masks included, and a random map."""
    found = every_method(network, arguments)
    wanted = ("EB-R", "cEB-R", "Grad-CAM", "SaliencyTubes", "RISE", "EP-3D", "STEP")
    methods = {name: found[name] for name in wanted if name in found}
    if network.is_recurrent:
        methods["BP-R"] = recurrent_methods(network.module)["BP-R"]
    return methods | {RANDOM: _random(arguments.seed)}


def explanation(method: Method, batch: Batch) -> Callable[[Tensor, Tensor | None], Tensor]:
    """A method as a function of clips and classes, for metrics that explain again."""

    def explain(clips: Tensor, target: Tensor | None) -> Tensor:
        maps = method(replace(batch, clips=clips, labels=batch.labels if target is None else target)).maps
        assert maps is not None  # noqa: S101 - every method here says where
        return maps

    return explain


def _random(seed: int) -> Method:
    """Values without any meaning, drawn for a group of clips from the seed and the group's number."""

    def explain(batch: Batch) -> Explained:
        generator = torch.Generator().manual_seed(batch.random_seed(seed))
        n_clips, _, n_frames, height, width = batch.clips.shape
        drawn = torch.rand(n_clips, n_frames, height // 4, width // 4, generator=generator)
        return Explained.of(drawn.to(batch.clips.device))

    return explain
