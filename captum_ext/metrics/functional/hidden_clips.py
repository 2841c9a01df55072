"""What is shown in place of deleted voxels or frames."""

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["zero", "blur", "mean_frame", "freeze"] | Tensor

# A strong blur whatever the resolution: 22 pixels of standard deviation in frames of 224 x 224.
_SIGMA_PER_SIDE = 0.1


def check_baseline(baseline: Baseline, unit: str) -> None:
    """Refuse unknown baselines, and those that the unit does not allow."""
    if isinstance(baseline, Tensor):
        return
    if baseline not in ("zero", "blur", "mean_frame", "freeze"):
        raise ValueError(
            "baseline must be 'zero', 'blur', 'mean_frame', 'freeze' or a tensor that expands to the clips, "
            f"got {baseline!r}."
        )
    if baseline == "freeze" and unit != "frame":
        raise ValueError("baseline 'freeze' copies whole frames: it needs unit='frame'.")


def hidden_clips(clips: Tensor, baseline: Baseline) -> Tensor:
    """The clips with everything hidden, (N, C, T, H, W), for every baseline but ``"freeze"``."""
    if isinstance(baseline, Tensor):
        return _own_baseline(clips, baseline)
    if baseline == "zero":
        return torch.zeros_like(clips)
    if baseline == "blur":
        vertical, horizontal = (
            _blur_matrix(side, min(clips.shape[3:])).to(clips) for side in clips.shape[3:]
        )
        return vertical @ clips @ horizontal.T
    _refuse_single_frames(clips, baseline)
    return clips.mean(dim=2, keepdim=True).expand_as(clips)


def frozen_clips(clips: Tensor, shown: Tensor) -> Tensor:
    """Each frame replaced by the nearest one shown, the earlier of two; by frame T // 2 if none is.

    Args:
        clips (Tensor): (N, C, T, H, W).
        shown (Tensor): Frames to keep, bool, (S, N, T).

    Returns:
        Tensor: (S, N, C, T, H, W).
    """
    _refuse_single_frames(clips, "freeze")
    n_frames = clips.shape[2]
    frame = torch.arange(n_frames, device=clips.device)
    offset = frame - frame[:, None]  # from row t to column t'
    distance = 2 * offset.abs() + (offset > 0)  # whole numbers, so no two are equal within a row
    hidden_last = distance + 3 * n_frames * ~shown[..., None, :]
    nearest = hidden_last.argmin(dim=-1)  # (S, N, T)
    source = torch.where(shown.any(dim=-1, keepdim=True), nearest, n_frames // 2)
    # (N, T, C, H, W) indexed by (clip, frame)
    clip = torch.arange(len(clips), device=clips.device)[:, None]
    return clips.transpose(1, 2)[clip, source].transpose(2, 3)


def _own_baseline(clips: Tensor, baseline: Tensor) -> Tensor:
    if not bool(torch.isfinite(baseline).all()):
        raise ValueError("the baseline tensor must be finite.")
    try:
        return baseline.to(clips).expand_as(clips)
    except RuntimeError as error:
        raise ValueError(
            f"a baseline tensor must expand to the clips, {tuple(clips.shape)}, got {tuple(baseline.shape)}."
        ) from error


def _blur_matrix(side: int, short_side: int) -> Tensor:
    """Gaussian weights of each pixel's neighbours; each row sums to 1, so borders do not darken."""
    pixels = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-((pixels[:, None] - pixels) ** 2) / (2 * (_SIGMA_PER_SIDE * short_side) ** 2))
    return weights / weights.sum(dim=1, keepdim=True)


def _refuse_single_frames(clips: Tensor, baseline: str) -> None:
    if clips.shape[2] == 1:
        raise ValueError(
            f"baseline {baseline!r} needs clips of at least two frames: for T = 1 it would hide nothing."
        )
