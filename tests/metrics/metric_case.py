"""What the shared tests of metric classes need to know about one of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torchmetrics


@dataclass(frozen=True)
class MetricCase:
    """A metric with the arguments of several updates, which differ in size.

    A descriptive metric has no better or worse.

    ``build`` is importable (a class or a function of a module), since processes are spawned with it.
    """

    name: str
    build: Callable[[], torchmetrics.Metric]
    updates: tuple[tuple, ...]
    has_chance: bool
    is_descriptive: bool = False

    def __str__(self):
        return self.name
