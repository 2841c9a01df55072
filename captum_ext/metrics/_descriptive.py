"""What the metrics share that describe a layer on a whole data set, not example by example."""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._summarised import SummarisedMetric
from captum_ext.metrics.summary import Summary

__all__ = ["Descriptive"]


class Descriptive(SummarisedMetric):
    """A metric that needs all examples at once: it counts them, and has no interval and no chance.

    A subclass defines ``update``, which adds to ``n``, and ``compute``.
    """

    higher_is_better: bool | None = None
    plot_upper_bound: float | None = None

    n: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("n", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def summary(self) -> Summary:
        """The value (of several the mean) with n, over all processes.

        Returns:
            Summary: Floats; the interval and chance are NaN.
        """
        value = float(self.compute().mean())
        with self._synced():
            n = int(self.n)
        return Summary(value=value, n=n, low=torch.nan, high=torch.nan, chance=torch.nan)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot the current value, or given ones as steps.

        Args:
            val (Tensor or sequence of Tensor, optional): Results of ``compute`` or ``forward``. Default: the
                current value.
            ax (matplotlib.axes.Axes, optional): Where to draw. Default: a new figure.

        Returns:
            tuple: The figure and the axes.
        """
        return self._plot(val, ax)
