"""RISE's masks: coarse random grids, enlarged and shifted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["GridMasks", "draw_grid_masks"]


@dataclass(frozen=True)
class GridMasks:
    """Masks in the form in which they were drawn, a few numbers each.

    A grid is enlarged linearly to one cell more than covers the image, and the image is cut out at an offset
    of less than a cell. Every value of a mask is a convex combination of grid values.

    Args:
        grids (Tensor): 0 or 1 for each cell.
        offsets (Tensor): where the cut begins along each axis, in pixels (frames), less than a cell.
        size (tuple[int, ...]): what the masks cover, (H, W) or (T, H, W).

    Shape:
        grids (M, *cells); offsets (M, d) for d axes.
    """

    grids: Tensor
    offsets: Tensor
    size: tuple[int, ...]

    def enlarged(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop`` - 1, (stop - start, *size), with the device and dtype of a tensor."""
        grids = self.grids[start:stop].to(like)
        full = [
            (cells + 1) * cell
            for cells, cell in zip(grids.shape[1:], cell_size(tuple(grids.shape[1:]), self.size), strict=True)
        ]
        mode = "bilinear" if len(full) == 2 else "trilinear"
        enlarged = F.interpolate(grids.unsqueeze(1), size=full, mode=mode, align_corners=False).squeeze(1)
        cuts = [
            mask[tuple(slice(begin, begin + n) for begin, n in zip(offset, self.size, strict=True))]
            for mask, offset in zip(enlarged, self.offsets[start:stop].tolist(), strict=True)
        ]
        return torch.stack(cuts)


def cell_size(cells: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    """Pixels (frames) of a cell along each axis, rounded up, so that the cells cover the image."""
    return tuple(-(-n // count) for n, count in zip(size, cells, strict=True))


def draw_grid_masks(
    n_masks: int,
    cells: tuple[int, ...],
    size: tuple[int, ...],
    keep_probability: float,
    generator: torch.Generator,
) -> GridMasks:
    """Masks whose cells are 1 with a probability, at offsets that are equally likely."""
    device = generator.device
    numbers = torch.rand(n_masks, *cells, generator=generator, device=device, dtype=torch.float32)
    offsets = [
        torch.randint(cell, (n_masks,), generator=generator, device=device) for cell in cell_size(cells, size)
    ]
    return GridMasks(numbers < keep_probability, torch.stack(offsets, dim=1), size)
