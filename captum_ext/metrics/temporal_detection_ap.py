"""Average precision of temporal detections over a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._summarised import SummarisedMetric
from captum_ext.metrics._tables import TableMetric
from captum_ext.metrics.functional.temporal_average_precision import (
    ClassMatches,
    DetectionProtocol,
    check_protocol,
    detection_tables,
    match_detections,
)
from captum_ext.metrics.functional.video_ids import video_ids
from captum_ext.metrics.summary import Summary

__all__ = ["TemporalDetectionAP"]

_CHUNK = 4_000_000  # numbers in the largest tensor of the bootstrap


class TemporalDetectionAP(TableMetric, SummarisedMetric):
    """Mean average precision of temporal detections, under a named protocol.

    The three protocols and their differences, which are large for duplicates, are those of
    :func:`~captum_ext.metrics.functional.temporal_average_precision`. Detections are taken as they
    are; suppress duplicates with :func:`~captum_ext.metrics.functional.temporal_nms` before.

    A video may come in several updates and processes. Rows of different updates or entries that agree in
    everything (video, label, segment and score) are one, so samplers that repeat examples to fill up
    processes change nothing; equal rows of one entry are as many as they are. Equal scores are ordered by
    video, start and end, truths by start and end, so the order of updates does not matter either.

    ``summary`` tells the mean over the thresholds, its 95 % bootstrap interval over videos (with a fixed
    seed), and as ``n`` the number of videos with a detection or a truth. A random detector has no AP of its
    own, so chance is NaN.

    Args:
        num_classes (int): Number of classes, C.
        protocol (str): ``"activitynet"``, ``"thumos14"`` (kit of 2015) or ``"thumos14-2014"``.
        thresholds (sequence of float, optional): IoU thresholds, each in (0, 1]. Default: the protocol's, 0.5
            to 0.95 in steps of 0.05; 0.5; 0.1 to 0.5 in steps of 0.1.
        n_resamples (int): Resamples of the bootstrap.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - compute: a dict of float64 scalars in 0..1, NaN before any truth: ``"mAP"``, the mean over the
          thresholds, and one for each, such as ``"mAP_0.5"``; each a mean over the classes that occur

    Example:
        >>> metric = TemporalDetectionAP(num_classes=2, protocol="thumos14", thresholds=[0.3, 0.5])
        >>> preds = {"segments": torch.tensor([[0.0, 4.0]]), "scores": torch.tensor([0.9]),
        ...          "labels": torch.tensor([1])}
        >>> target = {"segments": torch.tensor([[0.0, 8.0]]), "labels": torch.tensor([1])}
        >>> metric.update([preds], [target], ["video_test_0000004"])
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'mAP': 0.5, 'mAP_0.3': 1.0, 'mAP_0.5': 0.0}

    References:
        Caba Heilbron et al., ActivityNet, CVPR 2015; Idrees et al., The THUMOS challenge on action
        recognition for videos "in the wild", CVIU 155, 2017.
    """

    higher_is_better: bool = True

    def __init__(
        self,
        num_classes: int,
        protocol: DetectionProtocol = "activitynet",
        thresholds: Sequence[float] | None = None,
        n_resamples: int = 1000,
        **kwargs: Any,
    ) -> None:
        if num_classes < 1 or n_resamples < 1:
            raise ValueError(
                f"num_classes and n_resamples must be at least 1, got {num_classes} and {n_resamples}."
            )
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.protocol: DetectionProtocol = protocol
        self.thresholds = check_protocol(protocol, thresholds)
        self.n_resamples = n_resamples
        for name, columns in (("detections", 6), ("truths", 5), ("ambiguous", 3)):
            self._add_table(name, columns)

    def update(
        self,
        preds: Sequence[Mapping[str, Tensor]],
        target: Sequence[Mapping[str, Tensor]],
        videos: Tensor | Sequence[int] | Sequence[str],
    ) -> None:
        """Count videos, or parts of videos.

        Args:
            preds (sequence of mapping): For each entry ``"segments"`` (D, 2) as ``[start, end)`` in seconds
                or frames of the video, ``"scores"`` (D,) and ``"labels"`` (D,), whole numbers.
            target (sequence of mapping): For each entry ``"segments"`` (G, 2) and ``"labels"`` (G,), and if
                there are any ``"ambiguous"`` (A, 2).
            videos (Tensor or sequence): Id of the video of each entry, whole numbers or names.

        Raises:
            TypeError: If something is not a tensor, or labels are not integers.
            ValueError: If preds, target and videos differ in number, a key is missing, a shape or segment is
                bad, a score is not finite, or a label is outside 0..num_classes - 1.
        """
        tables = detection_tables(preds, target, video_ids(videos, len(preds)), self.num_classes)
        for name, rows in zip(("detections", "truths", "ambiguous"), tables, strict=True):
            self._append(name, rows)

    def compute(self) -> dict[str, Tensor]:
        """Mean AP over thresholds, and at each of them."""
        per_threshold = self._class_wise(self._matches()).nanmean(dim=1)
        names = [f"mAP_{threshold:g}" for threshold in self.thresholds]
        return {"mAP": per_threshold.mean(), **dict(zip(names, per_threshold, strict=True))}

    def class_wise(self) -> Tensor:
        """AP at each threshold of each class, over all processes.

        Returns:
            Tensor: Float64, (thresholds, num_classes); NaN for classes without a truth.
        """
        with self._synced():
            return self._class_wise(self._matches())

    def _class_wise(self, matches: list[ClassMatches]) -> Tensor:
        found = torch.stack([m.average_precision(self.protocol) for m in matches], dim=1)
        return found.to(self.device)

    def _matches(self) -> list[ClassMatches]:
        tables = [self._table(name) for name in ("detections", "truths", "ambiguous")]
        rows = [torch.unique(table, dim=0) if len(table) else table for table in tables]
        return match_detections(rows[0], rows[1], rows[2], self.num_classes, self.protocol, self.thresholds)

    def _summary(self) -> Summary:
        matches = self._matches()
        n_videos = len(matches[0].truths)
        low, high = self._interval(matches, n_videos)
        value = float(self._class_wise(matches).nanmean(dim=1).mean())
        return Summary(value=value, n=n_videos, low=low, high=high, chance=float("nan"))

    def _interval(self, matches: list[ClassMatches], n_videos: int) -> tuple[float, float]:
        if n_videos < 2:
            return float("nan"), float("nan")
        generator = torch.Generator().manual_seed(0)
        width = max(n_videos, *(m.right.numel() for m in matches))
        chunk = max(1, _CHUNK // width)
        means = []
        for first in range(0, self.n_resamples, chunk):
            size = min(chunk, self.n_resamples - first)
            drawn = torch.randint(n_videos, (size, n_videos), generator=generator)
            weights = torch.zeros(size, n_videos, dtype=torch.float64)
            weights.scatter_add_(1, drawn, torch.ones_like(weights))
            per_class = torch.stack([m.average_precision(self.protocol, weights) for m in matches], dim=2)
            means.append(per_class.nanmean(dim=2).mean(dim=1))
        resampled = torch.cat(means)
        resampled = resampled[~resampled.isnan()]  # a resample without any truth has no AP
        if len(resampled) == 0:
            return float("nan"), float("nan")
        low, high = resampled.quantile(resampled.new_tensor([0.025, 0.975])).tolist()
        return low, high
