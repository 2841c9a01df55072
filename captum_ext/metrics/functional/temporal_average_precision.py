"""Average precision of temporal detections, under the three protocols in use."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext.metrics.functional.detection_matching import match_activitynet, match_thumos
from captum_ext.metrics.functional.temporal_nms import check_scores, check_segments, segment_iou
from captum_ext.metrics.functional.video_ids import check_labels

DetectionProtocol = Literal["activitynet", "thumos14", "thumos14-2014"]
_DEFAULT_THRESHOLDS: dict[str, tuple[float, ...]] = {
    "activitynet": tuple(percent / 100 for percent in range(50, 100, 5)),
    "thumos14": (0.5,),
    "thumos14-2014": (0.1, 0.2, 0.3, 0.4, 0.5),
}


def temporal_average_precision(
    preds: Sequence[Mapping[str, Tensor]],
    target: Sequence[Mapping[str, Tensor]],
    num_classes: int,
    protocol: DetectionProtocol = "activitynet",
    thresholds: Sequence[float] | None = None,
) -> Tensor:
    """Average precision of each class at each IoU threshold.

    The public evaluation codes disagree:

    =================  ==========================  ===========================  ============================
    ..                 ``"activitynet"``           ``"thumos14"`` (2015 kit)    ``"thumos14-2014"``
    =================  ==========================  ===========================  ============================
    matching           each detection, by score,   each truth, in order, takes the free detection that
                       takes the free truth that   overlaps it most, whatever its score
                       it overlaps most
    IoU = threshold    hit                         miss                         miss
    duplicates         wrong, unless they take     wrong with their own score, even above the right one
                       another truth
    ambiguous          none, ignored               detections that touch one and are not right are dropped
    AP                 area under the envelope     mean over truths of the      mean over recalls 0, 0.1,
                       of precision                precision at their hits      ..., 1 of the best precision
                                                                                from there on
    thresholds         0.5, 0.55, ..., 0.95        0.5                          0.1, 0.2, ..., 0.5
    =================  ==========================  ===========================  ============================

    Detections are taken as they are: suppress duplicates with
    :func:`~captum_ext.metrics.functional.temporal_nms` first. Of equal scores the earlier one comes first
    (videos in the order given, detections in theirs); of equal overlaps the earlier truth, or
    the detection of the higher score. Truths are taken in the order given. The official ActivityNet code
    leaves ties to an unstable sort.

    Args:
        preds (sequence of mapping): For each video ``"segments"`` (D, 2) as ``[start, end)`` in seconds or
            frames, ``"scores"`` (D,) and ``"labels"`` (D,), whole numbers.
        target (sequence of mapping): For each video ``"segments"`` (G, 2) and ``"labels"`` (G,), and if there
            are any ``"ambiguous"`` (A, 2), intervals that belong to no class.
        num_classes (int): Number of classes, C.
        protocol (str): ``"activitynet"``, ``"thumos14"`` or ``"thumos14-2014"``.
        thresholds (sequence of float, optional): IoU thresholds, each in (0, 1]. Default: the protocol's.

    Shape:
        - returns: (K, C), for K thresholds

    Returns:
        Tensor: AP in 0..1, float64; 0 for a class that nothing was detected of, NaN for a class that does not
        occur in the ground truth: leave it out of means with ``nanmean``.

    Raises:
        TypeError: If something is not a tensor, or labels are not integers.
        ValueError: If preds and target differ in number, a key is missing, a shape or segment is bad, a score
            is not finite, a label is outside 0..C-1, or protocol or thresholds are not valid.

    Example:
        >>> preds = [{"segments": torch.tensor([[0.0, 9.0], [2.0, 10.0]]),
        ...           "scores": torch.tensor([0.9, 0.8]), "labels": torch.tensor([0, 0])}]
        >>> target = [{"segments": torch.tensor([[0.0, 10.0]]), "labels": torch.tensor([0])}]
        >>> temporal_average_precision(preds, target, num_classes=1, thresholds=[0.5, 0.85])
        tensor([[1.],
                [1.]], dtype=torch.float64)

    References:
        Caba Heilbron et al., ActivityNet, CVPR 2015, and its evaluation code; Idrees et al., The THUMOS
        challenge on action recognition for videos "in the wild", CVIU 155, 2017, and its kits of 2014, 2015.
    """
    thresholds = check_protocol(protocol, thresholds)
    videos = torch.arange(len(preds))
    found = match_detections(
        *detection_tables(preds, target, videos, num_classes), num_classes, protocol, thresholds
    )
    return torch.stack([matches.average_precision(protocol) for matches in found], dim=1)


def check_protocol(protocol: str, thresholds: Sequence[float] | None) -> tuple[float, ...]:
    """Refuse unknown protocols and bad thresholds; give the protocol's own if there are none."""
    if protocol not in get_args(DetectionProtocol):
        names = ", ".join(repr(name) for name in get_args(DetectionProtocol))
        raise ValueError(f"protocol must be one of {names}, got {protocol!r}.")
    if thresholds is None:
        return _DEFAULT_THRESHOLDS[protocol]
    if len(thresholds) == 0 or len(set(thresholds)) < len(thresholds):
        raise ValueError(f"thresholds must be one or more different numbers, got {thresholds}.")
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise ValueError(f"thresholds must lie in (0, 1], got {threshold}.")
    return tuple(thresholds)


