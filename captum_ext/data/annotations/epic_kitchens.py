"""EPIC-Kitchens-55 and -100: what hands do in kitchens, in time; boxes of objects (55 only)."""

import ast
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from captum_ext.data.annotations._faults import Faults, OnError, number, text, whole
from captum_ext.data.annotations._limits import clip_box
from captum_ext.data.annotations._text import read_table
from captum_ext.data.annotations.records import AnnotatedAction, AnnotatedVideo, ObjectBoxes
from captum_ext.data.records import Box
from captum_ext.data.sampling import TICK_TOLERANCE_S

__all__ = ["attach_objects", "read_epic_kitchens", "read_epic_kitchens_classes", "read_epic_kitchens_objects"]

_FRAME_SIZE = (1080, 1920)
_OBJECTS_FPS = 60.0


def read_epic_kitchens(
    path: str | os.PathLike[str],
    label: Literal["verb", "noun"],
    classes: Mapping[int, str] | None = None,
    subset: str | None = None,
    on_error: OnError = "raise",
) -> list[AnnotatedVideo]:
    """Read the actions of ``EPIC_train_action_labels.csv`` (55) or ``EPIC_100_train.csv`` (100).

    Columns are found by name, since their order differs from the documentation's: ``uid`` (55) or
    ``narration_id`` (100), ``video_id``, ``start_timestamp``, ``stop_timestamp``, ``verb``, ``verb_class``,
    ``noun``, ``noun_class``. Timestamps are ``HH:MM:SS.ff`` from the beginning of the video; the stop is
    taken as exclusive. ``start_frame`` and ``stop_frame`` hold for the released frames alone, not for the
    videos, and are not read. Classes count from **0**.

    Args:
        path (str or os.PathLike): the file.
        label (str): "verb" or "noun": which of the two is the label.
        classes (mapping, optional): names by class, as :func:`read_epic_kitchens_classes` reads them.
            Default: None, which labels an action with the word of its narration; then one class can have
            several labels ("pick-up", "take"), and ``label_index`` tells the class.
        subset (str, optional): what to note as the videos' subset; the file does not say. Default: None
        on_error (str): "raise" at the first faulty row or "skip" faulty rows with one warning.
            Default: "raise"

    Returns:
        list of AnnotatedVideo: in the order in which they first occur; actions in the order of the file.

    Raises:
        AnnotationError: if a column is missing (test files have no labels), a timestamp is malformed, a stop
            is not after its start, a class is unknown, or an id appears twice.
        ValueError: if ``label`` or ``on_error`` is another word.
        FileNotFoundError: if there is no such file.

    References:
        Damen et al., Scaling egocentric vision: the EPIC-KITCHENS dataset, ECCV 2018; Rescaling egocentric
        vision, IJCV 2022.
    """
    if label not in ("verb", "noun"):
        raise ValueError(f'label must be "verb" or "noun", not {label!r}')
    file = Path(path)
    wanted = ("video_id", "start_timestamp", "stop_timestamp", label, f"{label}_class")
    actions: dict[str, list[AnnotatedAction]] = {}
    seen: dict[str, int] = {}
    with Faults(file, on_error) as faults:
        for line_number, row in read_table(file, faults, ("uid", *wanted), ("narration_id", *wanted)):
            with faults.at(f"line {line_number}"):
                row_id = row["uid"] if "uid" in row else row["narration_id"]
                if row_id in seen:
                    raise ValueError(f"the id {row_id!r} is in line {seen[row_id]} already")
                index = whole(row[f"{label}_class"], f"{label}_class")
                action = AnnotatedAction(
                    label=_name(index, text(row[label], label), classes),
                    label_index=index,
                    start_s=_seconds(row["start_timestamp"]),
                    end_s=_seconds(row["stop_timestamp"]),
                )
                seen[row_id] = line_number
                actions.setdefault(text(row["video_id"], "video_id"), []).append(action)
    return [AnnotatedVideo(v, subset=subset, actions=tuple(found)) for v, found in actions.items()]


def read_epic_kitchens_classes(path: str | os.PathLike[str]) -> dict[int, str]:
    """Read the names of verbs or nouns.

    ``EPIC_verb_classes.csv`` has ``verb_id`` and ``class_key``, ``EPIC_noun_classes.csv`` has ``noun_id`` and
    ``class_key``, and the files of EPIC-Kitchens-100 have ``id`` and ``key``. Classes count from 0.

    Args:
        path (str or os.PathLike): the file.

    Returns:
        dict: from classes to names.

    Raises:
        AnnotationError: if the columns are others, or a class appears twice.
        FileNotFoundError: if there is no such file.
    """
    file = Path(path)
    kinds = (("id", "key"), ("verb_id", "class_key"), ("noun_id", "class_key"))
    classes: dict[int, str] = {}
    with Faults(file, "raise") as faults:
        for line_number, row in read_table(file, faults, *kinds):
            with faults.at(f"line {line_number}"):
                id_column, name_column = next(kind for kind in kinds if set(kind) <= set(row))
                index = whole(row[id_column], id_column)
                if index in classes:
                    raise ValueError(f"class {index} appears twice")
                classes[index] = text(row[name_column], name_column)
    return classes


