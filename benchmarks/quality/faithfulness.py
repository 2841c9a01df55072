"""Faithfulness of all methods: deletion and insertion in space-time and frame by frame.

Clips in which another action comes first (rand+GT, 16 frames); the class of the second half is explained, for
the CNN-LSTM at its last time step. What the map marks is deleted (or inserted) step by step, and the area
under the probability of the class is taken: low is good for deletion, high for insertion. ABPC, the area
between least-relevant-first and most-relevant-first deletion, is 0 for a random map in expectation, and
depends less on what stands in for deleted pixels. Frames are deleted by four baselines (zero, blur, the mean
frame, freeze), since none of them is neutral: a black frame is something that a recurrent network has never
seen.

With ``--data-root``: pairs of UCF101 clips; give a ``--checkpoint`` trained on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Literal

from benchmarks.ebr.methods import Method
from benchmarks.quality.methods import RANDOM, every_map, refuse_saved_maps
from benchmarks.step.networks import Network, networks
from benchmarks.step.options import add_area_options, add_optimisation_options, add_rise_options, settings_of
from benchmarks.suite.actions import N_FRAMES, Actions
from benchmarks.suite.batches import Batch
from benchmarks.suite.clips import ActionClips
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table
from captum_ext.metrics.functional import abpc, area_under_curve, deletion_curve, insertion_curve

__all__ = ["add_arguments", "run"]

_BASELINES: tuple[Literal["zero", "blur", "mean_frame", "freeze"], ...]
_BASELINES = ("zero", "blur", "mean_frame", "freeze")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_optimisation_options(parser, limit=8)
    add_area_options(parser)
    add_rise_options(parser)
    parser.add_argument("--steps", type=int, default=16, help="of the curves over voxels")


def run(arguments: argparse.Namespace) -> None:
    """Explain, delete and insert."""
    refuse_saved_maps(arguments)
    actions = Actions(arguments)
    clips = actions.limited(actions.concatenated("rand+GT"))

    def experiment(with_methods: bool) -> Experiment:
        found = networks(actions)
        cells = {
            f"{network.name}: {name}": _with_curves(method, network, arguments.steps)
            for network in found
            for name, method in every_map(network, arguments).items()
        }
        source = ActionClips(clips, actions.transform, N_FRAMES)
        models = [network.module for network in found]
        return Experiment(source, cells, lambda batch, explained: {}, models=models)

    settings = actions.settings | settings_of(arguments) | {"steps": arguments.steps}
    run_study(Study("faithfulness", settings, actions.about, experiment, _tables), arguments)


def _with_curves(method: Method, network: Network, steps: int) -> Method:
    """The method's maps with the areas under their curves."""
    forward = network.scores

    def explain(batch: Batch) -> Explained:
        explained = method(batch)
        assert explained.maps is not None  # noqa: S101 - every method here says where
        clips, maps, target = batch.clips, explained.maps, batch.labels
        voxels = [
            deletion_curve(forward, clips, maps, target, steps=steps, order=order)
            for order in ("most_relevant_first", "least_relevant_first")
        ]
        values = {
            "deletion": area_under_curve(voxels[0]),
            "insertion": area_under_curve(insertion_curve(forward, clips, maps, target, steps=steps)),
            "ABPC": abpc(*voxels),
        }
        for baseline in _BASELINES:
            frames = [
                deletion_curve(forward, clips, maps, target, unit="frame", baseline=baseline, order=order)
                for order in ("most_relevant_first", "least_relevant_first")
            ]
            values[f"frame deletion, {baseline}"] = area_under_curve(frames[0])
            values[f"frame ABPC, {baseline}"] = abpc(*frames)
        return Explained(explained.scores, explained.maps, values)

    return explain


def _tables(evaluated: Evaluated) -> list[Table]:
    in_time = [f"frame {kind}, {baseline}" for kind in ("deletion", "ABPC") for baseline in _BASELINES]
    n_clips = len({record.clip for record in evaluated.records})
    about = f"{n_clips} clips rand+GT; probability of the class, times 100; 95 % bootstrap intervals. "
    return [
        _table(
            evaluated,
            "Faithfulness in space and time",
            ("deletion", "insertion", "ABPC"),
            f"{about}Deleted voxels are blurred. Deletion: low is good; insertion and ABPC: high is good.",
        ),
        _table(
            evaluated,
            "Faithfulness in time",
            in_time,
            f"{about}Frames go in the order of S_t. Deletion: low is good; ABPC: high is good, a random "
            "order has 0.",
        ),
    ]


def _table(evaluated: Evaluated, title: str, measures: Sequence[str], caption: str) -> Table:
    table = Table(title, list(measures), caption)
    # One network after the other, its random map last.
    rows = sorted(evaluated.cells(), key=lambda name: (name.partition(": ")[0], name.endswith(RANDOM), name))
    for row in rows:
        for measure in measures:
            table.add(row, measure, Cell.of(evaluated.values(row, measure)))
    return table
