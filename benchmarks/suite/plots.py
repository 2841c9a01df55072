"""Plots of what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["plot_series"]

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
    for colour, (name, rows) in zip(_COLOURS, series.items(), strict=False):
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
