"""What every function here asks of a clip, its maps, a curve, a span; errors name the axis and the value."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_frames(frames: Tensor, name: str = "frames") -> None:
    """Raise unless ``frames`` is a non-empty uint8 RGB clip of shape (T, 3, H, W)."""
    if frames.dtype != torch.uint8:
        raise TypeError(f"{name} must be uint8 in 0..255, not {frames.dtype}; undo the normalisation first.")
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"{name} must have shape (T, 3, H, W), not {tuple(frames.shape)}.")
    if 0 in frames.shape:
        raise ValueError(f"{name} must not be empty; their shape is {tuple(frames.shape)}.")


def check_maps(maps: Tensor, n_frames: int, name: str = "maps") -> None:
    """Raise unless ``maps`` is finite saliency of shape (T', h, w) with T' of at most the clip's frames."""
    if not maps.is_floating_point():
        raise TypeError(f"{name} must be floating point, not {maps.dtype}.")
    if maps.ndim != 3:
        raise ValueError(
            f"{name} must have the three axes (T, h, w), not shape {tuple(maps.shape)}; sum over channels "
            "and take one example of the batch first."
        )
    if 0 in maps.shape:
        raise ValueError(f"{name} must not be empty; their shape is {tuple(maps.shape)}.")
    if len(maps) > n_frames:
        raise ValueError(f"{name} has {len(maps)} time steps, but the clip only {n_frames} frames (axis T).")
    finite = maps.isfinite()
    if not finite.all():
        t, y, x = (int(i) for i in (~finite).nonzero()[0])
        raise ValueError(f"{name} must be finite; at frame {t}, y {y}, x {x} it is {maps[t, y, x].item()}.")


def check_fps(fps: float) -> None:
    """Raise unless ``fps`` is a positive, finite number of frames per second."""
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps must be positive and finite, not {fps}.")


def check_scores(scores: Tensor, n_frames: int, name: str = "scores") -> None:
    """Raise unless ``scores`` holds one finite number per frame, shape (T,)."""
    if tuple(scores.shape) != (n_frames,):
        raise ValueError(
            f"{name} must hold one number per frame, shape ({n_frames},), not {tuple(scores.shape)}."
        )
    finite = scores.isfinite()
    if not finite.all():
        t = int((~finite).nonzero()[0])
        raise ValueError(f"{name} must be finite; frame {t} has {scores[t].item()}.")


def check_span(span: Sequence[int], n_frames: int, name: str = "span") -> None:
    """Raise unless ``span`` is a half-open interval [start, end) of at least one of the clip's frames."""
    start, end = span
    if not 0 <= start < end <= n_frames:
        raise ValueError(
            f"{name} must be a half-open [start, end) with 0 <= start < end <= {n_frames} frames, "
            f"not [{start}, {end})."
        )
