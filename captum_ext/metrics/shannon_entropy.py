"""Shannon entropy of a layer over a data set."""

from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional import shannon_entropy

__all__ = ["ShannonEntropy"]


class ShannonEntropy(ExampleMean):
    """Entropy of activity, or of p_EB, over the units of a layer, in nats.

    Mean over examples of :func:`~captum_ext.metrics.functional.shannon_entropy`; examples whose values are
    all 0 are left out. High where many units share the work. It says what the sentence of the thesis about
    the entropy of p_EB describes; its tables hold something else, see ``HistogramEntropy``.

    Args:
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - values: (N, U) or (N, *)
        - compute: a scalar, float64, in 0..ln U; NaN before any example

    Example:
        >>> import torch
        >>> metric = ShannonEntropy()
        >>> metric.update(torch.tensor([[1.0, 1.0, 0.0], [5.0, 0.0, 0.0]]))
        >>> metric.compute()
        tensor(0.3466, dtype=torch.float64)
    """

    higher_is_better: bool | None = None
    plot_upper_bound: float | None = None

    def update(self, values: Tensor) -> None:
        """Count examples.

        Args:
            values (Tensor): Activations behind a ReLU, or winning probabilities p_EB, (N, *).

        Raises:
            TypeError: If the values are not floating point.
            ValueError: If they have no batch axis, are empty, not finite or negative.
        """
        self._add(shannon_entropy(values))
