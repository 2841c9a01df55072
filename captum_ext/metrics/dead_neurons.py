"""Neurons that no example of a data set switches on."""

from torch import Tensor

from captum_ext.metrics.neurons_ever_on import NeuronsEverOn

__all__ = ["DeadNeurons"]


class DeadNeurons(NeuronsEverOn):
    """Number of units of a layer that no example switches on: U less ``NeuronsEverOn``.

    It falls with the number of examples: compare networks on the same ones.

    Args:
        num_units (int): Number of units of the layer, U.
        threshold (float): A unit is on above it, in units of the activations.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - activations: (N, U) or (N, *)
        - compute: a scalar, float64, in 0..U; NaN before any example

    Example:
        >>> import torch
        >>> metric = DeadNeurons(num_units=3)
        >>> metric.update(torch.tensor([[0.0, 2.0, 0.1], [0.0, 0.0, 1.0]]))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """Number of units that were never on, a float64 scalar; NaN before any example."""
        return self.num_units - super().compute()
