"""Neurons that at least one example of a data set switches on."""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._descriptive import Descriptive
from captum_ext.metrics.functional import neurons_ever_on
from captum_ext.metrics.functional._units import check_matches
from captum_ext.metrics.functional.neurons_on import check_threshold

__all__ = ["NeuronsEverOn"]


class NeuronsEverOn(Descriptive):
    """Number of units of a layer that at least one example switches on.

    It grows with the number of examples: compare networks on the same ones. ``NeuronsOn`` is the mean over
    examples, ``DeadNeurons`` what is left.

    Args:
        num_units (int): Number of units of the layer, U.
        threshold (float): A unit is on above it, in units of the activations.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - activations: (N, U) or (N, *)
        - compute: a scalar, float64, in 0..U; NaN before any example

    Example:
        >>> metric = NeuronsEverOn(num_units=3)
        >>> metric.update(torch.tensor([[0.0, 2.0, 0.1], [0.0, 0.0, 1.0]]))
        >>> metric.compute()
        tensor(2., dtype=torch.float64)
    """

    ever_on: Tensor

    def __init__(self, num_units: int, threshold: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_units < 1:
            raise ValueError(f"num_units must be at least 1, got {num_units}.")
        check_threshold(threshold)
        self.num_units, self.threshold = num_units, threshold
        self.add_state("ever_on", torch.zeros(num_units, dtype=torch.uint8), dist_reduce_fx="max")

    def update(self, activations: Tensor) -> None:
        """Look at examples.

        Args:
            activations (Tensor): Activations of the layer behind its ReLU, (N, *).

        Raises:
            TypeError: If the activations are not floating point.
            ValueError: If they have no batch axis, are empty or not finite, or have another number of units.
        """
        on = neurons_ever_on(activations, self.threshold)
        check_matches(len(on), self.num_units, "activations")
        self.ever_on |= on.to(self.ever_on)
        self.n += len(activations)

    def compute(self) -> Tensor:
        """Number of units that were on, a float64 scalar; NaN before any example."""
        return torch.where(self.n > 0, self.ever_on.sum().double(), torch.nan)
