"""Boxes drawn on the frames of a clip."""

from collections.abc import Iterator, Sequence
from math import ceil, floor, inf, isnan

import torch
from torch import Tensor

from captum_ext.visualization._checks import check_frames

BOX_COLOUR = (0, 229, 255)
"""RGB of a drawn box: a cyan that neither colour map of the overlays contains."""

Box = tuple[float, float, float, float]


def draw_boxes(
    frames: Tensor,
    boxes: Tensor | Sequence[Tensor],
    *,
    colour: tuple[int, int, int] = BOX_COLOUR,
    thickness: int = 1,
) -> Tensor:
    """Outline boxes on a clip's frames.

    Args:
        frames (Tensor): The clip, uint8 RGB.
        boxes (Tensor or sequence of Tensor): For each frame its boxes x0, y0, x1, y1 in pixels of that frame,
            half-open. A row of NaN stands for no box, so does an empty (0, 4).
        colour (tuple of int): RGB, 0 to 255. Default: cyan.
        thickness (int): Width of the line in pixels; it lies inside the box. Default: 1.

    Shape:
        - frames: (T, 3, H, W)
        - boxes: (T, 4), (T, n, 4), or T tensors (n_t, 4)
        - returns: (T, 3, H, W)

    Returns:
        Tensor: A copy of ``frames`` with the boxes on it; what lies outside the frame is cut off.

    Raises:
        TypeError: If ``frames`` is not uint8.
        ValueError: If there is not one item of boxes per frame, or a box has no area.

    Example:
        >>> frames = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
        >>> draw_boxes(frames, torch.tensor([[1.0, 0.0, 5.0, 3.0]]), colour=(1, 1, 1))[0, 0]
        tensor([[0, 1, 1, 1, 1],
                [0, 1, 0, 0, 1],
                [0, 1, 1, 1, 1],
                [0, 0, 0, 0, 0]], dtype=torch.uint8)
    """
    check_frames(frames)
    if thickness < 1:
        raise ValueError(f"thickness must be at least one pixel, not {thickness}.")
    T = len(frames)
    out = frames.clone()
    paint = torch.tensor(colour, dtype=torch.uint8, device=frames.device)[:, None, None]
    for frame, frame_boxes in zip(out, boxes_by_frame(boxes, T), strict=True):
        for x0, y0, x1, y1 in frame_boxes:
            inside = frame[
                :, max(floor(y0), 0) : max(ceil(y1), 0), max(floor(x0), 0) : max(ceil(x1), 0)
            ]  # a view: slicing cuts off what exceeds H or W
            inside[:, :thickness] = paint
            inside[:, -thickness:] = paint
            inside[:, :, :thickness] = paint
            inside[:, :, -thickness:] = paint
    return out


def boxes_by_frame(boxes: Tensor | Sequence[Tensor], n_frames: int) -> list[list[Box]]:
    """Return every frame's boxes as plain numbers, leaving out rows of NaN.

    Args:
        boxes (Tensor or sequence of Tensor): As in :func:`draw_boxes`.
        n_frames (int): Frames of the clip.

    Returns:
        list: For each frame a list of (x0, y0, x1, y1) in pixels.

    Raises:
        ValueError: If there is not one item per frame, or a box has no area.
    """
    if len(boxes) != n_frames:
        raise ValueError(
            f"boxes must have one item per frame: {len(boxes)} items, {n_frames} frames (axis T)."
        )
    return [list(_present(frame_boxes, t)) for t, frame_boxes in enumerate(boxes)]


def _present(frame_boxes: Tensor, t: int) -> Iterator[Box]:
    if frame_boxes.shape[-1] != 4:
        raise ValueError(
            f"boxes of frame {t} must be x0, y0, x1, y1 along the last axis, not shape "
            f"{tuple(frame_boxes.shape)}."
        )
    for x0, y0, x1, y1 in frame_boxes.reshape(-1, 4).tolist():
        if all(isnan(value) for value in (x0, y0, x1, y1)):
            continue
        if not (-inf < x0 < x1 < inf and -inf < y0 < y1 < inf):
            raise ValueError(
                f"box {(x0, y0, x1, y1)} of frame {t} has no finite area: x0 < x1 and y0 < y1 must hold; a "
                "frame without a box is written as NaN."
            )
        yield x0, y0, x1, y1
