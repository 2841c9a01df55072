"""The methods of the EB-R paper, each from a group of clips to maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import Saliency
from torch import Tensor, nn

from benchmarks.suite.batches import Batch
from benchmarks.suite.evaluation import Explained
from captum_ext.attr import (
    LayerExcitationBackprop,
    RecurrentExcitationBackprop,
    RecurrentGradient,
    VideoGradCam,
)

__all__ = ["LAYER", "Method", "frame_methods", "probability", "recurrent_methods"]

LAYER = "features"
Method = Callable[[Batch], Explained]


def recurrent_methods(model: nn.Module) -> dict[str, Method]:
    """EB-R, cEB-R, BP-R and Grad-CAM of a CNN-LSTM's last time step, at its frame maps."""
    eb_r, bp_r = RecurrentExcitationBackprop(model, LAYER), RecurrentGradient(model)
    grad_cam = VideoGradCam(model, LAYER)

    def excitation(contrastive: bool) -> Method:
        def explain(batch: Batch) -> Explained:
            maps = eb_r.attribute(
                batch.clips, target=last_step(batch), contrastive=contrastive, sum_channels=True
            )
            return Explained.of(maps.squeeze(1))

        return explain

    return {
        "EB-R": excitation(contrastive=False),
        "cEB-R": excitation(contrastive=True),
        "BP-R": lambda batch: Explained.of(
            bp_r.attribute(batch.clips, target=last_step(batch), max_channels=True).squeeze(1)
        ),
        "Grad-CAM": lambda batch: Explained.of(
            grad_cam.attribute(batch.clips, target=last_step(batch), relu_attributions=True).squeeze(1)
        ),
    }


def frame_methods(model: nn.Module) -> dict[str, Method]:
    """EB, cEB and BP of a CNN that sees every frame by itself."""
    eb, bp = LayerExcitationBackprop(model, LAYER), Saliency(model)

    def gradient(frames: Tensor, classes: list[int]) -> Tensor:
        # Captum warns of inputs that do not require gradients.
        maps: Tensor = bp.attribute(frames.detach().requires_grad_(), target=classes)
        return maps.detach().amax(1, keepdim=True)

    def of_frames(explain: Callable[[Tensor, list[int]], Tensor]) -> Method:
        def explained(batch: Batch) -> Explained:
            frames = batch.clips.transpose(1, 2)
            maps = explain(frames.flatten(0, 1), batch.labels.repeat_interleave(frames.shape[1]).tolist())
            return Explained.of(maps.sum(1).view(*frames.shape[:2], *maps.shape[2:]))

        return explained

    return {
        "EB": of_frames(lambda x, k: eb.attribute(x, target=k)),
        "cEB": of_frames(lambda x, k: eb.attribute(x, target=k, contrastive=True)),
        "BP": of_frames(gradient),
    }


def probability(model: nn.Module) -> Method:
    """The probability of the class at every time step: it says when, not where."""

    @torch.no_grad()
    def explain(batch: Batch) -> Explained:
        steps = model(batch.clips).softmax(-1)
        return Explained(steps[torch.arange(len(batch.labels)), :, batch.labels])

    return explain


def last_step(batch: Batch) -> list[tuple[int, ...]]:
    """Captum's targets: the class of each clip at the last time step."""
    return [(batch.clips.shape[2] - 1, int(k)) for k in batch.labels]
