"""From annotations and detections to the arguments of the detection metric."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from captum_ext.data.annotations.records import AnnotatedAction, AnnotatedVideo, Detection

__all__ = ["detection_inputs"]


def detection_inputs(
    videos: Sequence[AnnotatedVideo], detections: Iterable[Detection], classes: Sequence[str]
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]], list[str]]:
    """Arrange detections and annotations per video, as ``TemporalDetectionAP.update`` takes them.

    Args:
        videos (sequence of AnnotatedVideo): the ground truth; also videos without an action count.
        detections (iterable of Detection): what was found in them, in seconds.
        classes (sequence of str): the labels by index.

    Shape:
        - segments: (D, 2) detections, (G, 2) actions; scores and labels: (D,) and (G,); ambiguous: (A, 2)

    Returns:
        tuple: ``preds``, for each video ``"segments"`` ``[start, end)`` in seconds (float64), ``"scores"``
        (float64) and ``"labels"`` (int64), in the order of the detections; ``target``, for each video
        ``"segments"``, ``"labels"`` and ``"ambiguous"``, in the order of the annotation; the video ids.

    Raises:
        ValueError: if a video appears twice, a detection is in a video that is not among them, or a label
            is not in ``classes``.

    Example::

        >>> truth = [AnnotatedVideo("v", actions=(AnnotatedAction("Diving", 0, 2.0, 6.0),))]
        >>> found = [Detection("v", 2.5, 6.0, "Diving", 0.75)]
        >>> preds, target, ids = detection_inputs(truth, found, ["Diving"])
        >>> preds[0]["segments"].tolist(), target[0]["labels"].tolist(), ids
        ([[2.5, 6.0]], [0], ['v'])
    """
    rows: dict[str, list[Detection]] = {video.video_id: [] for video in videos}
    if len(rows) < len(videos):
        raise ValueError("a video appears twice in the ground truth")
    for detection in detections:
        if detection.video_id not in rows:
            raise ValueError(f"{detection}: the video is not in the ground truth")
        rows[detection.video_id].append(detection)
    index = {label: position for position, label in enumerate(classes)}
    preds = [_intervals(found, index) | _scores(found) for found in rows.values()]
    target = []
    for video in videos:
        clear = [action for action in video.actions if not action.ambiguous]
        ambiguous = [action for action in video.actions if action.ambiguous]
        target.append(_intervals(clear, index) | {"ambiguous": _segments(ambiguous)})
    return preds, target, list(rows)


def _intervals(
    found: Sequence[AnnotatedAction] | Sequence[Detection], index: dict[str, int]
) -> dict[str, Tensor]:
    unknown = sorted({entry.label for entry in found} - index.keys())
    if unknown:
        raise ValueError(f"label {unknown[0]!r} is not one of the {len(index)} classes")
    labels = torch.tensor([index[entry.label] for entry in found], dtype=torch.int64)
    return {"segments": _segments(found), "labels": labels}


def _segments(found: Sequence[AnnotatedAction] | Sequence[Detection]) -> Tensor:
    return torch.tensor([(e.start_s, e.end_s) for e in found], dtype=torch.float64).reshape(-1, 2)


def _scores(found: Sequence[Detection]) -> dict[str, Tensor]:
    return {"scores": torch.tensor([detection.score for detection in found], dtype=torch.float64)}
