"""STEP's smoothness: what is kept should be made of ellipsoids of space-time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.perturbation.top_share import top_share

__all__ = ["ShapeLoss", "ellipsoid", "n_positions"]


def ellipsoid(shape: tuple[int, int, int]) -> Tensor:
    """An ellipsoid of ones in a box of zeros, (T_K, H_K, W_K), in float64; a side of 1 spans nothing.

    Raises:
        ValueError: a box so small that no voxel's centre lies in the ellipsoid.

    References:
        Li et al., WACV 2021, eq. 8.
    """
    squares = [
        torch.linspace(-1, 1, side, dtype=torch.float64) ** 2
        if side > 1
        else torch.zeros(1, dtype=torch.float64)
        for side in shape
    ]
    distance = squares[0][:, None, None] + squares[1][None, :, None] + squares[2]
    # Symmetric points must not be told apart by rounding.
    inside = (distance <= 1 + 1e-9).double()
    if not inside.any():
        raise ValueError(
            f"a smoothness kernel of {_sides(shape)} holds no voxel; take an odd number, or more than 4, of "
            "frames and pixels"
        )
    return inside


def n_positions(
    size: tuple[int, int, int],
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    to_the_edges: bool,
) -> int:
    """How many positions an ellipsoid has in masks of a size; see :class:`ShapeLoss`."""
    if to_the_edges:
        return math.prod(math.ceil(n / s) for n, s in zip(size, stride, strict=True))
    return math.prod(max(0, n - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True))


class ShapeLoss:
    r"""Pushes the share of a mask under some ellipsoids to 1 and under all others to 0.

    .. math:: L_K(M) = \lVert \mathrm{vecsort}(M * K) - r_{v'} \rVert^2

    M * K is the mean of the mask under the ellipsoid at each position, and v' of these should be 1.

    Args:
        size (tuple[int, int, int]): T, H, W of the masks.
        kernel (tuple[int, int, int]): T_K, H_K, W_K of the ellipsoid.
        stride (tuple[int, int, int]): between positions.
        counts (sequence of int): v' of each group of masks, below the number of positions.
        to_the_edges (bool): positions cover the whole clip, its first and last frames too, and each mean is
            over the part of the ellipsoid inside of the clip. Otherwise only ellipsoids that fit count.
        balanced (bool): the mean over the v' positions plus the mean over the others, instead of the mean
            over all.
        like (Tensor): whose device and dtype the masks have.
        tolerance (float, optional): see :func:`~captum_ext.perturbation.top_share.top_share`. Default: 0

    Shape:
        masks (G, T, H, W); the loss (G,).

    Raises:
        ValueError: a kernel that fits nowhere.

    References:
        Li et al., WACV 2021, eqs. 7-9, as means instead of sums.
    """

    def __init__(
        self,
        size: tuple[int, int, int],
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int],
        counts: Sequence[int],
        to_the_edges: bool,
        balanced: bool,
        like: Tensor,
        tolerance: float = 0.0,
    ) -> None:
        self.counts = counts
        self.tolerance = tolerance
        self.balanced = balanced
        self._stride = stride
        self._padding: list[int] = [0] * 6
        if to_the_edges:
            for axis, (n, k, s) in enumerate(zip(size, kernel, stride, strict=True)):
                missing = (math.ceil(n / s) - 1) * s + k - n
                # F.pad begins with the last axis.
                self._padding[2 * (2 - axis) : 2 * (2 - axis) + 2] = [missing // 2, missing - missing // 2]
        elif any(k > n for k, n in zip(kernel, size, strict=True)):
            raise ValueError(
                f"the smoothness kernel of {_sides(kernel)} does not fit into masks of {_sides(size)}; "
                "explain a longer or larger clip, or choose a smaller kernel in the settings"
            )
        self._kernel = ellipsoid(kernel).to(like)
        self._full = torch.tensor(counts, dtype=like.dtype, device=like.device)
        self._volume = self._sums(like.new_ones(1, *size))

    def __call__(self, masks: Tensor) -> Tensor:
        """The loss of each group."""
        means = self._sums(masks) / self._volume
        share = torch.stack(
            [top_share(row, count, self.tolerance) for row, count in zip(means, self.counts, strict=True)]
        )
        filled, empty = share * (means - 1) ** 2, (1 - share) * means**2
        n = means.shape[1]
        if not self.balanced:
            return (filled + empty).mean(1)
        return filled.sum(1) / self._full + empty.sum(1) / (n - self._full)

    def _sums(self, masks: Tensor) -> Tensor:
        """The sum of the mask under each ellipsoid, (G, positions)."""
        # A convolution of one channel is slow backwards in torch; as products of matrices it is not.
        windows = F.pad(masks, self._padding)
        for axis in (1, 2):
            windows = windows.unfold(axis + 1, self._kernel.shape[axis], self._stride[axis])
        planes = windows.flatten(-2) @ self._kernel.flatten(1).t()  # (G, T, y, x, T_K)
        last = planes.shape[1] - self._kernel.shape[0] + 1
        sums = [planes[:, u : u + last : self._stride[0], ..., u] for u in range(self._kernel.shape[0])]
        return torch.stack(sums).sum(0).flatten(1)


def _sides(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
