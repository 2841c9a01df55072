"""Table 2 of Bargal et al. (2018): detection of an action of known or unknown length.

An action of 11, 41 or 65 frames stands at a random place within another action, 128 frames in all; its label
is known. With its length known, the answer is the window of that length with the highest sum of evidence;
without, the window that grows from the frame with the most evidence to the first negative frame (section
4.1). A detection overlaps the action by a tIoU of 0.5 or more.

The paper calls its figure mAP; it does not say what ranks the detections. The first table gives accuracy (one
detection per clip); the second AP over all clips of a class, ranked by the sum of evidence inside the window,
by the ActivityNet protocol, mean over classes. At 65 frames the whole clip overlaps by 0.508 and is always
right: only 11 and 41 can tell methods apart.

Generated actions are cut out at their own frame rate; spread over a clip as in the paper, 11 frames of a
periodic motion would show no motion. With ``--data-root``: UCF101 test clips, spread over their whole length.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.ebr.detection import Segments, precision_cell
from benchmarks.ebr.methods import Method, probability, recurrent_methods
from benchmarks.suite.actions import Actions
from benchmarks.suite.batches import Batch
from benchmarks.suite.clips import ActionClips, Parts
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained, Measures
from benchmarks.suite.options import add_run_options
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table
from captum_ext.grounding import center_window, greedy_window, known_length_window, threshold_scores
from captum_ext.metrics.functional import (
    any_length_window_chance,
    frames_inside,
    random_window_chance,
    whole_clip_chance,
    window_accuracy,
)

__all__ = ["add_arguments", "run"]

_LENGTHS = (11, 41, 65)
_CLIP = 128
_IOU = 0.5
_PROBABILITY = "probability"
_ROWS = (_PROBABILITY, "EB-R", "cEB-R", "Grad-CAM")
_SIGNED = (_PROBABILITY, "cEB-R")  # EB-R and Grad-CAM are never negative, so no window of theirs ends


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_run_options(parser, group=2)
    parser.set_defaults(test=10)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(_LENGTHS), help="frames of the action")


def run(arguments: argparse.Namespace) -> None:
    """Explain clips of 128 frames and look for the action."""
    actions = Actions(arguments)
    source = Parts(
        {
            str(length): ActionClips(actions.limited(actions.inserted(length)), actions.transform, _CLIP)
            for length in arguments.lengths
        }
    )

    def experiment(with_methods: bool) -> Experiment:
        if not with_methods:
            return Experiment(source, {}, _measure, _baselines)
        model = actions.cnn_lstm()
        methods = recurrent_methods(model) | {_PROBABILITY: _thresholded(probability(model))}
        return Experiment(source, {name: methods[name] for name in _ROWS}, _measure, _baselines, [model])

    def tables(evaluated: Evaluated) -> list[Table]:
        return [_accuracies(evaluated, arguments.lengths), _precisions(evaluated, arguments.lengths)]

    settings = actions.settings | {"lengths": arguments.lengths}
    run_study(Study("ebr_table2", settings, actions.about, experiment, tables), arguments)


def _thresholded(method: Method) -> Method:
    """1 where the probability is 0.5 or more, else -1, as in the paper."""
    return lambda batch: Explained(threshold_scores(method(batch).scores))


def _measure(batch: Batch, explained: Explained) -> Measures:
    scores = explained.scores.cpu().double()
    spans = torch.cat(list(batch.spans))
    windows = {
        "known": known_length_window(scores, spans[:, 1] - spans[:, 0]),
        "unknown": greedy_window(scores),
    }
    found: dict[str, Tensor] = {"label": batch.labels.cpu(), "truth": spans}
    for kind, window in windows.items():
        found[f"{kind} hit"] = window_accuracy(window, spans, _IOU)
        found[f"{kind} window"] = window
        found[f"{kind} score"] = (scores * frames_inside(window, scores.shape[1])).sum(1)
    return found


def _baselines(batch: Batch) -> Mapping[str, Measures]:
    spans = torch.cat(list(batch.spans))
    center = center_window(_CLIP, spans[:, 1] - spans[:, 0])
    return {
        "centre": {"known hit": window_accuracy(center, spans, _IOU)},
        "random window (exact)": {
            "known hit": random_window_chance(spans, _CLIP, _IOU),
            "unknown hit": any_length_window_chance(spans, _CLIP, _IOU),
        },
        "whole clip": {"unknown hit": whole_clip_chance(spans, _CLIP, _IOU)},
    }


def _column(kind: str, length: int) -> str:
    return f"{kind} length, {length} frames (%)"


def _accuracies(evaluated: Evaluated, lengths: Sequence[int]) -> Table:
    table = Table(
        "EB-R Table 2: accuracy of detection",
        [_column(kind, length) for kind in ("known", "unknown") for length in lengths],
        f"Clips of {_CLIP} frames; a hit overlaps the action by a tIoU of {_IOU} or more; one detection per "
        "clip; 95 % bootstrap intervals over clips. The paper (11 / 41 / 65), known: probability 8.5 / 28.2 "
        "/ 47.7, EB-R 11.3 / 38.5 / 56.3, cEB-R 15.5 / 53.2 / 73.5; unknown: probability 3.4 / 9.5 / 35.7, "
        "cEB-R 4.1 / 47.9 / 62.0. At 65 frames the whole clip is always right.",
    )
    for length in lengths:
        part = evaluated.part(str(length))
        for row in ("random window (exact)", "centre", *_ROWS):
            if row in part.cells():
                hits = part.values(row, "known hit")
                cell = Cell.exact(hits) if row.endswith("(exact)") else Cell.of(hits)
                table.add(row, _column("known", length), cell)
        unknown = _column("unknown", length)
        random = Cell.exact(part.values("random window (exact)", "unknown hit"))
        table.add("random window (exact)", unknown, random)
        table.add("whole clip", unknown, Cell.of(part.values("whole clip", "unknown hit")))
        for row in _SIGNED:
            if row in part.cells():
                table.add(row, unknown, Cell.of(part.values(row, "unknown hit")))
        for kind in ("known", "unknown"):
            table.add("oracle", _column(kind, length), Cell(1.0, random.n))
    return table


def _precisions(evaluated: Evaluated, lengths: Sequence[int]) -> Table:
    table = Table(
        "EB-R Table 2: mean average precision of detection",
        [_column(kind, length) for kind in ("known", "unknown") for length in lengths],
        f"ActivityNet protocol, tIoU of {_IOU}, one detection per clip, ranked by the evidence inside it; "
        "mean over classes, 95 % bootstrap intervals over clips. A random detector has no AP of its own: see "
        "the accuracies.",
    )
    for length in lengths:
        part = evaluated.part(str(length))
        for kind, rows in (("known", _ROWS), ("unknown", _SIGNED)):
            for row in rows:
                if row in part.cells():
                    table.add(row, _column(kind, length), _precision(part, row, kind))
    return table


def _precision(part: Evaluated, row: str, kind: str) -> Cell:
    """Every clip is a video with one action and one detection."""
    labels = part.values(row, "label").long()[:, None]
    windows, spans = part.rows(row, f"{kind} window"), part.rows(row, "truth")
    scores = part.values(row, f"{kind} score")[:, None]
    found = [Segments(w[None], k, s) for w, k, s in zip(windows, labels, scores, strict=True)]
    truth = [Segments(span[None], k) for span, k in zip(spans, labels, strict=True)]
    return precision_cell(found, truth, "activitynet", _IOU)
