"""The methods of the EB-R paper, each from a group of clips to what it says of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.action_maps import Explain, frame_maps, recurrent_maps
from benchmarks.suite.batches import Batch
from benchmarks.suite.evaluation import Explained

__all__ = ["Method", "frame_methods", "probability", "recurrent_methods"]

Method = Callable[[Batch], Explained]


def recurrent_methods(model: nn.Module) -> dict[str, Method]:
    """EB-R, cEB-R, BP-R and Grad-CAM of a CNN-LSTM's last time step, at its frame maps."""
    return {name: _of_batches(explain) for name, explain in recurrent_maps(model).items()}


def frame_methods(model: nn.Module) -> dict[str, Method]:
    """EB, cEB and BP of a CNN that sees every frame by itself."""
    return {name: _of_batches(explain) for name, explain in frame_maps(model).items()}


def probability(model: nn.Module) -> Method:
    """The probability of the class at every time step: it says when, not where."""

    @torch.no_grad()
    def explain(batch: Batch) -> Explained:
        steps = model(batch.clips).softmax(-1)
        return Explained(steps[torch.arange(len(batch.labels)), :, batch.labels])

    return explain


def _of_batches(explain: Explain) -> Method:
    return lambda batch: Explained.of(explain(batch.clips, batch.labels))
