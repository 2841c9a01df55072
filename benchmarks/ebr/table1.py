"""Table 1 of Bargal et al. (2018): the pointing game in space.

Does the highest point of each frame's map lie on the acting person (here: shape)? EB, cEB and BP see every
frame by itself with the CNN, EB-R, cEB-R and BP-R explain the last time step of the CNN-LSTM that began with
it. A hit is a point less than the radius from a box of the class's action; frames without a box do not count.
The paper's circle of 15 pixels diameter on frames of 240 x 320 is one of 4 pixels on frames of 64 x 64.

With ``--data-root``: UCF101-24 (docs/annotations.md says which files).
"""

from __future__ import annotations

import argparse

from benchmarks.ebr.methods import frame_methods, recurrent_methods
from benchmarks.suite.actions import N_FRAMES, Actions
from benchmarks.suite.clips import ActionClips
from benchmarks.suite.evaluation import Evaluated, Experiment
from benchmarks.suite.options import add_run_options
from benchmarks.suite.spatial_pointing import CENTRE, RANDOM, SpatialPointing
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table

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
    pointing = SpatialPointing(size, _PAPER_RADIUS * min(size) / _PAPER_HEIGHT)

    def experiment(with_methods: bool) -> Experiment:
        if not with_methods:
            return Experiment(source, {}, pointing.measure, pointing.baselines)
        cnn_lstm, frame_cnn = actions.cnn_lstm(), actions.frame_cnn()
        methods = recurrent_methods(cnn_lstm)
        if frame_cnn is not None:
            methods |= frame_methods(frame_cnn)
        models = [model for model in (cnn_lstm, frame_cnn) if model is not None]
        wanted = {name: methods[name] for name in _ROWS if name in methods}
        return Experiment(source, wanted, pointing.measure, pointing.baselines, models)

    def tables(evaluated: Evaluated) -> list[Table]:
        return [_table(evaluated, pointing)]

    run_study(Study("ebr_table1", actions.settings, actions.about, experiment, tables), arguments)


def _table(evaluated: Evaluated, pointing: SpatialPointing) -> Table:
    of_frames, of_classes = "all frames (%)", "mean over classes (%)"
    n_clips, n_frames = pointing.counted(evaluated)
    height, width = pointing.size
    table = Table(
        "EB-R Table 1: pointing in space",
        [of_frames, of_classes],
        f"{n_frames} frames with a box in {n_clips} clips; a hit is less than {pointing.radius:g} pixels "
        f"from the box on {height} x {width} frames; 95 % bootstrap intervals over clips. "
        "The paper, UCF101-24 with VGG-16: EB 55.8, EB-R 61.5, cEB 37.0, cEB-R 39.1, BP 37.3, BP-R 39.2.",
    )
    for row in (RANDOM, CENTRE, *_ROWS):
        if row in evaluated.cells():
            table.add(row, of_frames, pointing.rate(evaluated, row))
            table.add(row, of_classes, pointing.rate(evaluated, row, by_class=True))
    for column in table.columns:
        table.add("oracle", column, Cell(1.0, n_clips))
    return table
