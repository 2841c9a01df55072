"""Does a window found in time overlap the action well enough, and what would luck have scored?"""

import torch
from torch import Tensor

from captum_ext.metrics.functional.spans import check_spans


def window_accuracy(windows: Tensor, spans: Tensor, iou_threshold: float = 0.5) -> Tensor:
    """Check for each clip whether the window overlaps the ground truth with at least the given IoU.

    One window and one span per clip. This is an accuracy, not an average precision: with one detection per
    clip and uninformative confidences, the AP of an accuracy p is about its square.

    Args:
        windows (Tensor): Half-open windows ``[start, end)`` in frames, one per clip.
        spans (Tensor): Ground truth, half-open ``[start, end)`` in frames, one per clip.
        iou_threshold (float): Smallest intersection over union that is a hit, in (0, 1].

    Shape:
        - windows: (N, 2)
        - spans: (N, 2)
        - returns: (N,)

    Returns:
        Tensor: True for a hit, bool.

    Raises:
        TypeError: If windows or spans are not integers.
        ValueError: If shapes or lengths do not match, something is empty, an interval is empty or reversed,
            or the threshold is outside (0, 1].

    Example:
        >>> window_accuracy(torch.tensor([[2, 6], [0, 4]]), torch.tensor([[4, 8], [0, 2]]))
        tensor([False,  True])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, table 2.
    """
    check_spans(windows, None, "windows")
    check_spans(spans, None)
    _check_threshold(iou_threshold)
    if len(windows) != len(spans):
        raise ValueError(f"windows and spans must be one per clip each, got {len(windows)} and {len(spans)}.")
    spans = spans.to(windows.device)
    return _overlap_hits(windows[:, 0], windows[:, 1], spans[:, 0], spans[:, 1], iou_threshold)


def random_window_chance(spans: Tensor, n_frames: int, iou_threshold: float = 0.5) -> Tensor:
    """Probability that a window of the span's own length, placed uniformly at random in the clip, is a hit.

    The chance row for windows of known length. With L the length of the span there are ``n_frames - L + 1``
    places, all equally likely.

    Args:
        spans (Tensor): Ground truth, half-open ``[start, end)`` in frames, one per clip.
        n_frames (int): Frames in each clip, T.
        iou_threshold (float): As for :func:`window_accuracy`, in (0, 1].

    Shape:
        - spans: (N, 2)
        - returns: (N,)

    Returns:
        Tensor: Exact probabilities in (0, 1], float64.

    Raises:
        TypeError: If the spans are not integers.
        ValueError: If a span is not inside the clip, there are none, or the threshold is outside (0, 1].

    Example:
        >>> random_window_chance(torch.tensor([[0, 3], [2, 5]]), 8)
        tensor([0.3333, 0.5000], dtype=torch.float64)
    """
    check_spans(spans, n_frames)
    _check_threshold(iou_threshold)
    length = (spans[:, 1] - spans[:, 0])[:, None]
    start = torch.arange(n_frames, device=spans.device)
    possible = start + length <= n_frames
    hits = _overlap_hits(start, start + length, spans[:, :1], spans[:, 1:], iou_threshold)
    return (hits & possible).sum(dim=1).double() / possible.sum(dim=1)


