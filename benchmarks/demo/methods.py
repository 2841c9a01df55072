"""The methods that the demo compares, each from clips and classes to maps."""

from __future__ import annotations

from collections.abc import Callable

from captum.attr import Saliency
from torch import Tensor

from captum_ext.attr import (
    LayerExcitationBackprop,
    RecurrentExcitationBackprop,
    RecurrentGradient,
    VideoGradCam,
)
from captum_ext.excitation.operand import Negative
from captum_ext.models import FrameCNN, FrameCNNLSTM

__all__ = ["ABOUT", "CEB", "EB", "Explain", "methods"]

Explain = Callable[[Tensor, Tensor], Tensor]
_LAYER = "features"
EB, CEB = "EB (per frame)", "cEB (per frame)"

_LAST_STEP, _FRAMES = "CNN-LSTM, last time step", "frame CNN, every frame"
ABOUT: dict[str, tuple[str, str, str]] = {
    "cEB-R": (_LAST_STEP, "where and when, this class against the others", "forward, backward"),
    "EB-R": (_LAST_STEP, "where and when evidence is, shared or not", "forward, backward"),
    CEB: (_FRAMES, "where, this class against the others", "forward, backward"),
    EB: (_FRAMES, "where evidence is, shared or not", "forward, backward"),
    "BP-R": (_LAST_STEP, "which pixels the score is sensitive to", "forward, backward"),
    "BP (per frame)": (_FRAMES, "which pixels the score is sensitive to", "forward, backward"),
    "Grad-CAM": (
        _LAST_STEP,
        "which feature maps raise the score",
        "forward, part of backward",
    ),
}
"""Of each method: what it explains, what its map shows, and the passes it takes."""


def methods(frame_cnn: FrameCNN, cnn_lstm: FrameCNNLSTM, negative: Negative) -> dict[str, Explain]:
    """Methods by name: per-frame ones explain the frame CNN, those marked R the CNN-LSTM's last time step.

    Each maps clips (N, 3, T, H, W) and classes (N,) to maps (N, T, h, w), signed for contrastive methods.
    """
    eb = LayerExcitationBackprop(frame_cnn, _LAYER, negative)
    eb_r = RecurrentExcitationBackprop(cnn_lstm, _LAYER, negative=negative)
    bp, bp_r = Saliency(frame_cnn), RecurrentGradient(cnn_lstm)
    grad_cam = VideoGradCam(cnn_lstm, _LAYER)

    def gradient(frames: Tensor, classes: list[int]) -> Tensor:
        # Captum warns of inputs that do not require gradients.
        maps: Tensor = bp.attribute(frames.detach().requires_grad_(), target=classes)
        return maps.detach().amax(1, keepdim=True)

    def per_frame(explain: Callable[[Tensor, list[int]], Tensor]) -> Explain:
        def explained(clips: Tensor, classes: Tensor) -> Tensor:
            frames = clips.transpose(1, 2)
            maps = explain(frames.flatten(0, 1), classes.repeat_interleave(frames.shape[1]).tolist())
            return maps.sum(1).view(*frames.shape[:2], *maps.shape[2:])

        return explained

    def last_step(clips: Tensor, classes: Tensor) -> list[tuple[int, ...]]:
        return [(clips.shape[2] - 1, int(k)) for k in classes]

    def recurrent(contrastive: bool) -> Explain:
        return lambda x, k: eb_r.attribute(
            x, target=last_step(x, k), contrastive=contrastive, sum_channels=True
        ).squeeze(1)

    return {
        "cEB-R": recurrent(contrastive=True),
        "EB-R": recurrent(contrastive=False),
        CEB: per_frame(lambda x, k: eb.attribute(x, target=k, contrastive=True)),
        EB: per_frame(lambda x, k: eb.attribute(x, target=k)),
        "BP-R": lambda x, k: bp_r.attribute(x, target=last_step(x, k), max_channels=True).squeeze(1),
        "BP (per frame)": per_frame(gradient),
        "Grad-CAM": lambda x, k: grad_cam.attribute(
            x, target=last_step(x, k), relu_attributions=True
        ).squeeze(1),
    }