def detection_tables(
    preds: Sequence[Mapping[str, Tensor]],
    target: Sequence[Mapping[str, Tensor]],
    videos: Tensor,
    num_classes: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Put everything into rows, float64, on the CPU.

    Returns:
        tuple of Tensor: Detections (video, label, start, end, score, copy), truths (video, label, start, end,
        copy) and ambiguous intervals (video, start, end). The copy is the number of equal rows before it in
        its entry.
    """
    if len(preds) != len(target):
        raise ValueError(
            f"preds and target must be one entry per video each, got {len(preds)} and {len(target)}."
        )
    detections, truths, ambiguous = ([torch.zeros(0, columns, dtype=torch.float64)] for columns in (6, 5, 3))
    for row, (found, true) in enumerate(zip(preds, target, strict=True)):
        for name, entry, keys in (
            ("preds", found, ("segments", "scores", "labels")),
            ("target", true, ("segments", "labels")),
        ):
            missing = [key for key in keys if key not in entry]
            if missing:
                raise ValueError(f"{name}[{row}] must have the keys {', '.join(keys)}, but lacks {missing}.")
            check_segments(entry["segments"], f"{name}[{row}]['segments']")
            check_labels(entry["labels"], len(entry["segments"]), num_classes, f"{name}[{row}]['labels']")
        check_scores(found["scores"], len(found["segments"]), f"preds[{row}]['scores']")
        video = videos[row]
        detections.append(_counted(_rows(video, found["labels"], found["segments"], found["scores"])))
        truths.append(_counted(_rows(video, true["labels"], true["segments"])))
        if "ambiguous" in true:
            check_segments(true["ambiguous"], f"target[{row}]['ambiguous']")
            ambiguous.append(_rows(video, true["ambiguous"]))
    return torch.cat(detections), torch.cat(truths), torch.cat(ambiguous)


def _rows(video: Tensor, *columns: Tensor) -> Tensor:
    parts = [c.detach().cpu().double() for c in columns]
    parts = [c if c.dim() == 2 else c[:, None] for c in parts]
    return torch.cat([video.double().expand(len(parts[0]), 1), *parts], dim=1)


def _counted(rows: Tensor) -> Tensor:
    """The rows with a column that tells equal ones apart: how many came before."""
    seen: defaultdict[tuple[float, ...], int] = defaultdict(int)
    copies = []
    for row in rows.tolist():
        copies.append(seen[tuple(row)])
        seen[tuple(row)] += 1
    return torch.cat([rows, torch.tensor(copies, dtype=torch.float64).view(-1, 1)], dim=1)


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The detections of one class by descending score, with what each is at each threshold."""

    right: Tensor
    """Whether it is right, bool, (K, D)."""
    counted: Tensor
    """Whether it counts: all but those that an ambiguous interval forgives, bool, (K, D)."""
    video: Tensor
    """Video of each detection, as an index into all videos, (D,)."""
    truths: Tensor
    """Number of truths in each video, float64, (V,)."""

    def average_precision(self, protocol: DetectionProtocol, weights: Tensor | None = None) -> Tensor:
        """AP at each threshold, (K,); with the weights of the videos in each of R samples, (R, V): (R, K).

        Weights are whole: a video of weight 2 counts as two equal ones (under "thumos14" each of the two hits
        has the precision behind both).
        """
        if weights is None:
            return self.average_precision(protocol, torch.ones(1, len(self.truths), dtype=torch.float64))[0]
        n_truths = (weights @ self.truths)[:, None, None]
        per_detection = weights[:, self.video][:, None]
        right = self.right * per_detection
        hits = right.cumsum(dim=2)
        precision = hits / (self.counted * per_detection).cumsum(dim=2).clamp(min=1)
        if protocol == "thumos14-2014":
            # In whole numbers: 0.1 * 3 is more than 0.3, and a recall of 3 in 10 would miss it.
            reached = [precision * (10 * hits >= tenth * n_truths) for tenth in range(11)]
            # The 0 behind all is the precision at a recall that is never reached.
            found = torch.stack([F.pad(found, (0, 1)).amax(dim=2) for found in reached]).mean(dim=0)
        else:
            if protocol == "activitynet":
                precision = precision.flip(2).cummax(dim=2).values.flip(2)
            found = (right * precision).sum(dim=2) / n_truths[:, 0].clamp(min=1)
        return found.masked_fill(n_truths[:, :, 0] == 0, torch.nan)


def match_detections(
    detections: Tensor,
    truths: Tensor,
    ambiguous: Tensor,
    num_classes: int,
    protocol: DetectionProtocol,
    thresholds: Sequence[float],
) -> list[ClassMatches]:
    """Match the detections of each class, video by video."""
    ids = torch.cat([detections[:, 0], truths[:, 0]])
    videos, index = torch.unique(ids, return_inverse=True)
    video_of_detection, video_of_truth = index.split([len(detections), len(truths)])
    if protocol == "activitynet":
        match, forgiven = match_activitynet, torch.zeros(len(detections), dtype=torch.bool)
    else:
        match, forgiven = match_thumos, _touched(detections, ambiguous)
    order = detections[:, 4].argsort(descending=True, stable=True)
    matches = []
    for label in range(num_classes):
        mine = order[detections[order, 1] == label]
        my_truths = (truths[:, 1] == label).nonzero()[:, 0]
        detections_in = _places(video_of_detection[mine])
        right = torch.zeros(len(thresholds), len(mine), dtype=torch.bool)
        for video, true in _places(video_of_truth[my_truths]).items():
            places = detections_in.get(video)
            if places is None:
                continue
            iou = segment_iou(detections[mine[places], 2:4], truths[my_truths[true], 2:4]).tolist()
            for k, threshold in enumerate(thresholds):
                right[k, places] = torch.tensor(match(iou, threshold))
        counted = right | ~forgiven[mine]
        truths_per_video = torch.bincount(video_of_truth[my_truths], minlength=len(videos)).double()
        matches.append(ClassMatches(right, counted, video_of_detection[mine], truths_per_video))
    return matches


def _places(videos: Tensor) -> dict[int, list[int]]:
    """Where each video comes up."""
    places = defaultdict(list)
    for place, video in enumerate(videos.tolist()):
        places[video].append(place)
    return places


def _touched(detections: Tensor, ambiguous: Tensor) -> Tensor:
    """Detections that share more than an end with an ambiguous interval of their video, bool, (D,)."""
    touched = torch.zeros(len(detections), dtype=torch.bool)
    for video, start, end in ambiguous:
        touched |= (detections[:, 0] == video) & (detections[:, 2] < end) & (detections[:, 3] > start)
    return touched
