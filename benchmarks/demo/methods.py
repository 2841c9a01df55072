"""The methods that the demo compares, each from clips and classes to maps."""

from __future__ import annotations

from benchmarks.action_maps import Explain, frame_maps, recurrent_maps
from captum_ext.excitation.operand import Negative
from captum_ext.models import FrameCNN, FrameCNNLSTM

__all__ = ["ABOUT", "CEB", "EB", "methods"]

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
    recurrent, per_frame = recurrent_maps(cnn_lstm, negative), frame_maps(frame_cnn, negative)
    return {
        "cEB-R": recurrent["cEB-R"],
        "EB-R": recurrent["EB-R"],
        CEB: per_frame["cEB"],
        EB: per_frame["EB"],
        "BP-R": recurrent["BP-R"],
        "BP (per frame)": per_frame["BP"],
        "Grad-CAM": recurrent["Grad-CAM"],
    }
