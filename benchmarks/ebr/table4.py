"""Table 4 of Bargal et al. (2018): detection of actions in untrimmed videos.

For each class that a video has (its label is known), every clip gives one detection: the window that grows
from the frame with the most cEB-R evidence to the first negative frame on either side, or the frames around
the peak where the probability is 0.5 or more. The paper does not say what ranks detections, nor whether
windows that meet at the border of two clips are one; here a detection is ranked by the mean probability of
the class in its window (where clips overlap, at the end of a video, the mean of both), and windows that touch
or overlap are joined, so that there is nothing for non-maximum suppression to do.

Labels of a video are known to the method, as in the paper's own figure; its comparators are supervised and do
not know them, so the paper's Table 4 does not compare like with like. The baseline "whole video" knows the
labels too. The three public definitions of mAP are all given (docs/metrics.md).

Generated videos are cut into clips of 32 frames. With ``--data-root``: THUMOS14, clips of 128 frames;
detections that touch an ambiguous interval and are not right are dropped under its protocols, as in the kit.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks.ebr.detection import Segments, precision_cell
from benchmarks.ebr.untrimmed import PROBABILITY, Series, Untrimmed, add_untrimmed_options
from benchmarks.suite.clips import runs
from benchmarks.suite.evaluation import Evaluated
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table
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
            _detections(p, found, number, video.n_frames, len(untrimmed.labels))
            for number, video in enumerate(untrimmed.videos)
        ]
        for protocol in _PROTOCOLS:
            for threshold in _THRESHOLDS:
                column = f"mAP at {threshold:g}, {protocol} (%)"
                table.add(row, column, precision_cell(segments, truth, protocol, threshold))
    for column in table.columns:
        table.add("oracle", column, Cell(1.0, len(truth)))
    return table


def _truth(untrimmed: Untrimmed, video: int) -> Segments:
    spans = [untrimmed.spans_of(video, label) for label in range(len(untrimmed.labels))]
    labels = torch.cat([torch.full((len(s),), label) for label, s in enumerate(spans)])
    ambiguous = torch.tensor(untrimmed.ambiguous.get(untrimmed.videos[video].video_id, []))
    return Segments(
        torch.cat([s.view(-1, 2) for s in spans]).double(), labels, ambiguous=ambiguous.view(-1, 2).double()
    )


def _detections(p: Series, windows: Tensor, video: int, n_frames: int, n_classes: int) -> Segments:
    """All detections in a video, in its frames, ranked by the mean probability inside."""
    found, labels, scores = [], [], []
    for label in range(n_classes):
        covered = torch.zeros(n_frames, dtype=torch.bool)
        total, times = torch.zeros(2, n_frames, dtype=torch.float64)
        of_class = (p.videos == video) & (p.labels == label)
        for start, (s, e), row in zip(
            p.starts[of_class].tolist(), windows[of_class].tolist(), p.scores[of_class], strict=True
        ):
            # What was filled up behind a short video is none of it.
            covered[start + s : start + e] = True
            inside = total[start : start + len(row)]
            inside += row[: len(inside)]
            times[start : start + len(row)] += 1
        probability = total / times.clamp(min=1)
        for s, e in runs(covered).tolist():
            found.append([s, e])
            scores.append(float(probability[s:e].mean()))
            labels.append(label)
    return Segments(
        torch.tensor(found, dtype=torch.float64).view(-1, 2),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float64),
    )
