"""One video out of runs of frames of others, with the truth of all of them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from captum_ext.data.records import ActionClip, Box, Span
from captum_ext.data.video import read_video, write_video

__all__ = ["Piece", "join_actions"]


class Piece(NamedTuple):
    """Consecutive frames of a clip.

    Attributes:
        clip (ActionClip): where they come from; all of it counts as its label.
        start_frame (int): the first one, from 0.
        n_frames (int): how many.
    """

    clip: ActionClip
    start_frame: int
    n_frames: int


def join_actions(
    path: str | os.PathLike[str], pieces: Sequence[Piece], video_id: str, truth: int
) -> ActionClip:
    """Put runs of frames one behind the other and write them as one video file.

    Unlike in :func:`~captum_ext.data.concatenate_actions`, which spreads frames over whole clips as the
    papers do with trimmed videos, frames stay at their own rate, so an action keeps
    its speed whatever its length.

    Args:
        path (str or os.PathLike): the mp4 file; its folder must exist.
        pieces (sequence of Piece): in order, of clips with one frame size and frame rate; pieces of no frames
            are left out.
        video_id (str): of the result.
        truth (int): which piece's label is the ground truth of the result.

    Returns:
        ActionClip: with a span for each run of one label (neighbours of the same label are one span) and the
        boxes of all pieces.

    Raises:
        ValueError: if ``truth`` is no piece with frames, sizes or rates differ, a piece reaches out of its
            clip, or a file has another frame size or length than its record.
        VideoReadError: if a clip cannot be read.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile
        >>> from captum_ext.data import generate_actions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     disc, square = generate_actions(folder, 1, shapes=("disc", "square"), motions=("circle",))
        ...     pieces = [Piece(disc, 4, 3), Piece(square, 0, 6), Piece(disc, 7, 2)]
        ...     clip = join_actions(f"{folder}/joined.mp4", pieces, "joined", truth=1)
        >>> clip.label, clip.n_frames, [tuple(span) for span in clip.spans]
        ('square circle', 11, [('disc circle', 0, 3), ('square circle', 3, 9), ('disc circle', 9, 11)])
    """
    if not 0 <= truth < len(pieces):
        raise ValueError(
            f"truth must number one of the {len(pieces)} pieces of {video_id!r}, from 0: {truth}"
        )
    if pieces[truth].n_frames == 0:
        raise ValueError(f"piece {truth}, the ground truth of {video_id!r}, has no frame")
    label, label_index = pieces[truth].clip.label, pieces[truth].clip.label_index
    pieces = [piece for piece in pieces if piece.n_frames != 0]
    first = pieces[0].clip
    parts, spans = [], list[Span]()
    boxes, others = list[Box | None](), list[tuple[Box, ...]]()
    for clip, start, n_frames in pieces:
        if (clip.width, clip.height, clip.fps) != (first.width, first.height, first.fps):
            raise ValueError(
                f"clip {clip.video_id!r} has {clip.width} x {clip.height} pixels at {clip.fps} fps, "
                f"{first.video_id!r} {first.width} x {first.height} at {first.fps}; they cannot be joined"
            )
        if not 0 <= start <= start + n_frames <= clip.n_frames:
            raise ValueError(
                f"frames [{start}, {start + n_frames}) reach out of clip {clip.video_id!r}, which has "
                f"{clip.n_frames}"
            )
        frames = read_video(clip.path, n_frames=None).frames
        if frames.shape != (clip.n_frames, 3, clip.height, clip.width):
            T, _, H, W = frames.shape
            raise ValueError(
                f"{clip.path} has {T} frames of {W} x {H} pixels, its record {clip.n_frames} of "
                f"{clip.width} x {clip.height}"
            )
        parts.append(frames[start : start + n_frames])
        boxes += clip.boxes[start : start + n_frames]
        others += clip.other_boxes[start : start + n_frames] if clip.other_boxes else [()] * n_frames
        begin = spans[-1].end_frame if spans else 0
        if spans and spans[-1].label == clip.label:
            begin = spans.pop().start_frame
        spans.append(Span(clip.label, begin, len(boxes)))
    write_video(path, torch.cat(parts), first.fps)
    return ActionClip(
        video_id=video_id,
        path=str(Path(path)),
        label=label,
        label_index=label_index,
        fps=first.fps,
        n_frames=len(boxes),
        width=first.width,
        height=first.height,
        boxes=tuple(boxes),
        spans=tuple(spans),
        other_boxes=tuple(others) if any(others) else (),
    )
