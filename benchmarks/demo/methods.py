"""The methods that the demo compares, each from clips and classes to maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import LayerGradCam, Saliency
from torch import Tensor

from captum_ext.attr import LayerExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.excitation.operand import Negative
from captum_ext.models import FrameCNN, FrameCNNLSTM

__all__ = ["CEB", "EB", "Explain", "methods"]

Explain = Callable[[Tensor, Tensor], Tensor]
_LAYER = "features"
EB, CEB = "EB (per frame)", "cEB (per frame)"


def methods(frame_cnn: FrameCNN, cnn_lstm: FrameCNNLSTM, negative: Negative) -> dict[str, Explain]:
    """Methods by name: per-frame ones explain the frame CNN, those marked R the CNN-LSTM's last time step.

    Each maps clips (N, 3, T, H, W) and classes (N,) to maps (N, T, h, w), signed for contrastive methods.
    """
    eb = LayerExcitationBackprop(frame_cnn, _LAYER, negative)
    eb_r = RecurrentExcitationBackprop(cnn_lstm, _LAYER, negative=negative)
    bp, bp_r = Saliency(frame_cnn), Saliency(cnn_lstm)

    def gradient(saliency: Saliency, x: Tensor, target: object) -> Tensor:
        # Captum warns of inputs that do not require gradients.
        maps: Tensor = saliency.attribute(x.detach().requires_grad_(), target=target)
        return maps.detach()

    grad_cam = LayerGradCam(cnn_lstm, getattr(cnn_lstm, _LAYER))

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

    def grad_cam_of_clips(clips: Tensor, classes: Tensor) -> Tensor:
        maps = grad_cam.attribute(clips, target=last_step(clips, classes), relu_attributions=True)
        maps = torch.as_tensor(maps).detach()
        return maps.view(len(clips), -1, *maps.shape[2:])

    return {
        "cEB-R": recurrent(contrastive=True),
        "EB-R": recurrent(contrastive=False),
        CEB: per_frame(lambda x, k: eb.attribute(x, target=k, contrastive=True)),
        EB: per_frame(lambda x, k: eb.attribute(x, target=k)),
        "BP-R": lambda x, k: gradient(bp_r, x, last_step(x, k)).sum(1),
        "BP (per frame)": per_frame(lambda x, k: gradient(bp, x, k)),
        "Grad-CAM": grad_cam_of_clips,
    }
