"""Ground truth in time: half-open spans of frames, one or several per clip."""

from collections.abc import Sequence

import torch
from torch import Tensor


def frames_inside(spans: Tensor | Sequence[Tensor], n_frames: int) -> Tensor:
    """Mark the frames of each clip that lie in at least one of its spans.

    Args:
        spans (Tensor or sequence of Tensor): Half-open spans ``[start, end)`` in whole frames of the clip:
            one per clip as a tensor, or one tensor per clip that holds all of its spans, at least one.
        n_frames (int): Frames in each clip, T.

    Shape:
        - spans: (N, 2), or N times (S_n, 2)
        - returns: (N, T)

    Returns:
        Tensor: True where the frame is inside, bool, on the device of the spans.

    Raises:
        TypeError: If spans are not integer tensors.
        ValueError: If a shape is wrong, there are no clips, a clip has no span, or a span is empty,
            reversed or outside the clip.

    Example:
        >>> frames_inside([torch.tensor([[0, 1], [3, 5]]), torch.tensor([[2, 4]])], 5)
        tensor([[ True, False, False,  True,  True],
                [False, False,  True,  True, False]])
    """
    if isinstance(spans, Tensor):
        check_spans(spans, n_frames)
        return _inside(spans[:, None], n_frames)
    if len(spans) == 0:
        raise ValueError("spans holds no clips: the sequence is empty.")
    for clip, clip_spans in enumerate(spans):
        check_spans(clip_spans, n_frames, f"spans[{clip}]")
    return torch.cat([_inside(clip_spans[None], n_frames) for clip_spans in spans])


def check_spans(spans: Tensor, n_frames: int | None, name: str = "spans") -> None:
    """Refuse anything but a non-empty integer tensor (N, 2) with 0 <= start < end (<= n_frames if known)."""
    if not isinstance(spans, Tensor) or spans.is_floating_point() or spans.dtype == torch.bool:
        what = str(spans.dtype) if isinstance(spans, Tensor) else type(spans).__name__
        raise TypeError(
            f"{name} must be an integer tensor of frames [start, end), got {what}; "
            "convert seconds to frames first."
        )
    if spans.dim() != 2 or spans.shape[1] != 2:
        raise ValueError(f"{name} must have shape (N, 2), [start, end) each, got {tuple(spans.shape)}.")
    if spans.shape[0] == 0:
        raise ValueError(f"{name} is empty: axis 0 has size 0. Leave out clips without a span.")
    start, end = spans.unbind(dim=1)
    bad = (start < 0) | (start >= end)
    limit = ""
    if n_frames is not None:
        bad |= end > n_frames
        limit = f" <= {n_frames} (T)"
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"{name} must satisfy 0 <= start < end{limit}, but row {row} is {spans[row].tolist()}; "
            "spans are half-open, in frames of the clip."
        )


def _inside(spans: Tensor, n_frames: int) -> Tensor:
    """(N, S, 2) -> (N, T)."""
    frame = torch.arange(n_frames, device=spans.device)
    return ((frame >= spans[..., :1]) & (frame < spans[..., 1:])).any(dim=1)
