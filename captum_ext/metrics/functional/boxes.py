"""Ground truth in space: any number of boxes per frame, padded with NaN to a tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext._floating import check_floating


def pad_boxes(boxes: Sequence[Sequence[Sequence[Sequence[float]]]]) -> Tensor:
    """Gather lists of boxes into the padded tensor that the spatial metrics take.

    Args:
        boxes (sequence): For each clip, for each frame, the list of its boxes ``(x0, y0, x1, y1)`` in pixels,
            half-open; an empty list for a frame without one. All clips have the same number of frames.

    Shape:
        - boxes: N times T times any number of 4 floats
        - returns: (N, T, B, 4), with B the largest number of boxes in a frame, at least 1

    Returns:
        Tensor: The boxes, float64; rows of NaN where a frame has fewer than B.

    Raises:
        ValueError: If there are no clips or frames, the clips differ in length, or a box is not 4 numbers.

    Example:
        >>> pad_boxes([[[(1, 2, 5, 6)], [], [(0, 0, 3, 4), (2, 2, 7, 8)]]]).shape
        torch.Size([1, 3, 2, 4])
    """
    lengths = {len(clip) for clip in boxes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "boxes must hold at least one clip, and clips of the same number of frames (T >= 1), "
            f"got {len(boxes)} clips of {sorted(lengths)} frames."
        )
    n_boxes = max(1, max(len(frame) for clip in boxes for frame in clip))
    padded = torch.full((len(boxes), lengths.pop(), n_boxes, 4), torch.nan, dtype=torch.float64)
    for n, clip in enumerate(boxes):
        for t, frame in enumerate(clip):
            for b, box in enumerate(frame):
                if len(box) != 4:
                    raise ValueError(f"a box must be (x0, y0, x1, y1), but clip {n}, frame {t} has {box}.")
                padded[n, t, b] = torch.tensor(box, dtype=torch.float64)
    return padded


def check_boxes(boxes: Tensor, frame_size: tuple[int, int]) -> None:
    """Refuse anything but a floating-point tensor (N, T, B, 4) of boxes in the frame, padded with NaN."""
    if len(frame_size) != 2 or min(frame_size) < 1:
        raise ValueError(f"frame_size must be (H, W) in pixels, each at least 1, got {frame_size}.")
    check_floating(boxes, "boxes", "(N, T, B, 4)")
    if boxes.dim() != 4 or boxes.shape[3] != 4:
        raise ValueError(
            f"boxes must have shape (N, T, B, 4), got {tuple(boxes.shape)}; "
            "with one box per frame, add the axis: boxes[:, :, None]; from lists, use pad_boxes."
        )
    if 0 in boxes.shape:
        raise ValueError(
            f"boxes have an empty axis in (N, T, B, 4): {tuple(boxes.shape)}; pad with NaN rows."
        )
    x0, y0, x1, y1 = boxes.unbind(dim=3)
    height, width = frame_size
    # Written so that a comparison with a stray NaN makes the box a bad one.
    good = (x0 < x1) & (y0 < y1) & (x0 < width) & (y0 < height) & (x1 > 0) & (y1 > 0)
    bad = ~(good & torch.isfinite(boxes).all(dim=3)) & ~boxes.isnan().all(dim=3)
    if bool(bad.any()):
        clip, frame, _ = bad.nonzero()[0].tolist()
        raise ValueError(
            f"boxes must be x0 < x1, y0 < y1 in pixels and reach into the frame (H, W) = {frame_size}, "
            f"but clip {clip}, frame {frame} has {boxes[bad][0].tolist()}; for no box, use four NaN."
        )


def has_box(boxes: Tensor) -> Tensor:
    """Tell the frames that have a box from those that are all padding: (N, T, B, 4) -> (N, T)."""
    return ~boxes.isnan().all(dim=3).all(dim=2)