def read_epic_kitchens_objects(
    path: str | os.PathLike[str], classes: Mapping[int, str] | None = None, on_error: OnError = "raise"
) -> list[ObjectBoxes]:
    """Read ``EPIC_train_object_labels.csv`` of EPIC-Kitchens-55.

    Columns: ``noun_class, noun, participant_id, video_id, frame, bounding_boxes``. Frames count from **1**
    among the released frames of **60** per second; two a second are annotated (1, 31, 61, ...). Boxes are a
    Python list of **(top, left, height, width)** in pixels of 1920 x 1080, from 0, possibly empty; it is read
    as a literal, never executed.

    Boxes that reach over the border are clipped to the frame; an empty box, or one wholly outside, is an
    error.

    Args:
        path (str or os.PathLike): the file.
        classes (mapping, optional): names by noun class. Default: None, the file's own nouns
        on_error (str): "raise" at the first faulty row or "skip" faulty rows with one warning.
            Default: "raise"

    Returns:
        list of ObjectBoxes: in the order of the file, frames from 0, boxes float ``(x0, y0, x1, y1)``,
        half-open.

    Raises:
        AnnotationError: if a column is missing, or a row is faulty.
        ValueError: if ``on_error`` is another word.
        FileNotFoundError: if there is no such file.
    """
    file = Path(path)
    columns = ("noun_class", "noun", "video_id", "frame", "bounding_boxes")
    objects = []
    with Faults(file, on_error) as faults:
        for line_number, row in read_table(file, faults, columns):
            with faults.at(f"line {line_number}"):
                index = whole(row["noun_class"], "noun_class")
                frame = whole(row["frame"], "frame")
                if frame < 1:
                    raise ValueError(f"frames count from 1, not {frame}")
                objects.append(
                    ObjectBoxes(
                        video_id=text(row["video_id"], "video_id"),
                        label=_name(index, text(row["noun"], "noun"), classes),
                        label_index=index,
                        frame=frame - 1,
                        boxes=_literal_boxes(row["bounding_boxes"]),
                    )
                )
    return objects


def attach_objects(videos: Iterable[AnnotatedVideo], objects: Iterable[ObjectBoxes]) -> list[AnnotatedVideo]:
    """Give each action the boxes of its noun in its time.

    Args:
        videos (iterable of AnnotatedVideo): read with ``label="noun"``.
        objects (iterable of ObjectBoxes): from :func:`read_epic_kitchens_objects`.

    Returns:
        list of AnnotatedVideo: the same videos at 60 frames per second and (H, W) = (1080, 1920); the boxes
        of an action are those of its noun class in frames that appear in ``[start_s, end_s)``.
    """
    by_class: dict[tuple[str, int | None], list[ObjectBoxes]] = {}
    for found in objects:
        by_class.setdefault((found.video_id, found.label_index), []).append(found)
    results = []
    for video in videos:
        actions = []
        for action in video.actions:
            boxes: dict[int, tuple[Box, ...]] = {}
            for found in by_class.get((video.video_id, action.label_index), ()):
                # As for spans: a frame is inside if it appears in [start_s, end_s).
                at = found.frame / _OBJECTS_FPS + TICK_TOLERANCE_S
                if found.boxes and action.start_s <= at < action.end_s:
                    boxes[found.frame] = boxes.get(found.frame, ()) + found.boxes
            actions.append(replace(action, boxes=boxes))
        results.append(replace(video, fps=_OBJECTS_FPS, frame_size=_FRAME_SIZE, actions=tuple(actions)))
    return results


def _name(index: int, word: str, classes: Mapping[int, str] | None) -> str:
    if index < 0 or (classes is not None and index not in classes):
        raise ValueError(f"class {index} ({word!r}) is unknown")
    return word if classes is None else classes[index]


def _seconds(timestamp: str) -> float:
    """Seconds of ``HH:MM:SS.ff``."""
    parts = timestamp.split(":")
    if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        raise ValueError(f"timestamp must be HH:MM:SS.ff, not {timestamp!r}")
    seconds = number(parts[2], "the seconds")
    if int(parts[1]) >= 60 or not 0 <= seconds < 60:
        raise ValueError(
            f"timestamp must be HH:MM:SS.ff with minutes and seconds below 60, not {timestamp!r}"
        )
    return int(parts[0]) * 3600 + int(parts[1]) * 60 + seconds


def _literal_boxes(literal: str) -> tuple[Box, ...]:
    try:
        rows = ast.literal_eval(literal)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"bounding_boxes is not a list of tuples: {literal!r:.60}") from error
    if not isinstance(rows, (list, tuple)):
        raise ValueError(f"bounding_boxes is not a list: {literal!r:.60}")
    boxes = []
    for row in rows:
        if not isinstance(row, (list, tuple)) or len(row) != 4:
            raise ValueError(f"a box must be (top, left, height, width), not {row!r:.60}")
        top, left, height, width = (number(value, "a box's number") for value in row)
        boxes.append(clip_box((left, top, left + width, top + height), _FRAME_SIZE))
    return tuple(boxes)
