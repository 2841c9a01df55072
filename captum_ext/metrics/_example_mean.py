"""What the metrics share that are a mean of one value per example."""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._summarised import SummarisedMetric
from captum_ext.metrics.functional import wilson_interval
from captum_ext.metrics.functional.intervals import Z_95
from captum_ext.metrics.summary import Summary

__all__ = ["ExampleMean"]


class ExampleMean(SummarisedMetric):
    """Mean over examples, with n, interval and chance, all from sums that processes can add up.

    A subclass defines ``update`` and passes one value per independent example, and its chance where there is
    one, to :meth:`_add`. Values that are NaN are left out with their chance.

    The interval is Wilson's where values are hits and misses (``_votes``), else that of the normal
    distribution, ``mean ± 1.96 s / sqrt(n)``, cut off at the metric's bounds.
    """

    _votes: bool = False

    total: Tensor
    squares: Tensor
    n: Tensor
    chance_total: Tensor
    chance_n: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("total", "squares", "chance_total"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("n", "chance_n"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Mean over all examples so far, a float64 scalar; NaN before any."""
        return self.total / self.n

    def _summary(self) -> Summary:
        low, high = self._interval()
        return Summary(
            value=float(self.total / self.n),
            n=int(self.n),
            low=low,
            high=high,
            chance=float(self.chance_total / self.chance_n),
        )

    def _add(self, values: Tensor, chance: Tensor | None = None) -> None:
        """Count examples: one value each, (N,), and the value that a random answer is expected to have."""
        values = values.detach().to(self.total.device, torch.float64)
        counted = ~values.isnan()
        self.total += values[counted].sum()
        self.squares += values[counted].square().sum()
        self.n += counted.sum()
        if chance is not None:
            expected = chance.detach().to(self.total.device, torch.float64)[counted]
            self.chance_total += expected.sum()
            self.chance_n += len(expected)

    def _interval(self) -> tuple[float, float]:
        n = int(self.n)
        if self._votes:
            return wilson_interval(round(float(self.total)), n) if n else (float("nan"), float("nan"))
        if n < 2:
            return float("nan"), float("nan")
        mean = float(self.total) / n
        variance = max(0.0, (float(self.squares) - n * mean**2) / (n - 1))
        half = Z_95 * (variance / n) ** 0.5
        low, high = mean - half, mean + half
        if self.plot_lower_bound is not None:
            low = max(low, self.plot_lower_bound)
        if self.plot_upper_bound is not None:
            high = min(high, self.plot_upper_bound)
        return low, high
