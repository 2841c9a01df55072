"""Table 5 of Li et al. (2021): the pointing game in time (T-PT), and the frame AUC.

Is the frame with the highest sum of its map one of the class's action? The frame AUC looks at all frames: the
probability that one of the action scores above one of another. Clips are rand+GT+rand, six of 16 frames at a
random place are of the class. "Centre" points at the middle frame and scores the others by their distance to
it. A whole clip points at no frame, so there is no such row.

Other than in the paper: the class's action lies within another action, not beside background; small networks
(3-D CNN, CNN-LSTM) instead of R(2+1)D-18 and VGG16-LSTM; of the CNN-LSTM the last time step is explained, not
the mean over time; masks of one area, 10 %, instead of four; Grad-CAM and SaliencyTubes (whose maps have
eight steps of time on this 3-D CNN, not two), cEB-R and RISE are there as well. EP-3D-Evenly gives every
frame the same area and is left out, as in the paper.

With ``--data-root``: UCF101-24 (docs/annotations.md says which files), joined in the same way; the paper has
EPIC-Kitchens. With ``--checkpoint``, a CNN-LSTM that returns the scores of every time step, there is no 3-D
CNN. All clips: a large ``--limit``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from itertools import product

import torch

from benchmarks.ebr.methods import Method
from benchmarks.step.methods import PERTURBATIONS, every_method
from benchmarks.step.networks import Network
from benchmarks.step.options import (
    add_area_options,
    add_optimisation_options,
    add_rise_options,
    settings_of,
)
from benchmarks.step.protocol import GT_FRAMES, cell_of, experiment_of, joined_clips, networks_in
from benchmarks.suite.actions import N_FRAMES, Actions
from benchmarks.suite.batches import Batch
from benchmarks.suite.evaluation import Evaluated, Explained, Measures
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table
from captum_ext.metrics.functional import (
    frame_auc,
    frame_auc_chance,
    frames_inside,
    temporal_pointing_chance,
    temporal_pointing_game,
)

__all__ = ["add_arguments", "run"]

_RANDOM, _CENTRE = "random frame (exact)", "centre"
_ROWS = (
    "Grad-CAM",
    "SaliencyTubes",
    "EB-R",
    "cEB-R",
    "RISE",
    *(name for name in PERTURBATIONS if name != "EP-3D-Evenly"),
)
_MEASURES = {"hit": "T-PT (%)", "auc": "frame AUC (%)"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_optimisation_options(parser, limit=12)
    add_area_options(parser)
    add_rise_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Explain joined clips and point at a frame."""
    actions = Actions(arguments)

    def methods(network: Network) -> Mapping[str, Method]:
        found = every_method(network, arguments)
        return {name: found[name] for name in _ROWS if name in found}

    experiment = experiment_of(actions, joined_clips(actions), methods, _measure, _baselines)
    settings = {**actions.settings, **settings_of(arguments)}

    def tables(evaluated: Evaluated) -> list[Table]:
        return [_table(evaluated)]

    run_study(Study("step_table5", settings, actions.about, experiment, tables), arguments)


def _measure(batch: Batch, explained: Explained) -> Measures:
    scores = explained.scores.cpu()
    return {
        "hit": temporal_pointing_game(scores, batch.spans),
        "auc": frame_auc(scores, frames_inside(batch.spans, scores.shape[1])),
    }


def _baselines(batch: Batch) -> Mapping[str, Measures]:
    n_clips, n_frames = len(batch.spans), batch.boxes.shape[1]
    nearness = -(torch.arange(n_frames) - n_frames // 2).abs().float()
    return {
        _RANDOM: {
            "hit": temporal_pointing_chance(batch.spans, n_frames),
            "auc": frame_auc_chance(frames_inside(batch.spans, n_frames)),
        },
        _CENTRE: _measure(batch, Explained(nearness.expand(n_clips, -1))),
    }


def _table(evaluated: Evaluated) -> Table:
    networks = networks_in(evaluated)
    table = Table(
        "STEP Table 5: pointing in time (T-PT)",
        [f"{column}, {network}" for network in networks for column in _MEASURES.values()],
        f"{len(evaluated.values(_CENTRE, 'hit'))} clips rand+GT+rand of {N_FRAMES} frames, {GT_FRAMES} of "
        "the class's action; a hit: the frame with the highest sum of its map is one of them; 95 % bootstrap "
        "intervals over clips. The paper's T-PT, EPIC-Action with R(2+1)D / VGG16-LSTM: EB-R - / 57.0, EP-3D "
        "34.0 / 31.0, EP-3D (dt = 1, 2, 3) 46.0, 46.0, 41.0 / 39.0, 47.0, 45.0, STEP 47.0 / 49.0.",
    )
    for row, network in product((_RANDOM, _CENTRE, *_ROWS), networks):
        cell = cell_of(network, row) if row in _ROWS else row
        if cell not in evaluated.cells():
            continue
        for measure, column in _MEASURES.items():
            mean = Cell.of(evaluated.values(cell, measure))
            exact = Cell(mean.value, mean.n)
            table.add(row, f"{column}, {network}", exact if row == _RANDOM else mean)
    for column in table.columns:
        table.add("oracle", column, Cell(1.0, len(evaluated.values(_CENTRE, "hit"))))
    return table
