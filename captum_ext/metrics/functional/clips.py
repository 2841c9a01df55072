"""What clips must be, for the metrics that run a model on them."""

import torch
from torch import Tensor


def check_clips(clips: Tensor) -> None:
    """Refuse anything but finite floating-point clips (N, C, T, H, W) without an empty axis."""
    if not isinstance(clips, Tensor) or not clips.is_floating_point():
        what = str(clips.dtype) if isinstance(clips, Tensor) else type(clips).__name__
        raise TypeError(
            f"clips must be a floating-point tensor of shape (N, C, T, H, W), got {what}; "
            "give the model's own input, normalised."
        )
    if clips.dim() != 5 or 0 in clips.shape:
        raise ValueError(
            f"clips must have shape (N, C, T, H, W) with no empty axis, got {tuple(clips.shape)}; "
            "for a single clip add the batch axis with [None]."
        )
    finite = torch.isfinite(clips).all(dim=4).all(dim=3).all(dim=1)
    if not bool(finite.all()):
        clip, frame = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"clips must be finite, but clip {clip}, frame {frame} holds NaN or infinite values."
        )
