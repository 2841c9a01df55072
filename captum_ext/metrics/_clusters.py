"""A ratio of sums whose examples come in clusters: frames in a clip, votes in a video."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_ext.metrics._summarised import SummarisedMetric
from captum_ext.metrics.functional import wilson_interval
from captum_ext.metrics.functional.intervals import Z_95
from captum_ext.metrics.summary import Summary

__all__ = ["ClusterSums", "ClusteredMean", "cluster_sums"]


class ClusterSums(NamedTuple):
    """Sums over the clusters of each class, (K,): all that the ratio and its variance need.

    With ``h`` the sum of a cluster's values and ``m`` their number.
    """

    clusters: Tensor
    """Number of clusters with m > 0."""
    values: Tensor
    """Sum of h."""
    counts: Tensor
    """Sum of m."""
    values_squared: Tensor
    """Sum of h^2."""
    products: Tensor
    """Sum of h m."""
    counts_squared: Tensor
    """Sum of m^2."""
    chance: Tensor
    """Sum of the expected h of a random answer."""

    def per_class(self) -> Tensor:
        """Ratio of each class, (K,); NaN for one without clusters."""
        return self.values / self.counts

    def summary(self) -> Summary:
        """Mean of the classes' ratios, with n the number of clusters and its interval."""
        ratio = self.per_class()
        low, high = self._interval()
        return Summary(
            value=float(ratio.nanmean()),
            n=int(self.clusters.sum()),
            low=low,
            high=high,
            chance=float((self.chance / self.counts).nanmean()),
        )

    def _interval(self) -> tuple[float, float]:
        clusters = self.clusters.sum()
        n, hits = int(clusters), float(self.values.sum())
        if n == 0:
            return float("nan"), float("nan")
        if hits in (0.0, float(self.counts.sum())):
            # All votes are alike: there is no variance to go by, and each cluster stands for one vote.
            return wilson_interval(n if hits else 0, n)
        # Squares add up to the values themselves only where each value is 0 or 1.
        single_votes = torch.equal(self.counts, self.clusters) and torch.equal(
            self.values_squared, self.values
        )
        if single_votes and len(self.clusters) == 1:
            return wilson_interval(round(hits), n)
        seen = self.clusters > 0
        if bool((self.clusters[seen] < 2).any()):
            return float("nan"), float("nan")
        ratio = self.per_class()
        residuals = self.values_squared - 2 * ratio * self.products + ratio**2 * self.counts_squared
        variance = self.clusters / (self.clusters - 1) * residuals.clamp(min=0) / self.counts**2
        half = Z_95 * float(variance[seen].sum()) ** 0.5 / int(seen.sum())
        mean = float(ratio.nanmean())
        return max(0.0, mean - half), min(1.0, mean + half)


def cluster_sums(
    values: Tensor, counts: Tensor, chance: Tensor, labels: Tensor | None = None, num_classes: int = 1
) -> Tensor:
    """Add clusters up, each given by its sum of values, number of values and sum of chances: (7, K)."""
    values, counts, chance = (x.detach().double() for x in (values, counts, chance))
    parts = [(counts > 0).double(), values, counts, values**2, values * counts, counts**2, chance]
    stacked = torch.stack(parts)
    index = torch.zeros_like(counts, dtype=torch.int64) if labels is None else labels.long()
    return stacked.new_zeros(len(parts), num_classes).index_add_(1, index, stacked)


class ClusteredMean(SummarisedMetric):
    """Mean over all values of all clusters, or over classes of such means, from sums.

    The interval is that of the ratio estimator, with the clusters as the independent examples: with
    cluster sums h and sizes m, and the ratio R, the variance of R is ``n / (n - 1) sum((h - R m)^2) /
    sum(m)^2`` (for classes: of their mean). Where each cluster is a single hit or miss, or all votes are
    alike, it is Wilson's, with each cluster as one vote.
    """

    sums: Tensor

    def __init__(self, num_classes: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zeros = torch.zeros(len(ClusterSums._fields), num_classes, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """The figure so far, a float64 scalar; NaN before any example."""
        return self._clusters().per_class().nanmean()

    def _summary(self) -> Summary:
        return self._clusters().summary()

    def _clusters(self) -> ClusterSums:
        return ClusterSums(*self.sums)
