"""Sanity checks: does a map depend on what the model has learned, on the class, on the order of frames?

Clips in which another action comes first (rand+GT, 16 frames), explained at the CNN-LSTM's last time step.

- Cascading randomisation (Adebayo et al., 2018): layers are made random from the top, one after the other,
  and the map is compared with the original (Spearman's rank correlation). Low is good: a map that stays the
  same shows the clip, not the model. Sixt et al. (ICML 2020) report that Excitation Backprop does not depend
  on later layers; contrast is meant to mend that.
- Another class: the same correlation between the maps of the true class and of another. Low is good.
- Order: 1 minus the correlation of S_t before and after the frames are shuffled, mapped back, beside the
  change of the model's probability. A method that sees every frame by itself has 0.
- "random map" draws the same numbers every time: so scores what never looks at the model, the class or the
  frames.
- Conservation: how far the sum of a map is from 1 (EB-R) or 0 (cEB-R). 0 is right.

With ``--data-root``: pairs of UCF101 clips; give a ``--checkpoint`` trained on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.ebr.methods import Method
from benchmarks.quality.methods import explanation, fast_maps, refuse_saved_maps
from benchmarks.step.networks import Network
from benchmarks.suite.actions import N_FRAMES, Actions
from benchmarks.suite.batches import Batch
from benchmarks.suite.clips import ActionClips
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained
from benchmarks.suite.options import add_run_options
from benchmarks.suite.plots import plot_series
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table
from captum_ext.metrics.functional import (
    conservation_residual,
    order_sensitivity,
    parameter_randomization,
    random_target,
)

__all__ = ["add_arguments", "run"]

_LAYERS = ("classifier", "lstm", "fc", "embedding", "features")
"""From the top; "fc" are those of VGG-16, "embedding" that of the small network."""
_N_ORDERS = 5
_CONSERVED = {"EB-R": 1.0, "cEB-R": 0.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_run_options(parser)
    parser.set_defaults(test=5)


def run(arguments: argparse.Namespace) -> None:
    """Explain again, by models, for classes and in orders that should give other maps."""
    refuse_saved_maps(arguments)
    actions = Actions(arguments)
    clips = actions.limited(actions.concatenated("rand+GT"))

    def experiment(with_methods: bool) -> Experiment:
        network = Network("CNN-LSTM", actions.cnn_lstm())
        cells = {
            name: _checked(name, method, network, len(actions.labels), arguments.seed)
            for name, method in fast_maps(network, arguments.seed).items()
        }
        source = ActionClips(clips, actions.transform, N_FRAMES)
        return Experiment(source, cells, lambda batch, explained: {}, models=[network.module])

    run_study(Study("sanity", actions.settings, actions.about, experiment, _tables, _figures), arguments)


def _checked(name: str, method: Method, network: Network, n_classes: int, seed: int) -> Method:
    """The method's maps with what the checks say of them."""
    names = {module for module, _ in network.module.named_modules()}
    layers = [layer for layer in _LAYERS if layer in names]

    def explain(batch: Batch) -> Explained:
        explained = method(batch)
        assert explained.maps is not None  # noqa: S101 - every method here says where
        again, clips, target = explanation(method, batch), batch.clips, batch.labels
        randomised = parameter_randomization(network.module, again, clips, target, layers=layers, seed=seed)
        orders = [
            order_sensitivity(network.scores, again, clips, target, seed=seed + n) for n in range(_N_ORDERS)
        ]
        values = {
            **dict(zip(randomised.layers, randomised.similarities.unbind(1), strict=True)),
            "another class": random_target(again, clips, target, n_classes, seed=seed),
            "order, map": torch.stack([order.maps for order in orders]).mean(0),
            "order, output": torch.stack([order.output for order in orders]).mean(0),
        }
        if name in _CONSERVED:
            values["conservation"] = conservation_residual(explained.maps, _CONSERVED[name])
        return Explained(explained.scores, explained.maps, values)

    return explain


def _tables(evaluated: Evaluated) -> list[Table]:
    n_clips = len({record.clip for record in evaluated.records})
    randomised = {layer: f"{'+ ' if i else ''}{layer}" for i, layer in enumerate(_randomised(evaluated))}
    others = ("another class", "order, map", "order, output", "conservation")
    table = Table(
        "Sanity checks",
        [*randomised.values(), *others],
        f"{n_clips} clips rand+GT; everything times 100; 95 % bootstrap intervals over clips. First columns: "
        "rank correlation with the original map when these layers are random, 0 is right; another class: the "
        f"same with the map of another class; order: 1 - correlation of S_t under shuffled frames (mean over "
        f"{_N_ORDERS} orders, the same for all clips), beside the change of the probability; "
        "conservation: |sum - expected|, 0 is right. The random map is the same whatever the model.",
    )
    for row in evaluated.cells():
        for layer, column in randomised.items():
            table.add(row, column, Cell.of(evaluated.values(row, layer)))
        for column in others:
            values = evaluated.values(row, column)
            if not bool(values.isnan().all()):
                table.add(row, column, Cell.of(values))
    return [table]


def _randomised(evaluated: Evaluated) -> list[str]:
    """The layers that the network has."""
    return [layer for layer in _LAYERS if any(layer in record.values for record in evaluated.records)]


def _figures(evaluated: Evaluated, folder: Path) -> Mapping[Path, str]:
    layers = _randomised(evaluated)
    curves = {
        name: torch.stack([evaluated.values(name, layer) for layer in layers], dim=1)
        for name in evaluated.cells()
    }
    file = plot_series(
        folder / "randomization.png",
        curves,
        f"layers made random, from the top ({', '.join(layers)})",
        "rank correlation with the original map",
        x=torch.arange(1, len(layers) + 1),
    )
    caption = "Cascading randomisation: mean over clips with a band of one standard deviation. Low is good."
    return {file: caption}
