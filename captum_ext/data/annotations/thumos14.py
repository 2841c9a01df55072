"""THUMOS14: twenty sports in untrimmed videos, in time; also the csv derivatives and the kit's detections."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captum_ext.data._atomic import replacing
from captum_ext.data.annotations._detections import checked
from captum_ext.data.annotations._faults import AnnotationError, Faults, OnError, number, text, whole
from captum_ext.data.annotations._limits import Overrun, check_overrun, fit_to_duration
from captum_ext.data.annotations._text import read_lines, read_table
from captum_ext.data.annotations.records import AMBIGUOUS, AnnotatedAction, AnnotatedVideo, Detection

__all__ = [
    "THUMOS14_CLASSES",
    "read_thumos14",
    "read_thumos14_classes",
    "read_thumos14_csv",
    "read_thumos14_detections",
    "write_thumos14_detections",
]

_NAMED = ("video", "type", "start", "end")
_INDEXED = ("video-name", "t-init", "t-end", "video-duration", "frame-rate", "video-frames", "label-idx")

THUMOS14_CLASSES: Mapping[int, str] = {
    7: "BaseballPitch",
    9: "BasketballDunk",
    12: "Billiards",
    21: "CleanAndJerk",
    22: "CliffDiving",
    23: "CricketBowling",
    24: "CricketShot",
    26: "Diving",
    31: "FrisbeeCatch",
    33: "GolfSwing",
    36: "HammerThrow",
    40: "HighJump",
    45: "JavelinThrow",
    51: "LongJump",
    68: "PoleVault",
    79: "Shotput",
    85: "SoccerPenalty",
    92: "TennisSwing",
    93: "ThrowDiscus",
    97: "VolleyballSpiking",
}
"""The 20 classes of ``detclasslist.txt`` by their UCF101 ids; in this order they have label index 0 to 19."""


def read_thumos14_classes(path: str | os.PathLike[str]) -> dict[int, str]:
    """Read ``detclasslist.txt``: a class id and a name a line.

    Args:
        path (str or os.PathLike): the file.

    Returns:
        dict: from class ids (those of UCF101, from 1) to names, in the order of the file.

    Raises:
        AnnotationError: if a line is not of this form, or an id or name appears twice.
        FileNotFoundError: if there is no such file.
    """
    file = Path(path)
    classes: dict[int, str] = {}
    with Faults(file, "raise") as faults:
        for line_number, line in read_lines(file):
            with faults.at(f"line {line_number}"):
                fields = line.split()
                if len(fields) != 2:
                    raise ValueError(f"expected a class id and a name, found {line!r}")
                class_id = whole(fields[0], "the class id")
                if class_id in classes or fields[1] in classes.values():
                    raise ValueError(f"{line!r}: the id or the name has appeared before")
                classes[class_id] = fields[1]
    return classes


def read_thumos14(
    folder: str | os.PathLike[str], subset: str, on_error: OnError = "raise"
) -> list[AnnotatedVideo]:
    """Read the annotation folder of the official kit.

    In the folder: ``detclasslist.txt``; for each class ``<Class>_<subset>.txt`` and, where there are any,
    ``Ambiguous_<subset>.txt``, with a line per action: video, start, end, separated by any white space. Times
    are in **seconds** from the beginning of the video, with one decimal; the end is taken as exclusive (at
    that precision the kit makes no difference). The files say nothing of durations and frame rates: some
    test videos are not at 30 frames per second.

    Known of the data, and left as it is, as the kit leaves it: every CliffDiving is annotated as Diving too,
    so the same interval comes back under two labels; ``video_validation_0000364`` and a few others have
    actions behind the end of the video, which shows only with the video at hand (``overrun`` of
    :func:`clips_of_videos`); of test video ``0001292`` everything is ambiguous; ``0000270`` and ``0001496``
    are mis-annotated, and some papers drop them.

    Args:
        folder (str or os.PathLike): the folder ``annotation``.
        subset (str): "val" or "test", as in the file names.
        on_error (str): "raise" at the first faulty line or "skip" faulty lines with one warning per file.
            Default: "raise"

    Returns:
        list of AnnotatedVideo: by video id; actions in the order of the class list, which also gives their
        label index; ambiguous ones last, with label "Ambiguous" and no label index.

    Raises:
        AnnotationError: if a file of a class is missing, or a line is faulty: no three fields, a negative
            start, an end that is not after its start.
        ValueError: if ``on_error`` is another word.
        FileNotFoundError: if there is no ``detclasslist.txt``.
    """
    root = Path(folder)
    names = list(read_thumos14_classes(root / "detclasslist.txt").values())
    actions: dict[str, list[AnnotatedAction]] = {}
    for label_index, label in enumerate([*names, AMBIGUOUS]):
        file = root / f"{label}_{subset}.txt"
        if not file.is_file():
            if label == AMBIGUOUS:
                continue
            raise AnnotationError(f"there is no {file}, although {label} is in detclasslist.txt")
        with Faults(file, on_error) as faults:
            for line_number, line in read_lines(file):
                with faults.at(f"line {line_number}"):
                    video_id, start, end = _interval(line)
                    action = AnnotatedAction(
                        label=label,
                        label_index=None if label == AMBIGUOUS else label_index,
                        start_s=start,
                        end_s=end,
                        ambiguous=label == AMBIGUOUS,
                    )
                    actions.setdefault(video_id, []).append(action)
    return [AnnotatedVideo(v, subset=subset, actions=tuple(actions[v])) for v in sorted(actions)]


def read_thumos14_csv(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    subset: str | None = None,
    overrun: Overrun = "raise",
    on_error: OnError = "raise",
) -> list[AnnotatedVideo]:
    """Read either of the two csv derivatives in circulation, told apart by their columns.

    * ``video, type, type_idx, start, end, startFrame, endFrame``: the class by its name ``type``
      (``type_idx`` counts differently in different copies and is not read);
    * ``video-name, t-init, t-end, f-init, f-end, video-duration, frame-rate, video-frames, label-idx``: the
      class by its position from **0** in alphabetical order, -1 for ambiguous.

    Times are in **seconds**, the end taken as exclusive. The frames were derived from them by each author's
    own rounding and are not read.

    Args:
        path (str or os.PathLike): the file.
        classes (sequence of str, optional): the labels by index. Default: the 20 of THUMOS14
        subset (str, optional): what to note as the videos' subset; the files do not say. Default: None
        overrun (str): what to do with an action that ends more than 0.1 s behind the duration: "raise",
            "keep" it (as the official kits do) or "cut" it, leaving it out if it begins there too. Up to
            0.1 s is rounding and is cut off, unless "keep". Files with ``type`` hold no durations, so nothing
            can be behind them. Default: "raise"
        on_error (str): "raise" at the first faulty row or "skip" faulty rows with one warning.
            Default: "raise"

    Returns:
        list of AnnotatedVideo: in the order of the file; with duration, frame rate and number of frames where
        the file has them.

    Raises:
        AnnotationError: if the columns are others, or a row is faulty.
        ValueError: if ``overrun`` or ``on_error`` is another word.
        FileNotFoundError: if there is no such file.
    """
    check_overrun(overrun)
    file = Path(path)
    labels = tuple(THUMOS14_CLASSES.values()) if classes is None else tuple(classes)
    videos: dict[str, _Rows] = {}
    with Faults(file, on_error) as faults:
        for line_number, row in read_table(file, faults, _NAMED, _INDEXED):
            with faults.at(f"line {line_number}"):
                if "type" in row:
                    _add_named(videos, row, labels)
                else:
                    _add_indexed(videos, row, labels, overrun)
    return [
        AnnotatedVideo(video_id, *rows.header, subset=subset, actions=tuple(rows.actions))
        for video_id, rows in videos.items()
    ]


def read_thumos14_detections(
    path: str | os.PathLike[str], classes: Mapping[int, str] | None = None
) -> list[Detection]:
    """Read a detections file of the official kit: ``video start end classid score`` a line.

    Args:
        path (str or os.PathLike): the file. Times in seconds, class ids those of UCF101.
        classes (mapping, optional): names by class id, as from :func:`read_thumos14_classes`.
            Default: :data:`THUMOS14_CLASSES`

    Returns:
        list of Detection: in the order of the file.

    Raises:
        AnnotationError: if a line is not of this form, is empty in time, or has an unknown class.
        FileNotFoundError: if there is no such file.
    """
    file = Path(path)
    names = THUMOS14_CLASSES if classes is None else classes
    detections = []
    with Faults(file, "raise") as faults:
        for line_number, line in read_lines(file):
            with faults.at(f"line {line_number}"):
                fields = line.split()
                if len(fields) != 5:
                    raise ValueError(f"expected video, start, end, class id and score, found {line!r}")
                class_id = whole(fields[3], "the class id")
                if class_id not in names:
                    raise ValueError(f"class id {class_id} is unknown")
                start, end = number(fields[1], "the start"), number(fields[2], "the end")
                score = number(fields[4], "the score")
                detections.append(checked(Detection(fields[0], start, end, names[class_id], score)))
    return detections


def write_thumos14_detections(
    path: str | os.PathLike[str],
    detections: Iterable[Detection],
    classes: Mapping[int, str] | None = None,
) -> None:
    """Write detections as the official kit reads them, whole or not at all.

    Args:
        path (str or os.PathLike): the text file; replaced if it exists.
        detections (iterable of Detection): what was found.
        classes (mapping, optional): names by class id. Default: :data:`THUMOS14_CLASSES`

    Raises:
        ValueError: if a detection has an unknown label, white space in its video id, a number that is not
            finite, or an end that is not after its start. Nothing is written then.
        FileNotFoundError: if the file's folder does not exist.

    Example::

        >>> import tempfile
        >>> found = [Detection("video_test_0000324", 49.2, 53.5, "Diving", 0.75)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_thumos14_detections(f"{folder}/run.txt", found)
        ...     print(Path(f"{folder}/run.txt").read_text().strip())
        ...     read_thumos14_detections(f"{folder}/run.txt") == found
        video_test_0000324 49.2 53.5 26 0.75
        True
    """
    ids = {name: class_id for class_id, name in (THUMOS14_CLASSES if classes is None else classes).items()}
    lines = []
    for detection in detections:
        video_id, start, end, label, score = checked(detection)
        if label not in ids:
            raise ValueError(f"{detection}: {label!r} is not one of the classes: {', '.join(ids)}")
        if video_id.split() != [video_id]:
            raise ValueError(f"{detection}: a video id in this format has no white space")
        lines.append(f"{video_id} {float(start)!r} {float(end)!r} {ids[label]} {float(score)!r}\n")
    with replacing(Path(path)) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


def _interval(line: str) -> tuple[str, float, float]:
    fields = line.split()
    if len(fields) != 3:
        raise ValueError(f"expected video, start and end, found {line!r}")
    return fields[0], number(fields[1], "the start"), number(fields[2], "the end")


@dataclass
class _Rows:
    """The rows of one video: duration, frame rate, number of frames; and its actions."""

    header: tuple[float | None, float | None, int | None]
    actions: list[AnnotatedAction] = field(default_factory=list)


def _add_named(videos: dict[str, _Rows], row: Mapping[str, str], labels: Sequence[str]) -> None:
    name = text(row["type"], "type")
    if name not in labels and name != AMBIGUOUS:
        raise ValueError(f"class {name!r} is unknown")
    action = AnnotatedAction(
        label=name,
        label_index=labels.index(name) if name in labels else None,
        start_s=number(row["start"], "start"),
        end_s=number(row["end"], "end"),
        ambiguous=name not in labels,
    )
    videos.setdefault(text(row["video"], "video"), _Rows((None, None, None))).actions.append(action)


def _add_indexed(
    videos: dict[str, _Rows], row: Mapping[str, str], labels: Sequence[str], overrun: Overrun
) -> None:
    index = whole(row["label-idx"], "label-idx")
    if not -1 <= index < len(labels):
        raise ValueError(f"label-idx {index} is not one of the {len(labels)} classes, nor -1 for ambiguous")
    duration = number(row["video-duration"], "video-duration")
    header = (
        duration,
        number(row["frame-rate"], "frame-rate"),
        whole(row["video-frames"], "video-frames"),
    )
    if min(header) <= 0:
        raise ValueError(f"video-duration, frame-rate and video-frames must be above 0, not {header}")
    video_id = text(row["video-name"], "video-name")
    if video_id in videos and videos[video_id].header != header:
        raise ValueError(f"{video_id!r} had (duration, rate, frames) {videos[video_id].header}, now {header}")
    action = AnnotatedAction(
        label=AMBIGUOUS if index < 0 else labels[index],
        label_index=None if index < 0 else index,
        start_s=number(row["t-init"], "t-init"),
        end_s=number(row["t-end"], "t-end"),
        ambiguous=index < 0,
    )
    fitted = fit_to_duration(action, duration, overrun)
    rows = videos.setdefault(video_id, _Rows(header))
    if fitted is not None:
        rows.actions.append(fitted)
