"""Histogram entropy of a layer over a data set."""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._descriptive import Descriptive
from captum_ext.metrics.functional._units import check_matches
from captum_ext.metrics.functional.histogram_entropy import (
    add_histograms,
    check_bins,
    empty_histograms,
    entropy_of,
    histograms,
)

__all__ = ["HistogramEntropy"]


class HistogramEntropy(Descriptive):
    """Entropy of what each unit of a layer says over the examples, in nats.

    Mean over units of :func:`~captum_ext.metrics.functional.histogram_entropy`, of activations or of p_EB; a
    unit that says the same for all examples, such as a dead one, counts with 0. This is the kind of entropy
    that the tables of the thesis hold, for unknown bins, ranges and base of the logarithm.

    Updates and processes need not know each other's range: it is a power of two per unit, and where it
    doubles neighbouring bins merge, exactly.

    Args:
        num_units (int): Number of units of the layer, U.
        num_bins (int): Number of bins, at least 2.
        limits (tuple of float, optional): Fixed range of all units, ends included; values outside are an
            error. Required where values may be negative.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - values: (N, U) or (N, *)
        - compute: a scalar, float64, in 0..ln(num_bins); NaN before any example

    Example:
        >>> import torch
        >>> metric = HistogramEntropy(num_units=2, num_bins=2)
        >>> metric.update(torch.tensor([[0.0, 0.1], [0.0, 0.2]]))
        >>> metric.update(torch.tensor([[0.0, 0.6], [0.0, 0.9]]))
        >>> metric.compute()
        tensor(0.3466, dtype=torch.float64)

    References:
        Luo and Wu, An Entropy-based Pruning Method for CNN Compression, arXiv:1706.05791, 2017.
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, Table 5.3.
    """

    histograms: Tensor

    def __init__(
        self,
        num_units: int,
        num_bins: int = 100,
        limits: tuple[float, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_units < 1:
            raise ValueError(f"num_units must be at least 1, got {num_units}.")
        check_bins(num_bins, limits)
        self.num_units, self.num_bins, self.limits = num_units, num_bins, limits
        # Counts and ranges in one tensor, so that they are added up together.
        self.add_state(
            "histograms", empty_histograms(num_units, num_bins, limits), dist_reduce_fx=add_histograms
        )

    def update(self, values: Tensor) -> None:
        """Count examples.

        Args:
            values (Tensor): Activations behind a ReLU, or winning probabilities p_EB, (N, *).

        Raises:
            TypeError: If the values are not floating point.
            ValueError: If they have no batch axis, are empty or not finite, have another number of units, are
                negative without ``limits`` or outside of them.
        """
        found = histograms(values, self.num_bins, self.limits)
        check_matches(len(found), self.num_units, "values")
        self.histograms = add_histograms(torch.stack([self.histograms, found.to(self.histograms.device)]))
        self.n += len(values)

    def compute(self) -> Tensor:
        """Mean over units, a float64 scalar; NaN before any example."""
        return entropy_of(self.histograms).mean()
