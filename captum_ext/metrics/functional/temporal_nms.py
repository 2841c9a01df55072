"""Non-maximum suppression of segments in time, a step of its own before any average precision."""

import torch
from torch import Tensor


def temporal_nms(
    segments: Tensor, scores: Tensor, iou_threshold: float, groups: Tensor | None = None
) -> Tensor:
    """Choose segments greedily by score, leaving out those that overlap a chosen one too much.

    Args:
        segments (Tensor): ``[start, end)`` in seconds or frames.
        scores (Tensor): Score of each segment. Equal scores keep the order in which they are given.
        iou_threshold (float): Segments with a *larger* IoU with a chosen one are left out, 0..1.
        groups (Tensor, optional): Whole numbers; segments of different groups do not compete. Give the label
            of each segment, or a number for each pair of video and label. Default: all compete.

    Shape:
        - segments: (D, 2)
        - scores, groups: (D,)
        - returns: (K,)

    Returns:
        Tensor: Indices of the segments that stay, by descending score, int64.

    Raises:
        TypeError: If segments, scores or groups are not tensors.
        ValueError: If a shape is wrong, a segment is empty, reversed or not finite, a score is NaN or
            infinite, or the threshold is outside 0..1.

    Example:
        >>> segments = torch.tensor([[0.0, 4.0], [0.5, 4.0], [6.0, 9.0]])
        >>> temporal_nms(segments, torch.tensor([0.7, 0.9, 0.2]), iou_threshold=0.5)
        tensor([1, 2])
    """
    check_segments(segments)
    check_scores(scores, len(segments))
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must lie in 0..1, got {iou_threshold}.")
    if groups is not None and (not isinstance(groups, Tensor) or groups.shape != scores.shape):
        raise ValueError(
            f"groups must be a tensor of one number per segment ({len(segments)}), got {groups}."
        )
    order = scores.double().argsort(descending=True, stable=True)
    segments = segments.double()[order]
    overlaps = segment_iou(segments, segments) > iou_threshold
    if groups is not None:
        ordered = groups[order]
        overlaps &= ordered[:, None] == ordered[None]
    overlaps = overlaps.cpu()
    free = torch.ones(len(segments), dtype=torch.bool)
    chosen = []
    for row in range(len(segments)):
        if free[row]:
            chosen.append(row)
            free &= ~overlaps[row]
    return order[torch.tensor(chosen, dtype=torch.int64, device=order.device)]


def check_segments(segments: Tensor, name: str = "segments") -> None:
    """Refuse anything but a tensor (D, 2), possibly of no rows, with finite start < end."""
    if not isinstance(segments, Tensor):
        raise TypeError(f"{name} must be a tensor of shape (D, 2), got {type(segments).__name__}.")
    if segments.dim() != 2 or segments.shape[1] != 2:
        raise ValueError(f"{name} must have shape (D, 2), [start, end) each, got {tuple(segments.shape)}.")
    bad = ~((segments[:, 0] < segments[:, 1]) & torch.isfinite(segments).all(dim=1))
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"{name} must be finite with start < end, but row {row} is {segments[row].tolist()}."
        )


def check_scores(scores: Tensor, n: int, name: str = "scores") -> None:
    """Refuse anything but n finite numbers."""
    if not isinstance(scores, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(scores).__name__}.")
    if scores.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one per segment, got {tuple(scores.shape)}.")
    finite = torch.isfinite(scores)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise ValueError(f"{name} must be finite, but row {row} is {scores[row].item()}.")


def segment_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of all pairs: (D, 2) and (G, 2) -> (D, G), float64."""
    a, b = a.double()[:, None], b.double()[None]
    overlap = (torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    return overlap / ((a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - overlap)
