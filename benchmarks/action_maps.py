"""The papers' methods as functions from clips and classes to maps."""

from __future__ import annotations

from collections.abc import Callable

from captum.attr import Saliency
from torch import Tensor, nn

from captum_ext.attr import (
    LayerExcitationBackprop,
    RecurrentExcitationBackprop,
    RecurrentGradient,
    VideoGradCam,
)
from captum_ext.excitation.operand import Negative

__all__ = ["LAYER", "Explain", "frame_maps", "last_step", "recurrent_maps"]

LAYER = "features"
Explain = Callable[[Tensor, Tensor], Tensor]
"""Clips (N, 3, T, H, W) and classes (N,) to maps (N, T, h, w), signed for contrastive methods."""


def recurrent_maps(model: nn.Module, negative: Negative = "support") -> dict[str, Explain]:
    """EB-R, cEB-R, BP-R and Grad-CAM of a CNN-LSTM's last time step, at its frame maps."""
    eb_r, bp_r = RecurrentExcitationBackprop(model, LAYER, negative=negative), RecurrentGradient(model)
    grad_cam = VideoGradCam(model, LAYER)

    def excitation(contrastive: bool) -> Explain:
        return lambda x, k: eb_r.attribute(
            x, target=last_step(x, k), contrastive=contrastive, sum_channels=True
        ).squeeze(1)

    return {
        "EB-R": excitation(contrastive=False),
        "cEB-R": excitation(contrastive=True),
        "BP-R": lambda x, k: bp_r.attribute(x, target=last_step(x, k), max_channels=True).squeeze(1),
        "Grad-CAM": lambda x, k: grad_cam.attribute(
            x, target=last_step(x, k), relu_attributions=True
        ).squeeze(1),
    }


def frame_maps(model: nn.Module, negative: Negative = "support") -> dict[str, Explain]:
    """EB, cEB and BP of a CNN that sees every frame by itself."""
    eb, bp = LayerExcitationBackprop(model, LAYER, negative), Saliency(model)

    def gradient(frames: Tensor, classes: list[int]) -> Tensor:
        # Captum warns of inputs that do not require gradients.
        maps: Tensor = bp.attribute(frames.detach().requires_grad_(), target=classes)
        return maps.detach().amax(1, keepdim=True)

    def of_frames(explain: Callable[[Tensor, list[int]], Tensor]) -> Explain:
        def explained(clips: Tensor, classes: Tensor) -> Tensor:
            frames = clips.transpose(1, 2)
            maps = explain(frames.flatten(0, 1), classes.repeat_interleave(frames.shape[1]).tolist())
            return maps.sum(1).view(*frames.shape[:2], *maps.shape[2:])

        return explained

    return {
        "EB": of_frames(lambda x, k: eb.attribute(x, target=k)),
        "cEB": of_frames(lambda x, k: eb.attribute(x, target=k, contrastive=True)),
        "BP": of_frames(gradient),
    }


def last_step(clips: Tensor, classes: Tensor) -> list[tuple[int, ...]]:
    """Captum's targets: the class of each clip at the last time step."""
    return [(clips.shape[2] - 1, int(k)) for k in classes]
