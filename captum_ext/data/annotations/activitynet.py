"""ActivityNet json: actions in time, and results for its kit. THUMOS14 derivatives have the same form."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from captum_ext.data._atomic import replacing
from captum_ext.data.annotations._detections import checked
from captum_ext.data.annotations._faults import AnnotationError, Faults, OnError, member, number, text
from captum_ext.data.annotations._limits import Overrun, check_overrun, fit_to_duration
from captum_ext.data.annotations._text import read_json
from captum_ext.data.annotations.records import AMBIGUOUS, AnnotatedAction, AnnotatedVideo, Detection

__all__ = [
    "read_activitynet",
    "read_activitynet_results",
    "write_activitynet_results",
]


def read_activitynet(
    path: str | os.PathLike[str],
    subset: str | None = None,
    classes: Sequence[str] | None = None,
    overrun: Overrun = "raise",
    on_error: OnError = "raise",
) -> list[AnnotatedVideo]:
    """Read ``activity_net.v1-3.min.json``, or a THUMOS14 file of the same form.

    In the file: ``database`` from video ids (without the ``v_`` of the video files) to ``duration``,
    ``subset``, ``resolution`` and ``annotations`` of ``segment`` [start, end] and ``label``. Times are in
    **seconds** from the beginning of the video, also where derivatives write them as text (``"18.6"``); the
    end is taken as exclusive. A ``resolution`` is width x height. The label "Ambiguous" marks an ambiguous
    action.

    Args:
        path (str or os.PathLike): the file.
        subset (str, optional): return the videos of this subset alone, whatever its case: THUMOS14 files say
            "test" or "Test". Default: None, all
        classes (sequence of str, optional): the labels by index. Default: those that occur in the file, in
            alphabetical order
        overrun (str): what to do with an action that ends more than 0.1 s behind the duration: "raise",
            "keep" it (as the official kit does) or "cut" it, leaving it out if it begins there too. Up to
            0.1 s is rounding and is cut off, unless "keep". Default: "raise"
        on_error (str): "raise" at the first faulty action or video, or "skip" them with one warning.
            Default: "raise"

    Returns:
        list of AnnotatedVideo: in the order of the file. Videos of a testing subset may have no actions.

    Raises:
        AnnotationError: if the file is not of this form; a video id appears twice; a duration is not above 0;
            an action is empty, reversed or starts before 0; or a label is not in ``classes``.
        ValueError: if ``overrun`` or ``on_error`` is another word.
        FileNotFoundError: if there is no such file.

    References:
        Caba Heilbron et al., ActivityNet: a large-scale video benchmark for human activity understanding,
        CVPR 2015.
    """
    check_overrun(overrun)
    file = Path(path)
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise AnnotationError(f"{file}: has no object 'database'; is it a results file?")
    labels = _labels(content["database"]) if classes is None else tuple(classes)
    videos = []
    with Faults(file, on_error) as faults:
        for video_id, entry in content["database"].items():
            with faults.at(f"database/{video_id}"):
                found = text(member(entry, "subset"), "subset")
                if subset is not None and found.lower() != subset.lower():
                    continue
                header = AnnotatedVideo(
                    video_id=video_id,
                    duration_s=number(entry["duration"], "duration") if "duration" in entry else None,
                    fps=number(entry["fps"], "fps") if "fps" in entry else None,
                    frame_size=_frame_size(entry.get("resolution")),
                    subset=found,
                )
                actions = _actions(faults, header, entry.get("annotations", []), labels, overrun)
                videos.append(replace(header, actions=tuple(actions)))
    return videos


def read_activitynet_results(path: str | os.PathLike[str]) -> list[Detection]:
    """Read a results file: ``results`` from video ids to ``label``, ``score`` and ``segment``.

    Args:
        path (str or os.PathLike): the file. Times in seconds.

    Returns:
        list of Detection: in the order of the file.

    Raises:
        AnnotationError: if the file is not of this form, or a detection is empty in time or has a number that
            is not finite.
        FileNotFoundError: if there is no such file.
    """
    file = Path(path)
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise AnnotationError(f"{file}: has no object 'results'")
    detections = []
    with Faults(file, "raise") as faults:
        for video_id, entries in content["results"].items():
            with faults.at(f"results/{video_id}"):
                _check_list(entries, "the results of a video")
            for position, entry in enumerate(entries):
                with faults.at(f"results/{video_id}/{position}"):
                    start, end = _segment(entry)
                    label = text(member(entry, "label"), "label")
                    score = number(member(entry, "score"), "score")
                    detections.append(checked(Detection(video_id, start, end, label, score)))
    return detections


def write_activitynet_results(
    path: str | os.PathLike[str],
    detections: Iterable[Detection],
    version: str = "VERSION 1.3",
    external_data: Mapping[str, Any] | None = None,
) -> None:
    """Write detections as the official kit reads them, whole or not at all.

    Args:
        path (str or os.PathLike): the JSON file; replaced if it exists.
        detections (iterable of Detection): what was found. In each video their order is kept, which decides
            ties in the kit.
        version (str): of the ground truth. Default: "VERSION 1.3"
        external_data (mapping, optional): what the kit asks about other data used. Default: empty

    Raises:
        ValueError: if a number is not finite or an end is not after its start. Nothing is written then.
        FileNotFoundError: if the file's folder does not exist.

    Example::

        >>> import tempfile
        >>> found = [Detection("sJFgo9H6zNo", 0.5, 12.25, "Long jump", 0.75)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_activitynet_results(f"{folder}/run.json", found)
        ...     read_activitynet_results(f"{folder}/run.json") == found
        True
    """
    results: dict[str, list[dict[str, Any]]] = {}
    for detection in detections:
        video_id, start, end, label, score = checked(detection)
        entry = {"label": label, "score": float(score), "segment": [float(start), float(end)]}
        results.setdefault(video_id, []).append(entry)
    content = {"version": version, "results": results, "external_data": dict(external_data or {})}
    written = json.dumps(content, allow_nan=False)
    with replacing(Path(path)) as temporary:
        temporary.write_text(written, encoding="utf-8", newline="\n")


def _labels(database: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels that occur; what is malformed is reported when its video is read."""
    found = set()
    for entry in database.values():
        annotations = entry.get("annotations") if isinstance(entry, dict) else None
        for annotation in annotations if isinstance(annotations, list) else ():
            label = annotation.get("label") if isinstance(annotation, dict) else None
            if isinstance(label, str):
                found.add(label.strip())
    return tuple(sorted(found - {AMBIGUOUS, ""}))


def _actions(
    faults: Faults, video: AnnotatedVideo, annotations: Any, labels: Sequence[str], overrun: Overrun
) -> list[AnnotatedAction]:
    _check_list(annotations, "annotations")
    actions = []
    for position, annotation in enumerate(annotations):
        with faults.at(f"database/{video.video_id}/annotations/{position}"):
            start, end = _segment(annotation)
            label = text(member(annotation, "label"), "label")
            ambiguous = label == AMBIGUOUS and label not in labels
            if not ambiguous and label not in labels:
                raise ValueError(f"class {label!r} is unknown")
            index = None if ambiguous else labels.index(label)
            action = AnnotatedAction(label, index, start, end, ambiguous)
            fitted = fit_to_duration(action, video.duration_s, overrun)
            if fitted is not None:
                actions.append(fitted)
    return actions


def _segment(entry: Any) -> tuple[float, float]:
    segment = member(entry, "segment")
    if not isinstance(segment, list) or len(segment) != 2:
        raise ValueError(f"segment must be [start, end] in seconds, not {segment!r:.60}")
    return number(segment[0], "the start"), number(segment[1], "the end")


def _frame_size(resolution: Any) -> tuple[int, int] | None:
    """(H, W) from ``"320x240"``, which is width by height."""
    if resolution in (None, ""):
        return None
    width, cross, height = str(resolution).partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise ValueError(f'resolution must be as in "320x240", not {resolution!r:.60}')
    return int(height), int(width)


def _check_list(value: Any, name: str) -> None:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, not {type(value).__name__}")
