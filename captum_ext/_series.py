"""What a series of scores per frame must be, for every function that takes one."""

import torch
from torch import Tensor

from captum_ext._floating import check_floating


def check_series(series: Tensor, name: str = "scores") -> None:
    """Refuse anything but a finite floating-point tensor of shape (N, T) with at least one clip and frame."""
    check_floating(series, name, "(N, T)")
    if series.dim() != 2:
        raise ValueError(
            f"{name} must have shape (N, T), clips by frames, got {tuple(series.shape)}; "
            "for a single clip add the batch axis with [None]."
        )
    if series.shape[0] == 0:
        raise ValueError(f"{name} holds no clips: axis 0 (N) is empty.")
    if series.shape[1] == 0:
        raise ValueError(f"{name} holds no frames: axis 1 (T) is empty.")
    finite = torch.isfinite(series)
    if not bool(finite.all()):
        clip, frame = (~finite).nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be finite, but clip {clip}, frame {frame} is {series[clip, frame].item()}; "
            "check the attribution that it came from."
        )
