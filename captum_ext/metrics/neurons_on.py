"""Neurons on over a data set."""

from typing import Any

from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional import neurons_on
from captum_ext.metrics.functional.neurons_on import check_threshold

__all__ = ["NeuronsOn"]


class NeuronsOn(ExampleMean):
    """Number of units of a layer that an example switches on.

    Mean over examples of :func:`~captum_ext.metrics.functional.neurons_on`. The thesis counts more as better
    use of the network; that is a description, not a goal.

    Args:
        threshold (float): A unit is on above it, in units of the activations.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - activations: (N, U) or (N, *)
        - compute: a scalar, float64, in 0..U; NaN before any example

    Example:
        >>> import torch
        >>> metric = NeuronsOn()
        >>> metric.update(torch.tensor([[0.0, 2.0, 0.1], [0.0, 0.0, 1.0]]))
        >>> metric.compute()
        tensor(1.5000, dtype=torch.float64)

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, Table 5.3.
    """

    higher_is_better: bool | None = None
    plot_upper_bound: float | None = None

    def __init__(self, threshold: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_threshold(threshold)
        self.threshold = threshold

    def update(self, activations: Tensor) -> None:
        """Count examples.

        Args:
            activations (Tensor): Activations of the layer behind its ReLU, (N, *).

        Raises:
            TypeError: If the activations are not floating point.
            ValueError: If they have no batch axis, are empty or not finite.
        """
        self._add(neurons_on(activations, self.threshold))
