"""From seconds and boxes to what the metrics take: spans of frames and padded tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext.data._padding import pad
from captum_ext.data.annotations.records import AnnotatedAction, AnnotatedVideo
from captum_ext.data.sampling import TICK_TOLERANCE_S

__all__ = ["frame_spans", "padded_boxes"]


def frame_spans(
    video: AnnotatedVideo, label: str | None, timestamps: Tensor, indices: Tensor, ambiguous: bool = False
) -> Tensor:
    """The spans of sampled frames in which an action happens.

    A frame is inside an action if it appears in ``[start_s, end_s)``. An action whose format counts frames
    needs no time: a frame is inside if its position in the file is in ``[start_frame, end_frame)``. An
    action so short that no sampled frame falls into it has no span.

    Args:
        video (AnnotatedVideo): the annotation.
        label (str or None): whose actions; None for all of them.
        timestamps (Tensor): seconds at which the frames appear, in order, as ``VideoClip.timestamps``. For T
            frames at a constant rate: ``torch.arange(T) / fps``.
        indices (Tensor): int64 positions of the frames in the file, as ``VideoClip.indices``.
        ambiguous (bool): True for the spans of ambiguous actions, which otherwise are left out, and only
            those. Default: False

    Shape:
        - timestamps, indices: (T,)
        - returns: (S, 2)

    Returns:
        Tensor: int64, half-open ``[start, end)`` in positions of the sample, in the order of the annotation;
        as one entry of the sequence that :func:`captum_ext.metrics.functional.frames_inside` takes.

    Raises:
        ValueError: if timestamps and indices are not one per frame, or not in order.

    Example: at 10 frames per second, 0.25 to 0.5 s are the frames at 0.3 and 0.4 s::

        >>> action = AnnotatedAction("dive", 0, start_s=0.25, end_s=0.5)
        >>> video = AnnotatedVideo("v", actions=(action,))
        >>> frame_spans(video, "dive", torch.arange(8) / 10, torch.arange(8))
        tensor([[3, 5]])
    """
    if timestamps.dim() != 1 or timestamps.shape != indices.shape:
        raise ValueError(
            f"timestamps and indices must both be (T,), not {tuple(timestamps.shape)} and "
            f"{tuple(indices.shape)}"
        )
    if bool((timestamps.diff() < 0).any()) or bool((indices.diff() < 0).any()):
        raise ValueError("timestamps and indices must be in order of time")
    spans = []
    for action in video.actions:
        if action.ambiguous != ambiguous or label not in (None, action.label):
            continue
        start, end = _positions(action, timestamps, indices)
        if start < end:
            spans.append((start, end))
    return torch.tensor(spans, dtype=torch.int64).reshape(-1, 2)


def _positions(action: AnnotatedAction, timestamps: Tensor, indices: Tensor) -> tuple[int, int]:
    if action.start_frame is not None and action.end_frame is not None:
        ends = torch.tensor([action.start_frame, action.end_frame], device=indices.device)
        start, end = torch.searchsorted(indices.contiguous(), ends).tolist()
    else:
        seconds = torch.tensor([action.start_s, action.end_s], dtype=torch.float64, device=timestamps.device)
        start, end = torch.searchsorted(timestamps.double().contiguous(), seconds - TICK_TOLERANCE_S).tolist()
    return start, end


def padded_boxes(video: AnnotatedVideo, label: str | None, indices: Tensor | Sequence[int]) -> Tensor:
    """All boxes of an action in sampled frames, any number per frame.

    Args:
        video (AnnotatedVideo): the annotation.
        label (str or None): whose boxes; None for all actions.
        indices (Tensor or sequence of int): positions of the frames among those the format counts, from 0.

    Shape:
        - indices: (T,)
        - returns: (T, B, 4), with B the largest number of boxes in a frame, at least 1

    Returns:
        Tensor: float64 ``(x0, y0, x1, y1)`` in pixels of ``video.frame_size``, half-open; rows of NaN where a
        frame has fewer than B, as :func:`captum_ext.metrics.functional.pad_boxes` pads.

    Example::

        >>> action = AnnotatedAction("dive", 0, 0.0, 1.0, boxes={1: ((2.0, 3.0, 6.0, 9.0),)})
        >>> padded_boxes(AnnotatedVideo("v", actions=(action,)), "dive", [0, 1])
        tensor([[[nan, nan, nan, nan]],
                [[2., 3., 6., 9.]]], dtype=torch.float64)
    """
    positions = indices.tolist() if isinstance(indices, Tensor) else list(indices)
    wanted = [a for a in video.actions if not a.ambiguous and label in (None, a.label)]
    return pad([[box for action in wanted for box in action.boxes.get(t, ())] for t in positions])
