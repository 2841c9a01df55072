"""Average precision as a cell of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.tables import Cell
from captum_ext.metrics import TemporalDetectionAP
from captum_ext.metrics.functional.temporal_average_precision import DetectionProtocol

__all__ = ["Segments", "precision_cell"]


@dataclass(frozen=True, eq=False)
class Segments:
    """Segments of one video.

    Args:
        windows (Tensor): half-open, (D, 2).
        labels (Tensor): (D,).
        scores (Tensor, optional): of detections, (D,). Default: they are the truth
        ambiguous (Tensor, optional): of the truth, spans that belong to no class, (A, 2). Default: none
    """

    windows: Tensor
    labels: Tensor
    scores: Tensor | None = None
    ambiguous: Tensor | None = None


def precision_cell(
    found: Sequence[Segments],
    truth: Sequence[Segments],
    protocol: DetectionProtocol,
    threshold: float,
) -> Cell:
    """Mean average precision over classes with a bootstrap interval over videos."""
    labels = torch.cat([segments.labels for segments in (*found, *truth)])
    metric = TemporalDetectionAP(int(labels.max()) + 1, protocol, [threshold])
    metric.update(
        [{"segments": s.windows, "labels": s.labels, "scores": _scores(s)} for s in found],
        [_target(s) for s in truth],
        list(range(len(truth))),
    )
    summary = metric.summary()
    return Cell(summary.value, summary.n, (summary.low, summary.high))


def _target(segments: Segments) -> dict[str, Tensor]:
    target = {"segments": segments.windows, "labels": segments.labels}
    return target if segments.ambiguous is None else target | {"ambiguous": segments.ambiguous}


def _scores(segments: Segments) -> Tensor:
    return torch.ones(len(segments.windows)) if segments.scores is None else segments.scores
