"""What is shown where a mask hides the input: blur, black, the mean frame, or a baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Perturbation", "blur_pyramid", "gaussian_blur", "mean_frame"]


class Perturbation:
    """Shows the input where the mask is 1, and less and less of it as the mask falls to 0.

    Args:
        levels (sequence of Tensor): from the hidden input (mask 0) to the input itself (mask 1); values of
            the mask in between interpolate linearly between two neighbouring levels.
        channel_axis (int): the axis of the channels of a level.

    Shape:
        levels (N, C, T, H, W) each, or with C elsewhere; masks (A, N, T, H, W); result (A, N, C, T, H, W),
        the axes of a level after A.
    """

    def __init__(self, levels: Sequence[Tensor], channel_axis: int) -> None:
        self._levels = torch.stack(list(levels))
        self._channel_axis = channel_axis + 1

    def __call__(self, masks: Tensor) -> Tensor:
        """The perturbed inputs."""
        result: Tensor = _Interpolation.apply(
            masks.unsqueeze(self._channel_axis), self._levels, self._channel_axis
        )
        return result


class _Interpolation(torch.autograd.Function):
    """Linear interpolation between the two levels around the mask's value.

    At a level, the slope is the one towards the next level, and at 1 the one from the level before.
    """

    @staticmethod
    def forward(ctx: Any, masks: Tensor, levels: Tensor, channel_axis: int) -> Tensor:
        intervals = len(levels) - 1
        shape = (*masks.shape[:1], *levels.shape[1:])
        if intervals == 1:
            below, above = levels[0], levels[1]
            position = masks
        else:
            position = masks * intervals
            lower = position.floor().clamp_(max=intervals - 1)
            position = position - lower
            index = lower.long().expand(shape)
            below = levels.gather(0, index)
            above = levels.gather(0, index + 1)
        ctx.save_for_backward(above - below)
        ctx.intervals, ctx.channel_axis = intervals, channel_axis
        return torch.lerp(below, above, position)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradient * slope).sum(ctx.channel_axis, keepdim=True).mul_(ctx.intervals), None, None


def blur_pyramid(x: Tensor, n_levels: int, max_sigma: float, renormalized: bool = True) -> list[Tensor]:
    """The input blurred frame by frame, from ``max_sigma`` pixels in equal steps down to no blur.

    Args:
        x (Tensor): frames.
        n_levels (int): levels, at least 2; the last is the input itself.
        max_sigma (float): standard deviation of the first level's blur, in pixels.
        renormalized (bool, optional): see :func:`gaussian_blur`. Default: True

    Shape:
        x (..., H, W), the levels the same.
    """
    sigmas = [max_sigma * (1 - level / (n_levels - 1)) for level in range(n_levels - 1)]
    return [*(gaussian_blur(x, sigma, renormalized) for sigma in sigmas), x]


def gaussian_blur(x: Tensor, sigma: float, renormalized: bool = True) -> Tensor:
    """Gaussian blur of frames, cut off at four standard deviations.

    Args:
        x (Tensor): frames.
        sigma (float): standard deviation in pixels.
        renormalized (bool, optional): the mean is over the pixels there are. Otherwise pixels outside count
            as zeros, and the border fades towards zero (dark, or the data set's mean colour). Default: True

    Shape:
        x (..., H, W), the result the same.
    """
    vertical, horizontal = (_blur_matrix(side, sigma, renormalized).to(x) for side in x.shape[-2:])
    return vertical @ x @ horizontal.t()


def _blur_matrix(side: int, sigma: float, renormalized: bool) -> Tensor:
    pixels = torch.arange(side, dtype=torch.float64)
    distance = (pixels[:, None] - pixels).abs()
    reach = math.ceil(4 * sigma)
    weights = torch.exp(-(distance**2) / (2 * sigma**2)) * (distance <= reach)
    if renormalized:
        return weights / weights.sum(1, keepdim=True)
    u = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return weights / torch.exp(-(u**2) / (2 * sigma**2)).sum()


def mean_frame(x: Tensor, time_axis: int) -> Tensor:
    """The mean over the frames of a clip in every frame; of a single image, its mean colour.

    Args:
        x (Tensor): clips.
        time_axis (int): the axis of the frames.

    Shape:
        x (N, C, T, H, W), or with C elsewhere; the result the same.
    """
    axes = (-2, -1) if x.shape[time_axis] == 1 else (time_axis,)
    return x.mean(axes, keepdim=True).expand_as(x)
