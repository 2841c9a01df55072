"""What any data set says of a video, in one form: what happens when, and where."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from captum_ext.data.records import Box

__all__ = ["AnnotatedAction", "AnnotatedVideo", "CaptionedVideo", "Detection", "ObjectBoxes"]

# What THUMOS14 calls the intervals that are neither the action nor not the action.
AMBIGUOUS = "Ambiguous"


@dataclass(frozen=True)
class AnnotatedAction:
    """One action in a video.

    Attributes:
        label (str): the action.
        label_index (int, optional): the label's position in the list of classes, from 0; None where the
            format has none.
        start_s (float): seconds from the beginning of the video file.
        end_s (float): seconds, exclusive.
        ambiguous (bool): True for what THUMOS14 calls ambiguous: neither the action nor not the action.
            Default: False
        start_frame (int, optional): first frame, from 0, where the format counts frames; then the frames
            are exact and the seconds follow from a nominal frame rate. Default: None
        end_frame (int, optional): one behind the last frame. Default: None
        boxes (mapping): from frames, counted from 0, to the boxes there, each float ``(x0, y0, x1, y1)`` in
            pixels, half-open; frames without a box are not in it. Default: empty

    Raises:
        ValueError: if the action is empty, reversed, begins before 0, or has an empty box or a box outside
            its frames.

    Example::

        >>> dive = AnnotatedAction("Diving", 7, start_s=49.2, end_s=53.5)
        >>> round(dive.end_s - dive.start_s, 1)
        4.3
    """

    label: str
    label_index: int | None
    start_s: float
    end_s: float
    ambiguous: bool = False
    start_frame: int | None = None
    end_frame: int | None = None
    boxes: Mapping[int, tuple[Box, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and math.isfinite(self.end_s)):
            raise ValueError(f"{self.label!r}: start {self.start_s} s and end {self.end_s} s must be finite")
        if self.start_s < 0:
            raise ValueError(f"{self.label!r} starts at {self.start_s} s, before the video")
        if self.end_s <= self.start_s:
            raise ValueError(
                f"{self.label!r} ends at {self.end_s} s, not after its start at {self.start_s} s"
            )
        if (self.start_frame is None) != (self.end_frame is None):
            raise ValueError(f"{self.label!r} has only one of start_frame and end_frame")
        if self.start_frame is not None and self.end_frame is not None:
            if not 0 <= self.start_frame < self.end_frame:
                raise ValueError(
                    f"{self.label!r}: frames [{self.start_frame}, {self.end_frame}) are empty or before 0"
                )
            for frame in self.boxes:
                if not self.start_frame <= frame < self.end_frame:
                    raise ValueError(
                        f"{self.label!r} has a box in frame {frame}, "
                        f"outside its frames [{self.start_frame}, {self.end_frame})"
                    )
        _check_boxes(self.label, self.boxes)


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video and the actions in it.

    Attributes:
        video_id (str): the data set's name for the video, without a suffix.
        duration_s (float, optional): seconds; None where the format does not say. Default: None
        fps (float, optional): frames per second of the frames that the format counts. Default: None
        n_frames (int, optional): frames in the video. Default: None
        frame_size (tuple[int, int], optional): (H, W) in pixels that the boxes refer to. Default: None
        subset (str, optional): "train", "validation", "test", as the data set spells it. Default: None
        actions (tuple of AnnotatedAction): in the order of the file. Default: empty

    Raises:
        ValueError: if a number is not positive or a box reaches out of the frame.
    """

    video_id: str
    duration_s: float | None = None
    fps: float | None = None
    n_frames: int | None = None
    frame_size: tuple[int, int] | None = None
    subset: str | None = None
    actions: tuple[AnnotatedAction, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("duration_s", self.duration_s), ("fps", self.fps), ("n_frames", self.n_frames)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"video {self.video_id!r}: {name} must be above 0, not {value}")
        if self.frame_size is None:
            return
        if min(self.frame_size) < 1:
            raise ValueError(f"video {self.video_id!r}: frame_size (H, W) = {self.frame_size} is empty")
        H, W = self.frame_size
        for action in self.actions:
            for frame, boxes in action.boxes.items():
                for x0, y0, x1, y1 in boxes:
                    if not (x0 >= 0 and y0 >= 0 and x1 <= W and y1 <= H):
                        raise ValueError(
                            f"video {self.video_id!r}, frame {frame}: box {(x0, y0, x1, y1)} reaches out of "
                            f"the frame of (H, W) = {self.frame_size}"
                        )


@dataclass(frozen=True)
class ObjectBoxes:
    """The boxes of one kind of object in one frame, without a statement about time.

    Attributes:
        video_id (str): the data set's name for the video.
        label (str): the object.
        label_index (int): its class.
        frame (int): from 0, among the frames that the data set released.
        boxes (tuple of Box): float ``(x0, y0, x1, y1)`` in pixels, half-open; empty where annotators looked
            and saw none.

    Raises:
        ValueError: if the frame is negative or a box is empty.
    """

    video_id: str
    label: str
    label_index: int
    frame: int
    boxes: tuple[Box, ...]

    def __post_init__(self) -> None:
        if self.frame < 0:
            raise ValueError(f"frame {self.frame} is before the video")
        _check_boxes(self.label, {self.frame: self.boxes})


@dataclass(frozen=True)
class CaptionedVideo:
    """A video and the sentences that people wrote for it.

    Attributes:
        video_id (str): the data set's name for the video.
        captions (tuple of str): in the order of the file.
        subset (str, optional): as the data set spells it. Default: None
        category (int, optional): the data set's category. Default: None
        url (str, optional): of the video that the clip was cut from. Default: None
        source_start_s (float, optional): where the clip begins in that video, seconds. Default: None
        source_end_s (float, optional): where it ends there, exclusive. Default: None
    """

    video_id: str
    captions: tuple[str, ...]
    subset: str | None = None
    category: int | None = None
    url: str | None = None
    source_start_s: float | None = None
    source_end_s: float | None = None


class Detection(NamedTuple):
    """One row of a table of detections in time.

    Attributes:
        video_id (str): the video.
        start_s (float): seconds.
        end_s (float): seconds, exclusive.
        label (str): the action.
        score (float): confidence; higher is surer.
    """

    video_id: str
    start_s: float
    end_s: float
    label: str
    score: float


def _check_boxes(label: str, boxes: Mapping[int, tuple[Box, ...]]) -> None:
    for frame, in_frame in boxes.items():
        for x0, y0, x1, y1 in in_frame:
            # Written so that a NaN fails it.
            if not (x0 < x1 and y0 < y1):
                raise ValueError(
                    f"{label!r}, frame {frame}: box {(x0, y0, x1, y1)} (x0, y0, x1, y1) is empty"
                )
