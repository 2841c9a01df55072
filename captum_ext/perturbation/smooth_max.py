"""Masks from seeds: the smooth maximum of radial kernels."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.perturbation.seed_grid import SeedGrid

__all__ = ["SmoothMax"]

# Values of a mask at once on a CPU: the four buffers of the loop over neighbours then stay in its cache.
_CACHED = 2**17


class SmoothMax:
    r"""Enlarges seeds to masks: at each pixel the smooth maximum of the seeds around, weighted by distance.

    .. math:: m = \frac{\sum_k a_k e^{\beta a_k}}{\sum_k e^{\beta a_k}}, \qquad a_k = w(d_k) \, s_k

    over the :math:`(2r + 1)^2` seeds :math:`s_k` around the pixel; seeds outside of the grid are zero and
    count in the denominator.

    Args:
        grid (SeedGrid): where the seeds lie.
        coldness (float): beta; the higher, the closer to the maximum.
        like (Tensor): whose device and dtype the masks have.

    Raises:
        ValueError: a coldness whose exponentials overflow.

    Shape:
        seeds (..., h, w) to masks (..., *region*).

    References:
        Fong et al., Understanding Deep Networks via Extremal Perturbations and Smooth Masks, ICCV 2019,
        section 3.3.
    """

    def __init__(self, grid: SeedGrid, coldness: float, like: Tensor) -> None:
        n_neighbours = (2 * grid.radius + 1) ** 2
        if coldness + math.log(coldness * n_neighbours) > math.log(torch.finfo(like.dtype).max):
            raise ValueError(
                f"coldness {coldness} is too high for {n_neighbours} seeds around each pixel: the sum of "
                f"their exponentials does not fit into {like.dtype}"
            )
        self.grid = grid
        self.coldness = coldness
        # One row per neighbour, whose entries scale a whole row of blocks each.
        self._weights = grid.weights().t().contiguous().to(like).unsqueeze(2)
        self._rows_at_once = max(1, _CACHED // (self._weights.shape[1] * math.prod(grid.blocks)))

    def __call__(self, seeds: Tensor) -> Tensor:
        """The masks of seeds."""
        grid = self.grid
        padded = F.pad(seeds.flatten(0, -3), grid.padding)
        parts = torch.split(padded, self._rows_at_once) if padded.device.type == "cpu" else [padded]
        blocks = torch.cat(
            [_Blocks.apply(part, self._weights, grid.blocks, self.coldness) for part in parts], 1
        )
        # (step, step, rows, bh, bw) to (rows, bh * step, bw * step)
        pixels = blocks.view(grid.step, grid.step, -1, *grid.blocks).permute(2, 3, 0, 4, 1)
        masks: Tensor = pixels.flatten(3, 4).flatten(1, 2)[:, grid.region[0], grid.region[1]]
        return masks.reshape(*seeds.shape[:-2], *masks.shape[-2:])

    def visible(self, masks: Tensor) -> Tensor:
        """The part of the masks that lies in the frame."""
        return masks[..., self.grid.visible[0], self.grid.visible[1]]


class _Blocks(torch.autograd.Function):
    """The smooth maximum of all blocks, (pixels of a block, rows * blocks), one neighbour at a time.

    Nothing of the size (neighbours x pixels) is ever stored: the backward pass computes the exponentials
    again, which is faster than to read them back.
    """

    @staticmethod
    def forward(
        ctx: Any, padded: Tensor, weights: Tensor, blocks: tuple[int, int], coldness: float
    ) -> Tensor:
        shape = (weights.shape[1], padded.shape[0] * blocks[0] * blocks[1])
        numerator, denominator = padded.new_zeros(shape), padded.new_zeros(shape)
        a, exponential = padded.new_empty(shape), padded.new_empty(shape)
        cold = coldness * weights
        for w, (y, x) in zip(cold, _neighbours(padded, blocks), strict=True):
            torch.mul(w, _seeds(padded, y, x, blocks), out=a)  # beta a
            torch.exp(a, out=exponential)
            denominator += exponential
            numerator.addcmul_(a, exponential)
        result = numerator.div_(denominator).div_(coldness)
        ctx.save_for_backward(padded, cold, weights, denominator, result)
        ctx.blocks, ctx.coldness = blocks, coldness
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        padded, cold, weights, denominator, result = ctx.saved_tensors
        # dm / da_k = e_k (1 + beta a_k - beta m) / denominator
        slope = gradient / denominator
        rest = slope * (1 - ctx.coldness * result)
        a, exponential = torch.empty_like(slope), torch.empty_like(slope)
        found = torch.zeros_like(padded)
        for w, c, (y, x) in zip(weights, cold, _neighbours(padded, ctx.blocks), strict=True):
            torch.mul(c, _seeds(padded, y, x, ctx.blocks), out=a)
            torch.exp(a, out=exponential)
            torch.addcmul(rest, slope, a, out=a)
            by_seed = torch.mv(a.mul_(exponential).t(), w.squeeze(1))
            _window(found, y, x, ctx.blocks).add_(by_seed.view(-1, *ctx.blocks))
        return found, None, None, None


def _neighbours(padded: Tensor, blocks: tuple[int, int]) -> product[tuple[int, int]]:
    """Where the windows of all neighbours begin in the padded grid."""
    return product(range(padded.shape[1] - blocks[0] + 1), range(padded.shape[2] - blocks[1] + 1))


def _window(padded: Tensor, y: int, x: int, blocks: tuple[int, int]) -> Tensor:
    return padded[:, y : y + blocks[0], x : x + blocks[1]]


def _seeds(padded: Tensor, y: int, x: int, blocks: tuple[int, int]) -> Tensor:
    return _window(padded, y, x, blocks).reshape(1, -1)
