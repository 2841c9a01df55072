"""Table 3 of Li et al. (2021): the pointing game in space (S-PT) of seven methods on two networks.

Is the highest point of a frame's map on the acting person (here: shape)? Frames with a box of the class's own
action count; a hit is a point less than the radius, 7 pixels of 112, from the box.

Other than in the paper: the action fills six of 16 frames, with another action before and behind it, so that
the rest of the clip is there to be mistaken for it; small networks (3-D CNN, CNN-LSTM) instead of R(2+1)D-18
and VGG16-LSTM; of the CNN-LSTM the last time step is explained, not the mean over time; masks of one area,
10 %, instead of four; cEB-R and RISE are there as well. SaliencyTubes needs a pooling that the CNN-LSTM does
not have, EB-R a recurrent layer.

With ``--data-root``: UCF101-24 (docs/annotations.md says which files), joined in the same way. With
``--checkpoint``, a CNN-LSTM that returns the scores of every time step, there is no 3-D CNN. All clips: a
large ``--limit``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from benchmarks.ebr.methods import Method
from benchmarks.step.methods import every_method
from benchmarks.step.networks import Network
from benchmarks.step.options import (
    add_area_options,
    add_optimisation_options,
    add_rise_options,
    settings_of,
)
from benchmarks.step.protocol import (
    cell_of,
    experiment_of,
    joined_clips,
    networks_in,
    pointing_caption,
    pointing_on,
)
from benchmarks.suite.actions import Actions
from benchmarks.suite.evaluation import Evaluated
from benchmarks.suite.spatial_pointing import CENTRE, RANDOM, SpatialPointing
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table

__all__ = ["add_arguments", "run"]

_ROWS = ("Grad-CAM", "SaliencyTubes", "EB-R", "cEB-R", "RISE", "EP-3D", "STEP")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_optimisation_options(parser, limit=24)
    add_area_options(parser)
    add_rise_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Explain joined clips and point."""
    actions = Actions(arguments)
    pointing = pointing_on(actions.transform.crop_size)

    def methods(network: Network) -> Mapping[str, Method]:
        found = every_method(network, arguments)
        return {name: found[name] for name in _ROWS if name in found}

    experiment = experiment_of(actions, joined_clips(actions), methods, pointing.measure, pointing.baselines)
    settings = {**actions.settings, **settings_of(arguments)}

    def tables(evaluated: Evaluated) -> list[Table]:
        return [_table(evaluated, pointing)]

    run_study(Study("step_table3", settings, actions.about, experiment, tables), arguments)


def _table(evaluated: Evaluated, pointing: SpatialPointing) -> Table:
    columns = {network: f"S-PT (%), {network}" for network in networks_in(evaluated)}
    table = Table(
        "STEP Table 3: pointing in space (S-PT)",
        list(columns.values()),
        f"{pointing_caption(pointing, evaluated)} The paper, UCF101-24 with R(2+1)D / VGG16-LSTM: "
        "Grad-CAM 47.5 / 35.5, SaliencyTubes 41.4 / -, EB-R - / 46.5, EP-3D 47.6 / 47.2, STEP 56.7 / 52.7.",
    )
    for column in columns.values():
        table.add(RANDOM, column, pointing.rate(evaluated, RANDOM))
        table.add(CENTRE, column, pointing.rate(evaluated, CENTRE))
    for row in _ROWS:
        for network, column in columns.items():
            if cell_of(network, row) in evaluated.cells():
                table.add(row, column, pointing.rate(evaluated, cell_of(network, row)))
    for column in columns.values():
        table.add("oracle", column, Cell(1.0, pointing.counted(evaluated)[0]))
    return table
