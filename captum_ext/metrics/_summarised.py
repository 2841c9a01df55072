"""What all metric classes share: a summary, a plot of it, and states that nothing corrupts unnoticed."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from captum_ext.metrics.summary import Summary

__all__ = ["SummarisedMetric"]


class SummarisedMetric(Metric):
    """A metric with ``summary`` and ``plot``.

    A subclass defines ``update``, ``compute`` and :meth:`_summary`, from states that processes can add up.
    """

    is_differentiable: bool = False
    full_state_update: bool = False
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    identity: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A MetricCollection updates only one of the metrics whose states are equal after the first batch,
        # and gives its states to the others. Hits under one tolerance may be those under another in the first
        # batch only, so no two metrics may look equal.
        self.add_state("identity", torch.tensor(list(uuid.uuid4().bytes)), dist_reduce_fx="max")

    def summary(self) -> Summary:
        """The value with n, 95 % interval and chance, over all processes.

        Returns:
            Summary: Floats; NaN where there is nothing to tell.
        """
        with self._synced():
            return self._summary()

    def plot(
        self, val: Tensor | dict[str, Tensor] | Sequence[Tensor] | None = None, ax: Any = None
    ) -> tuple[Any, Any]:
        """Plot the current value, or given ones as steps.

        Args:
            val (Tensor, dict or sequence, optional): Results of ``compute`` or ``forward``. Default: the
                current value, with its 95 % interval and a dashed line at chance.
            ax (matplotlib.axes.Axes, optional): Where to draw. Default: a new figure.

        Returns:
            tuple: The figure (None if ``ax`` was given) and the axes.
        """
        figure, axes = self._plot(val, ax)
        if val is None:
            summary = self.summary()
            drawn: Any = axes
            drawn.vlines(0, summary.low, summary.high, color="grey")
            if summary.chance == summary.chance:
                drawn.axhline(summary.chance, linestyle="--", color="grey", label="chance")
        return figure, axes

    def _summary(self) -> Summary:
        """The summary of the states as they are."""
        raise NotImplementedError

    def _synced(self) -> AbstractContextManager[None]:
        """Within it, the states are those of all processes together."""
        context: AbstractContextManager[None] = self.sync_context(
            dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute
        )
        return context

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
        # Counts in half precision stop at 256 or 2048. A module that is moved to bfloat16 (Lightning's
        # "bf16-true") takes its metrics along, so only the device may change here.
        return super()._apply(lambda state: state.to(fn(state).device), *args, **kwargs)
