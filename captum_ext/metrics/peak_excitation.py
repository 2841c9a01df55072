"""Peak of p_EB over a data set."""

from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional import peak_excitation

__all__ = ["PeakExcitation"]


class PeakExcitation(ExampleMean):
    """Largest winning probability p_EB of a layer.

    Mean over examples of :func:`~captum_ext.metrics.functional.peak_excitation`; examples without any
    excitation are left out. The thesis counts less as better use of the network.

    Args:
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - excitation: (N, U) or (N, *)
        - compute: a scalar, float64, in 0..1; NaN before any example

    Example:
        >>> import torch
        >>> metric = PeakExcitation()
        >>> metric.update(torch.tensor([[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]]))
        >>> metric.compute()
        tensor(0.7500, dtype=torch.float64)

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, Table 5.3.
    """

    higher_is_better: bool | None = None

    def update(self, excitation: Tensor) -> None:
        """Count examples.

        Args:
            excitation (Tensor): Map of Excitation Backprop at the layer, (N, *).

        Raises:
            TypeError: If the map is not floating point.
            ValueError: If it has no batch axis, is empty, not finite or negative, or a row sums to more
                than 1.
        """
        self._add(peak_excitation(excitation))
