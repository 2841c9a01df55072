"""States that are rows of numbers, for what can only be worked out once all processes' rows are together."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

__all__ = ["TableMetric"]


class TableMetric(Metric):
    """A metric that keeps rows of float64 and gathers them from all processes.

    A list state is never empty here: what torchmetrics makes of an empty one, so that it can be gathered,
    differs in number of axes and dtype from the rows of the other processes.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._columns: dict[str, int] = {}

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        for name in self._columns:
            self._start_table(name)

    def _add_table(self, name: str, columns: int) -> None:
        self._columns[name] = columns
        self.add_state(name, [], dist_reduce_fx="cat")
        self._start_table(name)

    def _start_table(self, name: str) -> None:
        getattr(self, name).append(
            torch.zeros(0, self._columns[name], dtype=torch.float64, device=self.device)
        )

    def _append(self, name: str, rows: Tensor) -> None:
        getattr(self, name).append(rows.detach().to(self.device, torch.float64))

    def _table(self, name: str) -> Tensor:
        """All rows of this process, or of all processes while the metric is synced, on the CPU."""
        rows: Tensor = dim_zero_cat(getattr(self, name))
        return rows.cpu()
