"""Plots of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.tables import Table

__all__ = ["plot_series", "plot_table"]

_PANELS = 3
_COLOURS = ("#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#ff7f0e", "#8c564b")


def plot_series(
    path: Path,
    series: Mapping[str, Tensor],
    x_label: str,
    y_label: str,
    x: Tensor | None = None,
    marks: Mapping[str, float] | None = None,
) -> Path:
    """Mean over clips as lines, with a band of one standard deviation.

    Args:
        path (Path): the PNG file.
        series (Mapping[str, Tensor]): name to one row of values per clip, (N, L).
        x_label (str): what the columns are.
        y_label (str): what the values are.
        x (Tensor, optional): position of each column, (L,). Default: 0, 1, 2 and on
        marks (Mapping[str, float], optional): named positions, drawn as dashed lines.
    """
    figure = Figure(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    for colour, (name, rows) in zip(cycle(_COLOURS), series.items(), strict=False):
        at = torch.arange(rows.shape[1]) if x is None else x
        mean, spread = rows.double().mean(0), rows.double().std(0, correction=0)
        axes.plot(at.numpy(), mean.numpy(), color=colour, label=name)
        axes.fill_between(
            at.numpy(), (mean - spread).numpy(), (mean + spread).numpy(), color=colour, alpha=0.2
        )
    for name, position in (marks or {}).items():
        axes.axvline(position, color="grey", linestyle="--", label=name)
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
    return path


def plot_table(path: Path, table: Table) -> Path:
    """The cells of a table as points with their intervals, one panel for each column.

    A random row that was computed is a dashed line, other values without an interval are open points.

    Args:
        path (Path): the PNG file.
        table (Table): its values are shares and shown as percentages.
    """
    lines = [name for name in table.rows if name.endswith("(exact)")]
    rows = [name for name in table.rows if name not in (*lines, "oracle")]
    wide = min(len(table.columns), _PANELS)
    high = -(-len(table.columns) // wide)
    size = (2.2 + 2.2 * wide, high * (1.0 + 0.26 * len(rows)))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    panels = list(figure.subplots(high, wide, sharey=True, squeeze=False).flat)
    for unused in panels[len(table.columns) :]:
        unused.set_visible(False)
    for panel, column in zip(panels, table.columns, strict=False):
        cells = {name: found[column] for name, found in table.rows.items() if column in found}
        for name in lines:
            if name in cells:
                panel.axvline(100 * cells[name].value, color="grey", linestyle="--", linewidth=1)
        for place, name in enumerate(rows):
            if name not in cells or math.isnan(cells[name].value):
                continue
            low, high_end = cells[name].interval or (cells[name].value,) * 2
            panel.hlines(place, 100 * low, 100 * high_end, color=_COLOURS[0])
            fill = "none" if cells[name].interval is None else _COLOURS[0]
            panel.plot(100 * cells[name].value, place, "o", color=_COLOURS[0], markersize=4, mfc=fill)
        if all(0 <= cell.value <= 1 for cell in cells.values()):
            panel.set_xlim(-3, 103)
        panel.set_title(column, fontsize=8)
        panel.tick_params(labelsize=8)
    figure.axes[0].set_yticks(range(len(rows)), rows)
    figure.axes[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.savefig(path)
    return path
