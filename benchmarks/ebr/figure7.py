"""Figure 7 of Bargal et al. (2018): the evidence per frame across the boundary of two actions.

Clips of 16 frames, half of them of the class that is explained (GT), half of another (rand), in both orders.
S_t is the sum of each frame's map; for cEB-R it should be positive in the GT half and negative in the other,
and change its sign at the boundary. The paper sums at fc7, this benchmark at the frame maps below it, where
the sum is the same.

With ``--data-root``: pairs of UCF101 test clips, each spread uniformly over its half.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.ebr.methods import probability, recurrent_methods
from benchmarks.suite.actions import N_FRAMES, Actions
from benchmarks.suite.batches import Batch
from benchmarks.suite.clips import ActionClips, Parts
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained, Measures
from benchmarks.suite.options import add_run_options
from benchmarks.suite.plots import plot_series
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table
from captum_ext.metrics.functional import frame_auc, frames_inside

__all__ = ["add_arguments", "run"]

_ORDERS = ("rand+GT", "GT+rand")
_ROWS = ("cEB-R", "EB-R", "probability of the class")
_HALF = N_FRAMES // 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Explain pairs of clips and draw their evidence per frame."""
    actions = Actions(arguments)
    source = Parts(
        {
            order: ActionClips(actions.limited(actions.concatenated(order)), actions.transform, N_FRAMES)
            for order in _ORDERS
        }
    )

    def experiment(with_methods: bool) -> Experiment:
        if not with_methods:
            return Experiment(source, {}, _measure)
        model = actions.cnn_lstm()
        methods = recurrent_methods(model) | {_ROWS[2]: probability(model)}
        return Experiment(source, {name: methods[name] for name in _ROWS}, _measure, models=[model])

    def figures(evaluated: Evaluated, folder: Path) -> Mapping[Path, str]:
        series = {order: evaluated.part(order).rows("cEB-R", "scores") for order in _ORDERS}
        file = plot_series(
            folder / "figure7.png", series, "frame", "S_t of cEB-R", marks={"boundary": _HALF - 0.5}
        )
        return {
            file: "Sum of each frame's cEB-R map for clips in which the explained action (GT) comes second "
            "or first; mean over clips with a band of one standard deviation, as in Figure 7 of the paper."
        }

    study = Study("ebr_figure7", actions.settings, actions.about, experiment, _tables, figures)
    run_study(study, arguments)


def _measure(batch: Batch, explained: Explained) -> Measures:
    scores = explained.scores.cpu().double()
    inside = frames_inside(list(batch.spans), scores.shape[1])
    right = torch.where(inside, scores > 0, scores < 0).double()
    return {
        "scores": scores,
        "right sign": right.mean(1),
        "in GT": (scores * inside).sum(1),
        "in rand": (scores * ~inside).sum(1),
        "frame AUC": frame_auc(scores, inside),
    }


def _tables(evaluated: Evaluated) -> list[Table]:
    columns = {"right sign": "frames of right sign (%)", "frame AUC": "frame AUC (%)"}
    columns |= {"in GT": "evidence in GT (%)", "in rand": "evidence in rand (%)"}
    n_pairs = len(_of_pairs(evaluated, "cEB-R", "right sign"))
    table = Table(
        "EB-R Figure 7: evidence on both sides of the boundary",
        list(columns.values()),
        f"{n_pairs} pairs of clips in both orders, {N_FRAMES} frames; the evidence of cEB-R sums to 0 over a "
        "clip, that of EB-R to 100 % and is never negative; 95 % bootstrap intervals over pairs.",
    )
    table.add("random (exact)", columns["right sign"], Cell(0.5, n_pairs))
    table.add("random (exact)", columns["frame AUC"], Cell(0.5, n_pairs))
    for row in _ROWS:
        for measure, column in columns.items():
            if row != "cEB-R" and measure == "right sign":
                continue  # they are never negative
            if row == _ROWS[2] and measure.startswith("in "):
                continue  # probabilities are no evidence that could be summed
            if row in evaluated.cells():
                table.add(row, column, Cell.of(_of_pairs(evaluated, row, measure)))
    return [table]


def _of_pairs(evaluated: Evaluated, row: str, measure: str) -> Tensor:
    """The mean over the orders of each pair of clips: both show the same frames and are not independent."""
    found = defaultdict[str, list[float]](list)
    records = [record for record in evaluated.records if record.cell == row]
    for record, value in zip(records, evaluated.values(row, measure).tolist(), strict=True):
        order, _, clip = record.clip.partition(":")
        found[clip.removeprefix(f"{order}/")].append(value)
    return torch.tensor([sum(values) / len(values) for values in found.values()], dtype=torch.float64)
