"""Tables and plots from the outcomes of all runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.excitation_dropout.evaluation import CURVES
from benchmarks.excitation_dropout.methods import RATED, STANDARD
from benchmarks.excitation_dropout.seeds import over_seeds
from benchmarks.excitation_dropout.training import Outcome
from benchmarks.tables import Cell, Table
from captum_ext.metrics import CompressionResilience

__all__ = ["Outcomes", "draw", "tables"]

Outcomes = Mapping[tuple[str, float], Mapping[int, Outcome]]
"""Method and drop rate to seed to outcome."""

_SEEDS = "Mean over seeds with Student's 95 % interval, cut off at 0 and 100 %."
_HISTORY = {
    "neurons_on": "neurons on",
    "peak_p_eb": "peak p_EB",
    "entropy_activations_histogram": "entropy of activations (histogram, nats)",
    "entropy_p_eb_histogram": "entropy of p_EB (histogram, nats)",
    "entropy_activations_shannon": "entropy of activations (Shannon, nats)",
    "entropy_p_eb_shannon": "entropy of p_EB (Shannon, nats)",
}
_LEVELS = {"mass": "cumulated p_EB of the units off", "units": "share of units off"}


def tables(outcomes: Outcomes, rate: float) -> list[Table]:
    """All tables; methods are compared at ``rate``."""
    main = {method: runs for (method, p), runs in outcomes.items() if p == rate}
    return [
        _accuracy_table(main),
        _utilization_table(main),
        _compression_table(main),
        *([_rate_table(outcomes)] if len({p for _, p in outcomes}) > 1 else []),
    ]


def _cell(runs: Mapping[int, Outcome], value: Callable[[Outcome], float]) -> Cell:
    return over_seeds([value(run) for run in runs.values()])


def _accuracy_table(main: Mapping[str, Mapping[int, Outcome]]) -> Table:
    table = Table(
        "Accuracy (Figure 5.3, Table 5.1)",
        ["test (%)", "training (%)", f"test - {STANDARD} (points)"],
        f"{_SEEDS} The difference is paired by seed: same first weights, same order of images.",
    )
    for method, runs in main.items():
        table.add(method, "test (%)", _cell(runs, lambda run: run.final.accuracy))
        table.add(method, "training (%)", _cell(runs, lambda run: run.final.train_accuracy))
        standard = main.get(STANDARD, {})
        both = [runs[s].final.accuracy - standard[s].final.accuracy for s in runs if s in standard]
        if method != STANDARD and both:
            table.add(method, f"test - {STANDARD} (points)", over_seeds(both, (-1, 1)))
    return table


def _utilization_table(main: Mapping[str, Mapping[int, Outcome]]) -> Table:
    measures = list(next(iter(next(iter(main.values())).values())).final.utilization)
    yardstick = STANDARD if STANDARD in main else next(iter(main))
    threshold = float(torch.cat([run.final.filter_change for run in main[yardstick].values()]).median())
    conservative = "conservative filters (%)"
    table = Table(
        "Utilisation of the first linear layer (Table 5.3)",
        [*(f"{measure} (%)" for measure in measures), conservative],
        f"Over test images, in evaluation mode. {_SEEDS} Neurons and conservative filters as shares of the "
        "layer's units; peak p_EB as probability; entropies as shares of the largest possible, ln U "
        "(Shannon) and the logarithm of the number of bins or, if that is smaller, of images (histogram). "
        "Change of a filter: as a share of its norm. Conservative: moved by less than "
        f"{threshold:.3g}, the median of {yardstick}, so that its own share is about half.",
    )
    for method, runs in main.items():
        finals = [run.final for run in runs.values()]
        for measure in measures:
            table.add(method, f"{measure} (%)", over_seeds([final.utilization[measure] for final in finals]))
        shares = [float((final.filter_change < threshold).double().mean()) for final in finals]
        table.add(method, conservative, over_seeds(shares))
    return table


def _compression_table(main: Mapping[str, Mapping[int, Outcome]]) -> Table:
    table = Table(
        "Resilience to compression (Figure 5.5)",
        ["whole network (%)", *(f"{name} (%)" for name in CURVES)],
        "Area under the curve of the true class's probability over the levels, divided by their width: the "
        "mean probability; of the whole network the probability. Relevant units by cumulated p_EB to 0.95, "
        "each image its own; random ones by number; pruned: the same units for all images, ranked by their "
        f"mean p_EB on training images. {_SEEDS}",
    )
    for method, runs in main.items():
        whole = [float(run.final.curves["random"].probability[0]) for run in runs.values()]
        table.add(method, "whole network (%)", over_seeds(whole))
        for name in CURVES:
            table.add(method, f"{name} (%)", over_seeds([run.final.areas[name] for run in runs.values()]))
    return table


def _rate_table(outcomes: Outcomes) -> Table:
    rates = sorted({rate for method, rate in outcomes if method in RATED})
    table = Table(
        "Sensitivity to the drop rate (Table 5.5)",
        [f"test (%), rate {rate:g}" for rate in rates],
        f"{_SEEDS} For Excitation Dropout the rate is 1 - P of eq. 5.1.",
    )
    for method in RATED:
        for rate in rates:
            runs = outcomes.get((method, rate), {})
            if runs:
                table.add(method, f"test (%), rate {rate:g}", _cell(runs, lambda run: run.final.accuracy))
    return table


def draw(outcomes: Outcomes, rate: float, folder: Path) -> dict[Path, str]:
    """All plots as PNG files, with captions; bands are the intervals of the tables."""
    matplotlib.use("Agg")
    main = {method: list(runs.values()) for (method, p), runs in outcomes.items() if p == rate}
    captions = {}

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for method, runs in main.items():
        _draw_history(axes, runs, "accuracy", method)
    axes.set_ylabel("test accuracy")
    axes.legend(fontsize="small")
    captions[_save(figure, folder / "accuracy.png")] = "Test accuracy by epoch"

    figure, grid = pyplot.subplots(2, 3, figsize=(13, 7))
    for axes, (name, title) in zip(grid.flat, _HISTORY.items(), strict=True):
        for method, runs in main.items():
            _draw_history(axes, runs, name, method)
        axes.set_title(title, fontsize="medium")
    grid.flat[0].legend(fontsize="small")
    captions[_save(figure, folder / "utilization.png")] = "Utilisation of the first linear layer by epoch"

    figure, grid = pyplot.subplots(2, 3, figsize=(13, 7), sharey=True)
    for axes, (name, options) in zip(grid.flat, CURVES.items(), strict=True):
        for method, runs in main.items():
            curves = [run.final.curves[name] for run in runs]
            _draw_band(axes, curves[0].levels.tolist(), [c.probability.tolist() for c in curves], method)
        axes.set_xlabel(_LEVELS[CompressionResilience(**options).by])
        axes.set_title(name, fontsize="medium")
    for axes in grid[:, 0]:
        axes.set_ylabel("probability of the true class")
    grid.flat[3].legend(fontsize="small")
    captions[_save(figure, folder / "compression.png")] = (
        "Probability of the true class as units are switched off"
    )

    if len({p for _, p in outcomes}) > 1:
        figure, axes = pyplot.subplots(figsize=(6, 4))
        for method in RATED:
            rates = sorted(p for name, p in outcomes if name == method)
            found = [_cell(outcomes[method, p], lambda run: run.final.accuracy) for p in rates]
            _draw_cells(axes, rates, found, method)
        axes.set_xlabel("drop rate")
        axes.set_ylabel("test accuracy")
        axes.legend(fontsize="small")
        captions[_save(figure, folder / "rates.png")] = "Test accuracy by drop rate"
    return captions


def _draw_history(axes: Axes, runs: Sequence[Outcome], name: str, label: str) -> None:
    _draw_band(axes, runs[0].history["epoch"], [run.history[name] for run in runs], label)
    axes.set_xlabel("epoch")


def _draw_band(axes: Axes, x: Sequence[float], rows: Sequence[Sequence[float]], label: str) -> None:
    cells = [over_seeds(values, (0, math.inf)) for values in zip(*rows, strict=True)]
    _draw_cells(axes, x, cells, label)


def _draw_cells(axes: Axes, x: Sequence[float], cells: Sequence[Cell], label: str) -> None:
    (line,) = axes.plot(x, [cell.value for cell in cells], label=label)
    ends = [cell.interval or (cell.value, cell.value) for cell in cells]
    axes.fill_between(
        x, [low for low, _ in ends], [high for _, high in ends], alpha=0.15, color=line.get_color()
    )


def _save(figure: Figure, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
