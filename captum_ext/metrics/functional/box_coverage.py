"""How much of each cell of a map lies in the boxes of its frame."""

import torch
from torch import Tensor

from captum_ext.metrics.functional.boxes import check_boxes, has_box


def box_area_share(boxes: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """Share of each frame's area that its boxes cover together: the chance value of energy and rank.

    A map that puts the same energy everywhere, or that orders its pixels at random, has this share inside.

    Args:
        boxes (Tensor): Boxes ``x0, y0, x1, y1`` in pixels, half-open, up to B per frame; rows of NaN are
            padding. Fractions of pixels count as such.
        frame_size (tuple of int): Height and width of the frame in pixels, (H, W).

    Shape:
        - boxes: (N, T, B, 4)
        - returns: (N, T)

    Returns:
        Tensor: Exact shares in (0, 1], float64; NaN for frames without a box.

    Raises:
        TypeError: If boxes are not a floating-point tensor.
        ValueError: If a shape is wrong, or a box is empty, reversed, half NaN or outside the frame.

    Example:
        >>> boxes = torch.tensor([[[[20.0, 10.0, 60.0, 25.0], [50.0, 20.0, 70.0, 30.0]]]])
        >>> box_area_share(boxes, (40, 100))  # 40 x 15 + 20 x 10 - 10 x 5 of 100 x 40
        tensor([[0.1875]], dtype=torch.float64)
    """
    return box_coverage(boxes, (1, 1), frame_size)[:, :, 0, 0].masked_fill(~has_box(boxes), torch.nan)


def box_coverage(boxes: Tensor, map_size: tuple[int, int], frame_size: tuple[int, int]) -> Tensor:
    """Share of each cell's area that lies in at least one box: (N, T, B, 4) -> (N, T, h, w), float64.

    The map lies on the frame edge to edge, so that a cell covers H / h by W / w pixels.
    """
    check_boxes(boxes, frame_size)
    return torch.stack([_coverage(clip_boxes, map_size, frame_size) for clip_boxes in boxes])


def _coverage(boxes: Tensor, map_size: tuple[int, int], frame_size: tuple[int, int]) -> Tensor:
    """(T, B, 4) -> (T, h, w)."""
    # All edges, of cells and boxes, cut the frame into pieces that lie wholly in or out of each of them.
    boxes = boxes.double().nan_to_num(nan=-1.0)  # a padded box lies outside and covers nothing
    x_edges, x_cell = _pieces(boxes[..., 0::2], map_size[1], frame_size[1])
    y_edges, y_cell = _pieces(boxes[..., 1::2], map_size[0], frame_size[0])
    x_middle, y_middle = ((e[:, 1:] + e[:, :-1]) / 2 for e in (x_edges, y_edges))
    x0, y0, x1, y1 = boxes[..., None].unbind(dim=2)  # each (T, B, 1)
    in_x = (x0 <= x_middle[:, None]) & (x_middle[:, None] < x1)
    in_y = (y0 <= y_middle[:, None]) & (y_middle[:, None] < y1)
    inside = torch.zeros(
        len(boxes), y_middle.shape[1], x_middle.shape[1], dtype=torch.bool, device=boxes.device
    )
    for box in range(boxes.shape[1]):  # one at a time: all at once need B maps of memory
        inside |= in_y[:, box, :, None] & in_x[:, box, None, :]
    area = y_edges.diff(dim=1)[:, :, None] * x_edges.diff(dim=1)[:, None, :] * inside
    rows = area.new_zeros(len(boxes), map_size[0], area.shape[2])
    rows.scatter_add_(1, y_cell[:, :, None].expand_as(area), area)
    cells = area.new_zeros(len(boxes), *map_size)
    cells.scatter_add_(2, x_cell[:, None, :].expand_as(rows), rows)
    return cells * (map_size[0] * map_size[1] / (frame_size[0] * frame_size[1]))


def _pieces(ends: Tensor, n_cells: int, size: int) -> tuple[Tensor, Tensor]:
    """Cut one axis of the frame at all edges: (T, B, 2) -> edges (T, P + 1), cell of each piece (T, P)."""
    cell_edges = torch.arange(n_cells + 1, device=ends.device, dtype=ends.dtype) * size / n_cells
    edges = (
        torch.cat([cell_edges.expand(len(ends), -1), ends.flatten(1).clamp(0, size)], dim=1)
        .sort(dim=1)
        .values
    )
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    return edges, (torch.searchsorted(cell_edges, middle, right=True) - 1).clamp(0, n_cells - 1)
