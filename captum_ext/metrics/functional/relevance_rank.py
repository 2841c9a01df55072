"""Relevance rank accuracy: are the most relevant pixels those in the boxes?"""

import torch
from torch import Tensor

from captum_ext.metrics.functional.box_coverage import box_coverage
from captum_ext.metrics.functional.boxes import has_box
from captum_ext.metrics.functional.energy_pointing import check_maps_and_boxes


def relevance_rank(maps: Tensor, boxes: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """Share of each frame's K most relevant pixels that lie inside its boxes, with K the boxes' area.

    Only the order of the values matters, so their signs and scale do not. Ties are settled by expectation: if
    only some of several equal cells fit into the K, each counts with the share that fits. So a
    constant map scores what chance does.

    A map coarser than the frame is taken as it is, each cell as the equal pixels it stands for, and areas are
    exact: enlarging a map by whole factors to the nearest pixel changes nothing.

    Args:
        maps (Tensor): Saliency per frame with channels already summed, at most as large as the frame.
        boxes (Tensor): Boxes ``x0, y0, x1, y1`` in pixels of the input, half-open, up to B per frame, that
            count together; rows of NaN are padding, frames of nothing but padding are skipped.
        frame_size (tuple of int): Height and width of the frame in pixels, (H, W).

    Shape:
        - maps: (N, T, h, w)
        - boxes: (N, T, B, 4)
        - returns: (N, T)

    Returns:
        Tensor: Shares in 0..1, float64; NaN for frames without a box. Compare with
        :func:`~captum_ext.metrics.functional.box_area_share`.

    Raises:
        TypeError: If maps or boxes are not floating-point tensors.
        ValueError: If shapes do not match, a map is not finite or larger than the frame, or a box is not
            valid.

    Example:
        >>> maps = torch.tensor([[[[1.0, 3.0, 2.0, 2.0]]]])  # the top 2 of 4: one, and half of two
        >>> relevance_rank(maps, torch.tensor([[[[1.0, 0.0, 3.0, 1.0]]]]), (1, 4))
        tensor([[0.7500]], dtype=torch.float64)

    References:
        Arras et al., CLEVR-XAI, Information Fusion 81, 2022 (relevance rank accuracy).
    """
    check_maps_and_boxes(maps, boxes, frame_size)
    boxes = boxes.to(maps.device)
    coverage = box_coverage(boxes, (maps.shape[2], maps.shape[3]), frame_size).flatten(2)
    values = maps.detach().double().flatten(2)
    area = coverage.sum(dim=2, keepdim=True)  # K, in cells
    ordered = values.sort(dim=2, descending=True).values
    last = ordered.gather(2, (area.ceil().long() - 1).clamp(0, values.shape[2] - 1))
    above, level = values > last, values == last
    fits = (area - above.sum(dim=2, keepdim=True)) / level.sum(dim=2, keepdim=True)
    inside = (coverage * (above + fits * level)).sum(dim=2)
    return (inside / area[:, :, 0]).masked_fill(~has_box(boxes), torch.nan)
