"""Gaussian smoothing of seeds along time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["TimeSmoothing"]


class TimeSmoothing:
    """Weighted mean of the seeds of neighbouring frames, k_u = exp(-u^2 / (0.6 sigma)) with sigma = dt.

    At the ends of the clip the mean is over the frames there are.

    Args:
        dt (int): neighbours on either side.
        n_frames (int): T.
        like (Tensor): whose device and dtype the seeds have.

    Shape:
        seeds (..., T, h, w), the same.

    References:
        Li et al., WACV 2021, eq. 12.
    """

    def __init__(self, dt: int, n_frames: int, like: Tensor) -> None:
        u = torch.arange(-dt, dt + 1, dtype=torch.float64)
        kernel = torch.exp(-(u**2) / (0.6 * dt))
        frames = torch.arange(n_frames)
        offset = frames[None, :] - frames[:, None]
        weights = F.pad(kernel, (n_frames, n_frames))[offset + n_frames + dt]
        self._weights = (weights / weights.sum(1, keepdim=True)).to(like)

    def __call__(self, seeds: Tensor) -> Tensor:
        """The smoothed seeds."""
        return torch.einsum("st,...thw->...shw", self._weights, seeds)
