"""The energy-based pointing game: how much of a map lies inside the boxes?"""

from typing import Literal, get_args

import torch
from torch import Tensor

from captum_ext._maps import check_maps
from captum_ext.metrics.functional.box_coverage import box_coverage
from captum_ext.metrics.functional.boxes import has_box

NegativeValues = Literal["clip", "absolute", "refuse"]


def energy_pointing_game(
    maps: Tensor,
    boxes: Tensor,
    frame_size: tuple[int, int],
    negative: NegativeValues = "clip",
) -> Tensor:
    r"""Share of each map's energy that lies inside the boxes of its frame.

    .. math:: \frac{\sum_{i} c_i \, E_i}{\sum_i E_i}

    with E the map's energy in cell i and c the share of that cell's area that lies in a box. A map coarser
    than the frame is taken as it is, each cell spread evenly over the pixels it stands for: nothing is
    resized, no box is rounded, and the result is exact. For a smoother reading upsample the maps before.

    Args:
        maps (Tensor): Saliency per frame with channels already summed, at most as large as the frame.
        boxes (Tensor): Boxes ``x0, y0, x1, y1`` in pixels of the input, half-open, up to B per frame, that
            count together; rows of NaN are padding, frames of nothing but padding are skipped.
        frame_size (tuple of int): Height and width of the frame in pixels, (H, W).
        negative (str): What negative values are: ``"clip"`` counts only the positive part of a map,
            ``"absolute"`` takes absolute values, ``"refuse"`` raises.

    Shape:
        - maps: (N, T, h, w)
        - boxes: (N, T, B, 4)
        - returns: (N, T)

    Returns:
        Tensor: Shares in 0..1, float64; NaN for frames without a box. A map without energy has 0 inside, so
        saying nothing earns nothing. Compare with :func:`~captum_ext.metrics.functional.box_area_share`.

    Raises:
        TypeError: If maps or boxes are not floating-point tensors.
        ValueError: If shapes do not match, a map is not finite or larger than the frame, a box is not valid,
            ``negative`` is unknown, or a map has a negative value that is to be refused.

    Example:
        >>> maps = torch.tensor([[[[1.0, 3.0], [-2.0, 0.0]]]])  # 2 x 2 cells of 20 x 50 pixels
        >>> boxes = torch.tensor([[[[75.0, 0.0, 100.0, 40.0]]]])  # half of the cells on the right
        >>> energy_pointing_game(maps, boxes, (40, 100))
        tensor([[0.3750]], dtype=torch.float64)

    References:
        Wang et al., Score-CAM, CVPR workshops 2020, section 4.3 (energy-based pointing game).
    """
    if negative not in get_args(NegativeValues):
        raise ValueError(f'negative must be "clip", "absolute" or "refuse", got {negative!r}.')
    check_maps_and_boxes(maps, boxes, frame_size)
    energy = maps.detach().double()
    if negative == "refuse" and bool((energy < 0).any()):
        clip, frame = (energy < 0).any(dim=3).any(dim=2).nonzero()[0].tolist()
        raise ValueError(f"maps hold negative values (clip {clip}, frame {frame}), which were to be refused.")
    energy = energy.abs() if negative == "absolute" else energy.clamp(min=0)
    coverage = box_coverage(boxes.to(maps.device), (maps.shape[2], maps.shape[3]), frame_size)
    total = energy.sum(dim=(2, 3))
    share = (energy * coverage).sum(dim=(2, 3)) / torch.where(total > 0, total, 1)
    return share.masked_fill(~has_box(boxes).to(maps.device), torch.nan)


def check_maps_and_boxes(maps: Tensor, boxes: Tensor, frame_size: tuple[int, int]) -> None:
    """Refuse maps or boxes that are not valid, or not of the same clips and frames."""
    check_maps(maps, frame_size)
    if not isinstance(boxes, Tensor) or boxes.shape[:2] != maps.shape[:2]:
        what = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
        raise ValueError(
            f"boxes (N, T, B, 4) must have the clips and frames of the maps {tuple(maps.shape)}, got {what}."
        )