def any_length_window_chance(spans: Tensor, n_frames: int, iou_threshold: float = 0.5) -> Tensor:
    """Probability that a uniformly random window of any length is a hit.

    The chance row for windows of unknown length: all ``T (T + 1) / 2`` windows of the clip are equally
    likely. Most of them are far from any given length, so this is a low bar; see the centre and the whole
    clip too.

    Args:
        spans (Tensor): Ground truth, half-open ``[start, end)`` in frames, one per clip.
        n_frames (int): Frames in each clip, T.
        iou_threshold (float): As for :func:`window_accuracy`, in (0, 1].

    Shape:
        - spans: (N, 2)
        - returns: (N,)

    Returns:
        Tensor: Exact probabilities in (0, 1], float64.

    Raises:
        TypeError: If the spans are not integers.
        ValueError: If a span is not inside the clip, there are none, or the threshold is outside (0, 1].

    Example:
        >>> any_length_window_chance(torch.tensor([[0, 1], [0, 3]]), 3)  # 2 and 3 of 6 windows
        tensor([0.3333, 0.5000], dtype=torch.float64)
    """
    check_spans(spans, n_frames)
    _check_threshold(iou_threshold)
    start, end = torch.triu_indices(n_frames, n_frames, device=spans.device)
    end = end + 1
    # One clip at a time: the windows of all clips at once may not fit into memory.
    return torch.stack(
        [_overlap_hits(start, end, span[0], span[1], iou_threshold).double().mean() for span in spans]
    )


def center_window_chance(spans: Tensor, n_frames: int, iou_threshold: float = 0.5) -> Tensor:
    """Accuracy of the window of the span's own length in the middle of the clip: 1 for a hit, 0 for a miss.

    Datasets have a bias towards the centre, so this is the row to beat. If the window cannot be exactly in
    the middle, it lies half a frame early, as :func:`captum_ext.grounding.center_window` puts it.

    Args:
        spans (Tensor): Ground truth, half-open ``[start, end)`` in frames, one per clip.
        n_frames (int): Frames in each clip, T.
        iou_threshold (float): As for :func:`window_accuracy`, in (0, 1].

    Shape:
        - spans: (N, 2)
        - returns: (N,)

    Returns:
        Tensor: 1 or 0 per clip, float64.

    Raises:
        TypeError: If the spans are not integers.
        ValueError: If a span is not inside the clip, there are none, or the threshold is outside (0, 1].

    Example:
        >>> center_window_chance(torch.tensor([[0, 3], [2, 5]]), 8)
        tensor([0., 1.], dtype=torch.float64)
    """
    check_spans(spans, n_frames)
    _check_threshold(iou_threshold)
    length = spans[:, 1] - spans[:, 0]
    start = (n_frames - length) // 2
    return _overlap_hits(start, start + length, spans[:, 0], spans[:, 1], iou_threshold).double()


def whole_clip_chance(spans: Tensor, n_frames: int, iou_threshold: float = 0.5) -> Tensor:
    """Accuracy of answering with the whole clip: 1 for a hit, 0 for a miss.

    Every span of at least ``iou_threshold * n_frames`` frames is a hit, so a table with such spans says
    nothing about grounding.

    Args:
        spans (Tensor): Ground truth, half-open ``[start, end)`` in frames, one per clip.
        n_frames (int): Frames in each clip, T.
        iou_threshold (float): As for :func:`window_accuracy`, in (0, 1].

    Shape:
        - spans: (N, 2)
        - returns: (N,)

    Returns:
        Tensor: 1 or 0 per clip, float64.

    Raises:
        TypeError: If the spans are not integers.
        ValueError: If a span is not inside the clip, there are none, or the threshold is outside (0, 1].

    Example:
        >>> whole_clip_chance(torch.tensor([[0, 3], [2, 6]]), 8)
        tensor([0., 1.], dtype=torch.float64)
    """
    check_spans(spans, n_frames)
    _check_threshold(iou_threshold)
    start = torch.zeros_like(spans[:, 0])
    return _overlap_hits(start, start + n_frames, spans[:, 0], spans[:, 1], iou_threshold).double()


def _check_threshold(iou_threshold: float) -> None:
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must lie in (0, 1], got {iou_threshold}.")


def _overlap_hits(
    start: Tensor, end: Tensor, true_start: Tensor, true_end: Tensor, threshold: float
) -> Tensor:
    overlap = (torch.minimum(end, true_end) - torch.maximum(start, true_start)).clamp(min=0)
    union = (end - start) + (true_end - true_start) - overlap
    # A quotient, since it is rounded only once: 7 / 25 is the literal 0.28, but 0.28 * 25 is not 7.
    return overlap.double() / union >= threshold
