"""Where the seeds of a mask lie, and which of them reach a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SeedGrid", "centred_grid", "padded_grid"]


@dataclass(frozen=True)
class SeedGrid:
    """A coarse grid of seeds over a frame, the same along both axes but for the size.

    The mask is computed block by block of ``step`` x ``step`` pixels. The pixels of block b see the seeds
    b + ``first``, ..., b + ``first`` + 2 ``radius`` along each axis.

    Args:
        size (tuple[int, int]): H, W of the frame.
        step (int): pixels between seeds.
        sigma (float): width of a seed's kernel in pixels.
        radius (int): seeds that reach a pixel on either side of the middle one.
        first (int): the first seed that reaches block 0; negative ones lie outside of the grid.
        origin (float): where seed 0 lies, in pixels of block 0.
        seeds (tuple[int, int]): h, w, the seeds along each axis.
        blocks (tuple[int, int]): blocks along each axis.
        region (tuple[slice, slice]): the pixels of the blocks that area and smoothness are counted on.
        visible (tuple[slice, slice]): the pixels of the region that lie in the frame.
    """

    size: tuple[int, int]
    step: int
    sigma: float
    radius: int
    first: int
    origin: float
    seeds: tuple[int, int]
    blocks: tuple[int, int]
    region: tuple[slice, slice]
    visible: tuple[slice, slice]

    @property
    def region_size(self) -> tuple[int, int]:
        """Height and width of the region."""
        return (self.region[0].stop - self.region[0].start, self.region[1].stop - self.region[1].start)

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Zeros around the seeds, in the order of ``F.pad``, so that every block finds its neighbours."""
        before = -self.first
        after = [
            blocks + 2 * self.radius - before - seeds
            for blocks, seeds in zip(self.blocks, self.seeds, strict=True)
        ]
        return (before, after[1], before, after[0])

    def weights(self) -> Tensor:
        """Kernel values of the pixels of a block, (step * step, (2 radius + 1)^2), in float64.

        They are the same in every block: w(d) = exp(-2 max(d / sigma - 1/2, 0)^2) at the distance d between
        pixel and seed.
        """
        pixels = torch.arange(self.step, dtype=torch.float64)
        seeds = self.origin + self.step * (
            self.first + torch.arange(2 * self.radius + 1, dtype=torch.float64)
        )
        along_axis = (pixels[:, None] - seeds) ** 2
        distance = (along_axis[:, None, :, None] + along_axis[None, :, None, :]).sqrt()
        weights = torch.exp(-2 * (distance / self.sigma - 0.5).clamp(min=0) ** 2)
        return weights.flatten(2).flatten(0, 1)


def centred_grid(size: tuple[int, int], step: int, sigma: float) -> SeedGrid:
    """One seed in the middle of each block, blocks centred on the frame, no margin.

    Seeds go on beyond the frame as far as they reach into it. Without them the smooth maximum of equal seeds
    is higher at the border than inside, and the area's loss keeps the border.
    """
    blocks = tuple(math.ceil(side / step) for side in size)
    begin = [(count * step - side) // 2 for count, side in zip(blocks, size, strict=True)]
    radius = 1 + math.ceil(sigma / step)
    return SeedGrid(
        size,
        step,
        sigma,
        radius,
        first=0,
        origin=(step - 1) / 2 - radius * step,
        seeds=(blocks[0] + 2 * radius, blocks[1] + 2 * radius),
        blocks=(blocks[0], blocks[1]),
        region=(slice(begin[0], begin[0] + size[0]), slice(begin[1], begin[1] + size[1])),
        visible=(slice(0, size[0]), slice(0, size[1])),
    )


def padded_grid(size: tuple[int, int], step: int, sigma: float) -> SeedGrid:
    """The published code's geometry: seeds from the frame's corner on, a margin of sigma around the frame.

    Pixels see seeds farther away on one side than on the other, and at the right and lower edge the margin
    may be narrower (research of the published code: 112 pixels become 134, 224 become 260).

    Raises:
        ValueError: a sigma for which this geometry would not cover the frame.
    """
    margin = int(sigma)
    padding = 1 + math.ceil((margin + sigma) / step)
    radius = 1 + math.ceil(sigma / step)
    seeds = tuple(math.ceil(side / step) for side in size)
    blocks = tuple(count + 2 * padding - 2 * radius for count in seeds)
    region = [step * (count - 1) + 1 for count in blocks]
    if any(margin + side > reach for side, reach in zip(size, region, strict=True)):
        raise ValueError(
            f"sigma {sigma} is too small for the margin of seeds {step} pixels apart: the masks would not "
            "cover the frame; take a greater sigma, or margin=False"
        )
    return SeedGrid(
        size,
        step,
        sigma,
        radius,
        first=-padding,
        origin=margin,
        seeds=(seeds[0], seeds[1]),
        blocks=(blocks[0], blocks[1]),
        region=(slice(0, region[0]), slice(0, region[1])),
        visible=(slice(margin, margin + size[0]), slice(margin, margin + size[1])),
    )
