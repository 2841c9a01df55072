"""Plots of series."""

import torch

from benchmarks.suite.plots import plot_series


def test_every_series_is_drawn_however_many_there_are(tmp_path):
    names = [f"method {number}" for number in range(8)]
    series = {name: torch.rand(3, 5) for name in names}
    drawn = plot_series(tmp_path / "curves.svg", series, "frame", "score").read_text()
    assert all(f"<!-- {name} -->" in drawn for name in names)
