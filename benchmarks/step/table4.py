"""Table 4 of Li et al. (2021): what makes masks smooth, and what it costs.

EP-3D, EP-3D with the same area in every frame, with seeds blurred along time (dt frames to each side), and
STEP. Beside the paper's pointing game in space (S-PT, see ``step_table3``): how much of a mask changes from
frame to frame, the probability that the class keeps with what the mask shows, and with ``--plateau`` the
share of the iterations that it took.

Other than in the paper: as for ``step_table3``.

With ``--data-root``: UCF101-24 (docs/annotations.md says which files), joined in the same way. With
``--checkpoint``, a CNN-LSTM that returns the scores of every time step, there is no 3-D CNN. All clips: a
large ``--limit``. Of saved maps (``--from-maps``) only S-PT is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from benchmarks.ebr.methods import Method
from benchmarks.step.methods import PERTURBATIONS, perturbations
from benchmarks.step.networks import Network
from benchmarks.step.options import add_area_options, add_optimisation_options, settings_of
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

_S_PT, _KEPT = "S-PT (%)", "kept probability (%)"
_VALUES = {"change": "change per frame (%)", "kept": _KEPT, "iterations": "iterations (%)"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_optimisation_options(parser, limit=12)
    add_area_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Explain joined clips by masks and look at the masks."""
    actions = Actions(arguments)
    pointing = pointing_on(actions.transform.crop_size)

    def methods(network: Network) -> Mapping[str, Method]:
        return perturbations(network, arguments)

    experiment = experiment_of(actions, joined_clips(actions), methods, pointing.measure, pointing.baselines)
    settings = {**actions.settings, **settings_of(arguments)}

    # Without a plateau every mask takes all iterations.
    columns = {name: title for name, title in _VALUES.items() if name != "iterations" or arguments.plateau}

    def tables(evaluated: Evaluated) -> list[Table]:
        return [_table(evaluated, network, pointing, columns) for network in networks_in(evaluated)]

    run_study(Study("step_table4", settings, actions.about, experiment, tables), arguments)


def _table(
    evaluated: Evaluated, network: str, pointing: SpatialPointing, columns: Mapping[str, str]
) -> Table:
    table = Table(
        f"STEP Table 4: methods for smoothness, {network}",
        [_S_PT, *columns.values()],
        f"{pointing_caption(pointing, evaluated)} Change per frame: mean absolute difference of a mask "
        "between neighbouring frames, as a share of the mask's mean. Kept: probability of the class with "
        "what the mask shows. The paper's S-PT, UCF101-24 with R(2+1)D / VGG16-LSTM: EP-3D 47.6 / 47.2, "
        "EP-3D-Evenly 47.4 / 53.2, EP-3D (dt = 1, 2, 3) 48.5, 47.9, 50.3 / 51.1, 52.6, 54.3, STEP 56.7 / "
        "52.7.",
    )
    table.add(RANDOM, _S_PT, pointing.rate(evaluated, RANDOM))
    table.add(CENTRE, _S_PT, pointing.rate(evaluated, CENTRE))
    # Saved maps know nothing of the masks.
    whole = Cell.of(evaluated.values(cell_of(network, "STEP"), "original"))
    if whole.n:
        table.add("whole clip", _KEPT, whole)
    for row in PERTURBATIONS:
        cell = cell_of(network, row)
        if cell not in evaluated.cells():
            continue
        table.add(row, _S_PT, pointing.rate(evaluated, cell))
        for measure, column in columns.items():
            found = Cell.of(evaluated.values(cell, measure))
            if found.n:
                table.add(row, column, found)
    table.add("oracle", _S_PT, Cell(1.0, pointing.counted(evaluated)[0]))
    return table
