"""Table 1 of Bargal et al. (2018): the pointing game in space.

Does the highest point of each frame's map lie on the acting person (here: shape)? EB, cEB and BP see every
frame by itself with the CNN, EB-R, cEB-R and BP-R explain the last time step of the CNN-LSTM that began with
it. A hit is a point less than the radius from a box of the class's action; frames without a box do not count.
The paper's circle of 15 pixels diameter on frames of 240 x 320 is one of 4 pixels on frames of 64 x 64.

With ``--data-root``: UCF101-24 (docs/annotations.md says which files).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.ebr.methods import frame_methods, recurrent_methods
from benchmarks.suite.actions import N_FRAMES, Actions
from benchmarks.suite.batches import Batch
from benchmarks.suite.clips import ActionClips
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained, Measures
from benchmarks.suite.options import add_run_options
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table
from captum_ext.metrics.functional import (
    spatial_pointing_center,
    spatial_pointing_chance,
    spatial_pointing_game,
)

__all__ = ["add_arguments", "run"]

_PAPER_RADIUS, _PAPER_HEIGHT = 7.5, 240
_ROWS = ("EB", "EB-R", "cEB", "cEB-R", "BP", "BP-R")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_run_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Explain held-out clips and point."""
    actions = Actions(arguments)
    clips = actions.limited(actions.clips("test"))
    source = ActionClips(clips, actions.transform, N_FRAMES)
    size = actions.transform.crop_size
    radius = _PAPER_RADIUS * min(size) / _PAPER_HEIGHT

    def measure(batch: Batch, explained: Explained) -> Measures:
        assert explained.maps is not None  # noqa: S101 - every method here says where
        found = spatial_pointing_game(explained.maps.cpu(), batch.boxes, size, radius)
        return _counts(found.hits, found.valid, batch)

    def baselines(batch: Batch) -> Mapping[str, Measures]:
        center = spatial_pointing_center(batch.boxes, size, radius)
        chance = spatial_pointing_chance(batch.boxes, size, radius).nan_to_num(0.0)
        return {
            "random point (exact)": _counts(chance, center.valid, batch),
            "centre": _counts(center.hits, center.valid, batch),
        }

    def experiment(with_methods: bool) -> Experiment:
        if not with_methods:
            return Experiment(source, {}, measure, baselines)
        cnn_lstm, frame_cnn = actions.cnn_lstm(), actions.frame_cnn()
        methods = recurrent_methods(cnn_lstm)
        if frame_cnn is not None:
            methods |= frame_methods(frame_cnn)
        models = [model for model in (cnn_lstm, frame_cnn) if model is not None]
        wanted = {name: methods[name] for name in _ROWS if name in methods}
        return Experiment(source, wanted, measure, baselines, models)

    def tables(evaluated: Evaluated) -> list[Table]:
        return [_table(evaluated, radius, size)]

    run_study(Study("ebr_table1", actions.settings, actions.about, experiment, tables), arguments)


def _counts(hits: Tensor, valid: Tensor, batch: Batch) -> Measures:
    hits = hits.double() * valid
    return {"hits": hits.sum(1), "frames": valid.sum(1), "label": batch.labels.cpu()}


def _table(evaluated: Evaluated, radius: float, size: tuple[int, int]) -> Table:
    of_frames, of_classes = "all frames (%)", "mean over classes (%)"
    n_clips, n_frames = len(evaluated.values("centre", "frames")), evaluated.values("centre", "frames").sum()
    table = Table(
        "EB-R Table 1: pointing in space",
        [of_frames, of_classes],
        f"{int(n_frames)} frames with a box in {n_clips} clips; a hit is less than {radius:g} pixels from "
        f"the box on {size[0]} x {size[1]} frames; 95 % bootstrap intervals over clips. "
        "The paper, UCF101-24 with VGG-16: EB 55.8, EB-R 61.5, cEB 37.0, cEB-R 39.1, BP 37.3, BP-R 39.2.",
    )
    for row in ("random point (exact)", "centre", *_ROWS):
        if row not in evaluated.cells():
            continue
        hits, counted = evaluated.values(row, "hits"), evaluated.values(row, "frames")
        cell = Cell.ratio(hits, counted)
        table.add(row, of_frames, Cell(cell.value, cell.n) if row.endswith("(exact)") else cell)
        table.add(row, of_classes, _of_classes(hits, counted, evaluated.values(row, "label")))
    for column in table.columns:
        table.add("oracle", column, Cell(1.0, n_clips))
    return table


def _of_classes(hits: Tensor, counted: Tensor, label: Tensor) -> Cell:
    """Every class counts the same."""
    n_classes = int(label.max()) + 1
    sums = torch.zeros(2, n_classes, dtype=torch.float64)
    sums.index_add_(1, label.long(), torch.stack([hits, counted]))
    seen = sums[1] > 0
    shares = sums[0, seen] / sums[1, seen]
    return Cell(float(shares.mean()), len(shares))
