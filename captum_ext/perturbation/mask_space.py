"""The masks that seeds can make, and the losses that hold them to their areas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from captum_ext.perturbation.area import area_loss
from captum_ext.perturbation.seed_grid import SeedGrid, centred_grid, padded_grid
from captum_ext.perturbation.settings import StepSettings
from captum_ext.perturbation.shape_loss import ShapeLoss, ellipsoid, n_positions
from captum_ext.perturbation.smooth_max import SmoothMax
from captum_ext.perturbation.time_smoothing import TimeSmoothing

__all__ = ["MaskSpace", "Smoothness", "possible_areas"]

Smoothness = Literal["step", "evenly", "gaussian"]


class MaskSpace:
    """Masks of clips of one size, with one area for each of them.

    Args:
        size (tuple[int, int, int]): T, H, W.
        areas (sequence of sequence of float): share of the clip that is kept, A x N: per area and example.
        settings (StepSettings): kernels, weights and geometry.
        smoothness (str or None): ``"step"`` adds STEP's loss, ``"evenly"`` gives each frame its area,
            ``"gaussian"`` smooths seeds along time, None does neither (EP-3D).
        dt (int): reach of ``"gaussian"`` in frames.
        like (Tensor): whose device and dtype the masks have.

    Raises:
        ValueError: an area of less than one pixel or of all of them, a smoothness kernel that does not fit.
    """

    def __init__(
        self,
        size: tuple[int, int, int],
        areas: Sequence[Sequence[float]],
        settings: StepSettings,
        smoothness: Smoothness | None,
        dt: int,
        like: Tensor,
    ) -> None:
        grid = _grid(size, settings)
        self.settings = settings
        self.seeds_shape = (size[0], *grid.seeds)
        self._smooth_max = SmoothMax(grid, settings.coldness, like)
        self._in_time = TimeSmoothing(dt, size[0], like) if smoothness == "gaussian" else None
        self._evenly = smoothness == "evenly"
        full_size = (size[0], *grid.region_size)
        n = math.prod(full_size[1:] if self._evenly else full_size)
        each = [area for row in areas for area in row]
        self._counts = [_count(area, n, settings) for area in each]
        self._shape_loss = None
        if smoothness == "step":
            kernel = settings.kernel_for(min(size[1:]))
            self._shape_loss = ShapeLoss(
                full_size,
                kernel,
                settings.stride_for(kernel),
                [_n_full(area, full_size, kernel, settings) for area in each],
                settings.kernel_to_the_edges,
                settings.balanced,
                like,
                settings.tie_tolerance,
            )

    def masks(self, seeds: Tensor) -> Tensor:
        """Masks over the region that losses see, (A, N, T, *region)."""
        return self._smooth_max(seeds if self._in_time is None else self._in_time(seeds))

    def visible(self, masks: Tensor) -> Tensor:
        """The part of the masks that lies in the frames, (A, N, T, H, W)."""
        return self._smooth_max.visible(masks)

    def losses(self, masks: Tensor, iteration: int) -> Tensor:
        """The weighted losses of area and smoothness at an iteration, (A, N)."""
        settings = self.settings
        groups = masks.flatten(0, 1)
        rows = groups.flatten(2) if self._evenly else groups.flatten(1).unsqueeze(1)
        losses = settings.area_weight_at(iteration) * area_loss(rows, self._counts, settings.tie_tolerance)
        if self._shape_loss is not None and iteration >= settings.smoothness_begins:
            losses = losses + settings.smoothness_weight * self._shape_loss(groups)
        return losses.view(masks.shape[:2])


def possible_areas(
    size: tuple[int, int, int], settings: StepSettings, smoothness: Smoothness | None
) -> tuple[float, float]:
    """The smallest and the largest area for which a :class:`MaskSpace` can be made.

    Args:
        size (tuple[int, int, int]): T, H, W.
        settings (StepSettings): kernels and geometry.
        smoothness (str or None): as of the :class:`MaskSpace`.
    """
    full_size = (size[0], *_grid(size, settings).region_size)
    n = math.prod(full_size[1:] if smoothness == "evenly" else full_size)
    # With a margin the count is rounded up, and may reach n before the area does.
    lowest, highest = 1 / n, 1 - (1.5 if settings.margin else 1) / n
    if smoothness == "step" and settings.kernel_count != "share":
        kernel = settings.kernel_for(min(size[1:]))
        volume = (_positions(full_size, kernel, settings) - 1) * _volume(kernel, settings)
        # A little less, or rounding errors add a kernel.
        highest = min(highest, (1 - 1e-9) * volume / math.prod(full_size))
    return lowest, max(lowest, highest)


def _grid(size: tuple[int, int, int], settings: StepSettings) -> SeedGrid:
    _, height, width = size
    step = settings.seed_step or max(1, round(min(height, width) / 16))
    sigma = settings.sigma or step * 11 / 7
    return (padded_grid if settings.margin else centred_grid)((height, width), step, sigma)


def _positions(size: tuple[int, int, int], kernel: tuple[int, int, int], settings: StepSettings) -> int:
    return n_positions(size, kernel, settings.stride_for(kernel), settings.kernel_to_the_edges)


def _volume(kernel: tuple[int, int, int], settings: StepSettings) -> int:
    """Voxels that an ellipsoid counts for."""
    if settings.kernel_count == "sphere":
        return int(math.prod(kernel) * 0.5236)
    return int(ellipsoid(kernel).sum())


def _n_full(
    area: float, size: tuple[int, int, int], kernel: tuple[int, int, int], settings: StepSettings
) -> int:
    """How many ellipsoids should be full."""
    n = _positions(size, kernel, settings)
    if settings.kernel_count == "share" and n > 1:
        return min(max(1, round(area * n)), n - 1)
    count = math.ceil(area * math.prod(size) / _volume(kernel, settings))
    if count >= n:
        sides = " x ".join(map(str, kernel))
        raise ValueError(
            f"an area of {area} has the volume of {count} smoothness kernels of {sides}, which have {n} "
            "positions; choose a smaller area or kernel"
        )
    return count


def _count(area: float, n: int, settings: StepSettings) -> int:
    """Ones in the template of n values."""
    count = n - int(n * (1 - area)) if settings.margin else round(n * area)
    if not 0 < count < n:
        raise ValueError(
            f"an area of {area} is {count} of {n} pixels of a mask, so there is nothing to choose; areas "
            f"must lie between {1 / n:.2g} and {1 - 1 / n:.6g} here"
        )
    return count
