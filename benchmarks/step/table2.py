"""Table 2 of Li et al. (2021): how little of a clip keeps the prediction.

The smallest area of EP-3D with which the class keeps 99 % of the probability that it has for the whole clip,
found by bisection to one hundredth. The clips show one action each; their class is explained, of the CNN-LSTM
at the last time step. Where no smaller area is enough, all of the clip is: that is the row "whole clip". A
random or centred mask of that kind has no meaning, so there are no such rows.

Other than in the paper: small networks (3-D CNN, CNN-LSTM) instead of R(2+1)D-18 and VGG16-LSTM; 99 % instead
of all of the probability, which an optimum of finitely many steps seldom reaches; the last time step instead
of the mean over time.

With ``--data-root``: UCF101-24 (docs/annotations.md says which files). With ``--checkpoint``, a CNN-LSTM that
returns the scores of every time step, there is no 3-D CNN. All clips: a large ``--limit``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.ebr.methods import Method
from benchmarks.step.methods import step_settings
from benchmarks.step.networks import Network
from benchmarks.step.options import add_optimisation_options, settings_of
from benchmarks.step.protocol import cell_of, experiment_of, networks_in
from benchmarks.suite.actions import N_FRAMES, Actions
from benchmarks.suite.batches import Batch
from benchmarks.suite.clips import ActionClips
from benchmarks.suite.evaluation import Evaluated, Explained, Measures
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table
from captum_ext.attr import SpatioTemporalExtremalPerturbation

__all__ = ["add_arguments", "run"]

_METHOD = "EP-3D"
_COLUMNS = {
    "area": "smallest share (%)",
    "volume": "mean of its mask (%)",
    "original": "probability, whole clip (%)",
    "kept": "probability, its mask (%)",
    "recognised": "recognised (%)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_optimisation_options(parser, limit=12)
    parser.add_argument("--threshold", type=float, default=0.99, help="share of the probability to keep")


def run(arguments: argparse.Namespace) -> None:
    """Look for the smallest areas."""
    actions = Actions(arguments)
    source = ActionClips(actions.limited(actions.clips("test")), actions.transform, N_FRAMES)

    def methods(network: Network) -> Mapping[str, Method]:
        return {_METHOD: _smallest(network, arguments)}

    def measure(batch: Batch, explained: Explained) -> Measures:
        assert explained.maps is not None  # noqa: S101 - the mask
        return {"volume": explained.maps.mean((1, 2, 3))}

    experiment = experiment_of(actions, source, methods, measure, lambda batch: {})
    settings = {**actions.settings, **settings_of(arguments), "threshold": arguments.threshold}

    def tables(evaluated: Evaluated) -> list[Table]:
        return [_table(evaluated, arguments.threshold)]

    run_study(Study("step_table2", settings, actions.about, experiment, tables), arguments)


def _smallest(network: Network, arguments: argparse.Namespace) -> Method:
    explainer, settings = SpatioTemporalExtremalPerturbation(network.module), step_settings(arguments)

    def explain(batch: Batch) -> Explained:
        found = explainer.minimum_area(
            batch.clips,
            target=network.target(batch),
            threshold=arguments.threshold,
            smoothness=None,
            settings=settings,
        )
        return Explained.of(
            found.masks,
            area=found.areas,
            original=found.original_probabilities,
            kept=found.probabilities,
            recognised=_recognised(network, batch),
        )

    return explain


@torch.no_grad()
def _recognised(network: Network, batch: Batch) -> Tensor:
    recognised: Tensor = network.scores(batch.clips).argmax(1) == batch.labels
    return recognised


def _table(evaluated: Evaluated, threshold: float) -> Table:
    table = Table(
        "STEP Table 2: minimum preservation ratios",
        list(_COLUMNS.values()),
        f"Smallest area of EP-3D that keeps {100 * threshold:g} % of the probability of a clip, mean over "
        f"{len({record.clip for record in evaluated.records})} clips; 95 % bootstrap intervals over clips. "
        "The paper, R(2+1)D and VGG16-LSTM: 17.0 and 28.0 on UCF101-24, 6.4 and 15.7 on EPIC-Object.",
    )
    for network in networks_in(evaluated):
        for measure, column in _COLUMNS.items():
            cell = Cell.of(evaluated.values(cell_of(network, _METHOD), measure))
            if cell.n:  # saved maps know the masks only
                table.add(network, column, cell)
    n_clips = len({record.clip for record in evaluated.records})
    table.add("whole clip", _COLUMNS["area"], Cell(1.0, n_clips))
    return table
