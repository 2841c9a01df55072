"""From annotations and a folder of videos to the clips that the rest of the library runs on."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from captum_ext.data.annotations._faults import Faults, OnError
from captum_ext.data.annotations._limits import fit_to_duration
from captum_ext.data.annotations._videos import VideoIndex
from captum_ext.data.annotations.frames import frame_spans
from captum_ext.data.annotations.records import AnnotatedAction, AnnotatedVideo
from captum_ext.data.records import ActionClip, Box, Span
from captum_ext.data.sampling import frames_on_display
from captum_ext.data.video import VideoInfo, probe_video

__all__ = ["clips_of_videos"]

_Overrun = Literal["raise", "cut"]  # nothing of a clip can be kept behind its file


def clips_of_videos(
    annotations: Iterable[AnnotatedVideo],
    root: str | os.PathLike[str],
    overrun: _Overrun = "raise",
    on_error: OnError = "raise",
) -> list[ActionClip]:
    """Join annotations with the video files, one clip for each label in each video.

    Each file is opened to learn its frames: seconds become frames by the times at which the file's own frames
    appear (:func:`frame_spans`), and boxes are scaled from the annotation's frame size to the file's. Videos
    without an action give no clip. Save the result by :func:`captum_ext.data.save_manifest` to open the files
    once.

    A file is found by the video id: as a path below the root without suffix, else by its name wherever it
    lies, also with ``v_`` in front or without the id's folders.

    Args:
        annotations (iterable of AnnotatedVideo): from any of the readers.
        root (str or os.PathLike): folder of the videos (avi, mkv, mov, mp4, webm).
        overrun (str): what to do with an action that ends behind its file (in seconds: by more than 0.1 s):
            "raise", or "cut" it, leaving it out if it begins there too. Default: "raise"
        on_error (str): "raise" at the first video that is missing, unreadable or does not fit its annotation,
            or "skip" such videos with one warning. Default: "raise"

    Returns:
        list of ActionClip: in the order of the annotations, a video's labels by index. ``spans`` are all
        actions of the video that are not ambiguous, by start; ``boxes`` has the largest of the label's boxes
        in each frame and ``other_boxes`` the rest. The ``video_id`` is the annotation's, with ``#label``
        behind it where a video has several labels.

    Raises:
        AnnotationError: if a video has no file, or more than one, or an unreadable one; if an action ends
            behind its file; if no frame shows a label, or the label has no index.
        ValueError: if ``overrun`` or ``on_error`` is another word.
        FileNotFoundError: if there is no such folder.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile
        >>> from captum_ext.data import write_video
        >>> dive = AnnotatedAction("Diving", 7, start_s=0.5, end_s=1.0)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     write_video(f"{root}/video_test_0000324.mp4", torch.zeros(8, 3, 32, 48).byte(), fps=4)
        ...     (clip,) = clips_of_videos([AnnotatedVideo("video_test_0000324", actions=(dive,))], root)
        >>> clip.label_index, clip.spans
        (7, (Span(label='Diving', start_frame=2, end_frame=4),))
    """
    if overrun not in ("raise", "cut"):
        raise ValueError(f'overrun must be "raise" or "cut", not {overrun!r}: a clip ends with its file')
    folder = Path(root)
    files = VideoIndex(folder)
    clips: list[ActionClip] = []
    with Faults(folder, on_error) as faults:
        for video in annotations:
            with faults.at(f"video {video.video_id!r}"):
                if any(not action.ambiguous for action in video.actions):
                    path = files.find(video.video_id)
                    clips += _clips(video, path, probe_video(path), overrun)
    return clips


def _clips(video: AnnotatedVideo, path: Path, info: VideoInfo, overrun: _Overrun) -> list[ActionClip]:
    fitted = [_fit(action, info, overrun) for action in video.actions if not action.ambiguous]
    actions = [action for action in fitted if action is not None]
    spans = sorted((span for action in actions for span in _spans(action, info)), key=lambda span: span[1:])
    indices = {action.label: action.label_index for action in actions}
    clips = []
    for label, label_index in sorted(indices.items(), key=lambda item: (item[1] or 0, item[0])):
        if label_index is None:
            raise ValueError(f"label {label!r} has no index, which a clip needs")
        if not any(span.label == label for span in spans):
            raise ValueError(f"{label!r} is so short that no frame of {path} shows it")
        boxes = _boxes(video, [action for action in actions if action.label == label], info)
        others = tuple(in_frame[1:] for in_frame in boxes)
        H, W = info.frame_size
        clips.append(
            ActionClip(
                video_id=video.video_id if len(indices) == 1 else f"{video.video_id}#{label}",
                path=str(path),
                label=label,
                label_index=label_index,
                fps=info.fps,
                n_frames=info.n_frames,
                width=W,
                height=H,
                boxes=tuple(in_frame[0] if in_frame else None for in_frame in boxes),
                spans=tuple(spans),
                other_boxes=others if any(others) else (),
            )
        )
    return clips


def _fit(action: AnnotatedAction, info: VideoInfo, overrun: _Overrun) -> AnnotatedAction | None:
    if action.start_frame is None or action.end_frame is None:
        return fit_to_duration(action, info.duration_s, overrun)
    if action.end_frame <= info.n_frames:
        return action
    if overrun == "raise":
        raise ValueError(
            f"{action.label!r} in frames [{action.start_frame}, {action.end_frame}) ends behind the file, "
            f'which has {info.n_frames}; overrun says what to do with it ("cut" cuts it to the file)'
        )
    if action.start_frame >= info.n_frames:
        return None
    boxes = {t: in_frame for t, in_frame in action.boxes.items() if t < info.n_frames}
    return replace(action, end_frame=info.n_frames, boxes=boxes)


def _spans(action: AnnotatedAction, info: VideoInfo) -> list[Span]:
    alone = AnnotatedVideo("", actions=(action,))
    found = frame_spans(alone, None, info.timestamps, torch.arange(info.n_frames))
    return [Span(action.label, start, end) for start, end in found.tolist()]


def _boxes(
    video: AnnotatedVideo, actions: Sequence[AnnotatedAction], info: VideoInfo
) -> list[tuple[Box, ...]]:
    """For each frame of the file the boxes of the actions, in its pixels, the largest first."""
    frames: list[list[Box]] = [[] for _ in range(info.n_frames)]
    for action in actions:
        for t, boxes in action.boxes.items():
            position = t if action.start_frame is not None else _position(video, t, info)
            if position is None:
                continue
            frames[position] += [_scale(box, video.frame_size or info.frame_size, info) for box in boxes]
    return [tuple(sorted(boxes, key=_area, reverse=True)) for boxes in frames]


def _position(video: AnnotatedVideo, frame: int, info: VideoInfo) -> int | None:
    """The file's frame on display when the annotation's is (the two may differ in rate); None behind it."""
    if video.fps is None:
        raise ValueError("boxes of frames without a frame rate")
    at = frame / video.fps
    if at >= info.duration_s:
        return None
    return int(frames_on_display(info.timestamps.numpy(), np.array([at]))[0])


def _scale(box: Box, source: tuple[int, int], info: VideoInfo) -> Box:
    (source_h, source_w), (H, W) = source, info.frame_size
    x0, y0, x1, y1 = box
    return (
        x0 * W / source_w,
        y0 * H / source_h,
        min(x1 * W / source_w, float(W)),
        min(y1 * H / source_h, float(H)),
    )


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
