"""Conservative filters of trained networks."""

from typing import Any

from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional import conservative_filters
from captum_ext.metrics.functional.conservative_filters import check_thresholds

__all__ = ["ConservativeFilters"]


class ConservativeFilters(ExampleMean):
    """Number of filters of a layer that training left where they were.

    Mean over trained networks, one per update, of the number of
    :func:`~captum_ext.metrics.functional.conservative_filters`: those that changed by less than a threshold
    (chapter 5 of the thesis) and, with ``target_share``, answer most to source images (section 3.4). The
    thesis counts less as better use of the network. A common threshold compares networks of one shape only;
    ``relative`` also others.

    Args:
        threshold (float): The change below which a filter counts, above 0; in units of the weights, or a
            share if ``relative``.
        relative (bool): Divide the change by the norm of the filter before training.
        max_target_share (float): The share of target images below which a filter counts, in (0, 1].
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - weight: (K, *)
        - reference: (K, *)
        - target_share: (K,)
        - compute: a scalar, float64, in 0..K; NaN before any network

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(3, 5)
        >>> before = layer.weight.detach().clone()
        >>> with torch.no_grad():  # train
        ...     layer.weight[:2] += 1
        >>> metric = ConservativeFilters(threshold=0.25)
        >>> metric.update(layer.weight, before)
        >>> metric.compute()
        tensor(3., dtype=torch.float64)

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, sections 3.4 and
        5.2.3.
    """

    higher_is_better: bool | None = None
    plot_upper_bound: float | None = None

    def __init__(
        self, threshold: float, relative: bool = False, max_target_share: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_thresholds(threshold, max_target_share)
        self.threshold, self.relative, self.max_target_share = threshold, relative, max_target_share

    def update(self, weight: Tensor, reference: Tensor, target_share: Tensor | None = None) -> None:
        """Count a trained network.

        Args:
            weight (Tensor): Weights after training; axis 0 counts the filters.
            reference (Tensor): The same weights before.
            target_share (Tensor, optional): Alpha of every filter, from ``TargetDomainShare``.

        Raises:
            TypeError: If a weight is not floating point.
            ValueError: If shapes differ or are empty, or a value is not finite.
        """
        found = conservative_filters(
            weight, reference, self.threshold, self.relative, target_share, self.max_target_share
        )
        self._add(found.sum()[None])
