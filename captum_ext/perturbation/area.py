"""The area constraint: a mask's values sorted against a template of zeros and ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext.perturbation.top_share import top_share

__all__ = ["area_loss"]


def area_loss(masks: Tensor, counts: Sequence[int], tolerance: float = 0.0) -> Tensor:
    r"""Mean squared distance of the sorted values of masks to a template.

    .. math:: \frac{1}{n} \lVert \mathrm{vecsort}(m) - r_v \rVert^2

    where the template :math:`r_v` holds as many ones as the mask should keep, then zeros.

    Args:
        masks (Tensor): one group of rows per area; the rows of a group (frames, where each has an area of
            its own, or one row for the whole clip) are averaged.
        counts (sequence of int): ones in the template of each group, from 1 to n.
        tolerance (float, optional): see :func:`~captum_ext.perturbation.top_share.top_share`. Default: 0

    Shape:
        masks (G, R, n); the loss (G,).

    References:
        Li et al., Towards Visually Explaining Video Understanding Networks with Perturbation, WACV 2021,
        eqs. 4, 6 (R = 1) and 11 (R = T), as means instead of sums.
    """
    share = torch.stack(
        [top_share(rows, count, tolerance) for rows, count in zip(masks, counts, strict=True)]
    )
    # share (m - 1)^2 + (1 - share) m^2, multiplied out
    return (masks * (masks - 2 * share) + share).mean((1, 2))
