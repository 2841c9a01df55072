"""Table 4 of Bargal et al. (2018): detection of actions in untrimmed videos.

For each class that a video has (its label is known), every clip gives one detection: the window that grows
from the frame with the most cEB-R evidence to the first negative frame on either side, or the frames around
the peak where the probability is 0.5 or more. The paper does not say what ranks detections, nor whether
windows that meet at the border of two clips are one; here a detection is ranked by the mean probability of
the class in its window, windows that touch are joined, and non-maximum suppression is not needed, since
windows of one class do not overlap otherwise.

Labels of a video are known to the method, as in the paper's own figure; its comparators are supervised and do
not know them, so the paper's Table 4 does not compare like with like. The baseline "whole video" knows the
labels too. The three public definitions of mAP are all given (docs/metrics.md).

Generated videos are cut into clips of 32 frames. With ``--data-root``: THUMOS14, clips of 128 frames.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks.ebr.detection import Segments, precision_cell
from benchmarks.ebr.untrimmed import PROBABILITY, Series, Untrimmed, add_untrimmed_options
from benchmarks.suite.evaluation import Evaluated
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Table
from captum_ext.grounding import greedy_window, threshold_scores
from captum_ext.metrics.functional.temporal_average_precision import DetectionProtocol

__all__ = ["add_arguments", "run"]

_THRESHOLDS = (0.1, 0.3, 0.5)
_PROTOCOLS: tuple[DetectionProtocol, ...] = ("thumos14", "thumos14-2014", "activitynet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_untrimmed_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Explain every clip for every class of its video and look for the action."""
    untrimmed = Untrimmed(arguments)

    def tables(evaluated: Evaluated) -> list[Table]:
        return [_table(evaluated, untrimmed)]

    study = Study("ebr_table4", untrimmed.settings, untrimmed.about, untrimmed.experiment, tables)
    run_study(study, arguments)


def _table(evaluated: Evaluated, untrimmed: Untrimmed) -> Table:
    p = Series.of(evaluated, PROBABILITY)
    windows = {
        "whole video": torch.tensor([[0, untrimmed.window]]).expand(len(p.scores), 2),
        PROBABILITY: greedy_window(threshold_scores(p.scores)),
        "cEB-R": greedy_window(Series.of(evaluated, "cEB-R").scores),
    }
    truth = [_truth(untrimmed, video) for video in range(len(untrimmed.videos))]
    table = Table(
        "EB-R Table 4: detection, labels known",
        [f"mAP at {threshold:g}, {protocol} (%)" for protocol in _PROTOCOLS for threshold in _THRESHOLDS],
        f"{len(truth)} videos with {sum(len(t.labels) for t in truth)} actions, clips of {untrimmed.window} "
        "frames; mean over classes, 95 % bootstrap intervals over videos. The paper, THUMOS14 at 0.1: 57.9.",
    )
    for row, found in windows.items():
        segments = [
            _detections(p, found, video, len(untrimmed.labels)) for video in range(len(untrimmed.videos))
        ]
        for protocol in _PROTOCOLS:
            for threshold in _THRESHOLDS:
                column = f"mAP at {threshold:g}, {protocol} (%)"
                table.add(row, column, precision_cell(segments, truth, protocol, threshold))
    return table


def _truth(untrimmed: Untrimmed, video: int) -> Segments:
    spans = [untrimmed.spans_of(video, label) for label in range(len(untrimmed.labels))]
    labels = torch.cat([torch.full((len(s),), label) for label, s in enumerate(spans)])
    return Segments(torch.cat([s.view(-1, 2) for s in spans]).double(), labels)


def _detections(p: Series, windows: Tensor, video: int, n_classes: int) -> Segments:
    """All detections in a video, in its frames, ranked by the mean probability inside."""
    found, labels, scores = [], [], []
    for label in range(n_classes):
        of_class = (p.videos == video) & (p.labels == label)
        order = p.starts[of_class].argsort()
        starts, local = p.starts[of_class][order], windows[of_class][order]
        mass = [row[s:e].sum() for row, (s, e) in zip(p.scores[of_class][order], local.tolist(), strict=True)]
        joined: list[list[float]] = []  # start, end, summed probability
        for start, (s, e), inside in zip(starts.tolist(), local.tolist(), mass, strict=True):
            if joined and joined[-1][1] >= start + s:
                joined[-1][2] += float(inside)
                joined[-1][1] = max(joined[-1][1], start + e)
            else:
                joined.append([start + s, start + e, float(inside)])
        found += [[s, e] for s, e, _ in joined]
        scores += [inside / (e - s) for s, e, inside in joined]
        labels += [label] * len(joined)
    return Segments(
        torch.tensor(found, dtype=torch.float64).view(-1, 2),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float64),
    )
