"""Conservation residual over a data set: do maps hold the mass that their method promises?"""

from typing import Any

from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional import conservation_residual

__all__ = ["ConservationResidual"]


class ConservationResidual(ExampleMean):
    """Mean absolute difference of the mass of maps from what was put in; 0 is right, up to rounding.

    Mean over examples of :func:`~captum_ext.metrics.functional.conservation_residual`. It is a check of the
    method, not of the model; there is no chance value.

    Args:
        expected (float): Mass that was put in: 1 for EB and EB-R, 0 for the contrastive forms.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - maps: (N, ...)
        - delta: (N,)
        - compute: a scalar, float64, at least 0; NaN before any example

    Example:
        >>> import torch
        >>> metric = ConservationResidual()
        >>> metric.update(torch.tensor([[0.25, 0.5], [0.25, 0.75]]))
        >>> metric.compute()
        tensor(0.1250, dtype=torch.float64)

    References:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, section 3.
    """

    higher_is_better: bool = False
    plot_upper_bound: float | None = None

    def __init__(self, expected: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.expected = expected

    def update(self, maps: Tensor, delta: Tensor | None = None) -> None:
        """Count examples.

        Args:
            maps (Tensor): One map per example, as the method returned it, (N, ...).
            delta (Tensor, optional): Mass that the method reports as dropped, (N,).

        Raises:
            TypeError: If the maps are not floating point.
            ValueError: If shapes do not match, or something is empty or not finite.
        """
        self._add(conservation_residual(maps, self.expected, delta))

    def extra_repr(self) -> str:
        """What the figure depends on, for the printed name."""
        return f"expected={self.expected}"
