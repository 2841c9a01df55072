"""What is known about a clip: its label, where its object is in every frame, when its actions happen."""

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from captum_ext.data._manifest import read_manifest, write_manifest

# float x0, y0, x1, y1 in pixels, half-open: pixel column k covers [k, k + 1).
Box = tuple[float, float, float, float]

_FORMAT = "captum_ext clips 1"


class Span(NamedTuple):
    """An action in time: frames ``start_frame`` to ``end_frame``, the latter exclusive.

    Attributes:
        label (str): the action.
        start_frame (int): first frame, from 0.
        end_frame (int): one behind the last frame.
    """

    label: str
    start_frame: int
    end_frame: int


@dataclass(frozen=True)
class ActionClip:
    """A labelled video file with its boxes and spans.

    Attributes:
        video_id (str): unique in its manifest.
        path (str): the video file.
        label (str): the action asked for (of a concatenation: the ground truth's).
        label_index (int): the label's position in the list of classes, from 0.
        fps (float): frames per second.
        n_frames (int): T, the number of frames in the file.
        width (int): W in pixels.
        height (int): H in pixels.
        boxes (tuple): for each frame the box of the acting object, float ``(x0, y0, x1, y1)`` in pixels,
            half-open, or None where there is none.
        spans (tuple of Span): the actions in time, in order; half-open, in frames.
        other_boxes (tuple): for each frame the boxes of further objects that act as ``label`` says, each as
            in ``boxes``; empty where no frame has more than one. Default: ()

    Raises:
        ValueError: if the boxes are not one per frame, or a box or span lies outside the clip.

    Example::

        >>> clip = ActionClip("a", "a.mp4", "disc up-down", 3, 8.0, 2, 64, 48,
        ...                   boxes=((3.0, 4.5, 10.0, 11.5), None), spans=(Span("disc up-down", 0, 2),))
        >>> clip.spans[0].end_frame
        2
    """

    video_id: str
    path: str
    label: str
    label_index: int
    fps: float
    n_frames: int
    width: int
    height: int
    boxes: tuple[Box | None, ...]
    spans: tuple[Span, ...]
    other_boxes: tuple[tuple[Box, ...], ...] = ()

    def __post_init__(self) -> None:
        if len(self.boxes) != self.n_frames:
            raise ValueError(
                f"clip {self.video_id!r}: {len(self.boxes)} boxes for {self.n_frames} frames; "
                "give one per frame, None where there is none"
            )
        if len(self.other_boxes) not in (0, self.n_frames):
            raise ValueError(
                f"clip {self.video_id!r}: other_boxes of {len(self.other_boxes)} frames for "
                f"{self.n_frames}; give them for each frame, or none"
            )
        for t in range(self.n_frames):
            for box in self.boxes_in(t):
                if not (0 <= box[0] < box[2] <= self.width and 0 <= box[1] < box[3] <= self.height):
                    raise ValueError(
                        f"clip {self.video_id!r}, frame {t}: box {box} is empty or outside "
                        f"{self.width} x {self.height} pixels (x0, y0, x1, y1)"
                    )
        for span in self.spans:
            if not 0 <= span.start_frame < span.end_frame <= self.n_frames:
                raise ValueError(f"clip {self.video_id!r}: {span} is empty or outside {self.n_frames} frames")

    def boxes_in(self, frame: int) -> tuple[Box, ...]:
        """All boxes of the label in a frame, that of ``boxes`` first."""
        box = self.boxes[frame]
        others = self.other_boxes[frame] if self.other_boxes else ()
        return others if box is None else (box, *others)


def save_manifest(path: str | os.PathLike[str], clips: Iterable[ActionClip]) -> None:
    """Write clips as a JSON file, whole or not at all.

    Paths of videos are stored relative to the manifest's folder, so the folder can be moved.

    Args:
        path (str or os.PathLike): the JSON file; replaced if it exists.
        clips (iterable of ActionClip): the clips.

    Raises:
        FileNotFoundError: if the manifest's folder does not exist.
    """
    write_manifest(path, _FORMAT, map(dataclasses.asdict, clips))


def load_manifest(path: str | os.PathLike[str]) -> list[ActionClip]:
    """Read the clips that :func:`save_manifest` wrote.

    Args:
        path (str or os.PathLike): the JSON file.

    Returns:
        list of ActionClip: in the order they were saved, with paths that can be opened from here.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not such a manifest.
    """
    return read_manifest(path, _FORMAT, "clips", _clip_from_record)


def _clip_from_record(record: dict[str, Any]) -> ActionClip:
    return ActionClip(
        **{
            **record,
            "boxes": tuple(box and tuple(map(float, box)) for box in record["boxes"]),
            "other_boxes": tuple(
                tuple(tuple(map(float, box)) for box in boxes) for boxes in record.get("other_boxes", ())
            ),
            "spans": tuple(Span(*span) for span in record["spans"]),
        }
    )
