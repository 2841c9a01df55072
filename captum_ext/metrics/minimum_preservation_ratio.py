"""Minimum preservation ratio over a data set: how much of a clip does a prediction need?"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional import minimum_preservation_ratio
from captum_ext.metrics.functional.minimum_preservation_ratio import check_threshold

__all__ = ["MinimumPreservationRatio"]


class MinimumPreservationRatio(ExampleMean):
    """Mean over clips of the smallest share of the clip that keeps the probability of its class.

    A clip that no area keeps counts as 1, the whole clip; :meth:`n_unkept` counts those. There is no exact
    chance.

    Args:
        threshold (float): Share of the original probability to keep, in (0, 1].
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - areas: (A,) or (N, A)
        - probabilities: (N, A)
        - original: (N,)
        - compute: a scalar, float64, in (0, 1]; NaN before any clip

    Example:
        >>> metric = MinimumPreservationRatio()
        >>> kept = torch.tensor([[0.2, 0.6, 0.9], [0.1, 0.1, 0.3]])
        >>> metric.update([0.05, 0.1, 0.2], kept, original=torch.tensor([0.8, 0.5]))
        >>> metric.compute()
        tensor(0.6000, dtype=torch.float64)
        >>> metric.n_unkept()
        1

    References:
        Li et al., Towards Visually Explaining Video Understanding Networks with Perturbation, WACV 2021,
        eq. 3 and Table 2.
    """

    higher_is_better: bool = False

    unkept: Tensor

    def __init__(self, threshold: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_threshold(threshold)
        self.threshold = threshold
        self.add_state("unkept", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, areas: Tensor | Sequence[float], probabilities: Tensor, original: Tensor) -> None:
        """Count clips.

        Args:
            areas (Tensor or sequence of float): Shares of the clip that the masks keep, (A,), or (N, A) for a
                ladder per clip.
            probabilities (Tensor): Probability of the class for each clip and area, (N, A).
            original (Tensor): Probability for the whole clip, (N,).

        Raises:
            TypeError: If something is not a floating-point tensor.
            ValueError: If shapes do not match, something is empty, or a number is outside its range or NaN.
        """
        result = minimum_preservation_ratio(areas, probabilities, original, self.threshold)
        self._add(result.ratios)
        self.unkept += (~result.kept).sum().to(self.unkept.device)

    def n_unkept(self) -> int:
        """Number of clips that no area kept, over all processes."""
        with self._synced():
            return int(self.unkept)

    def extra_repr(self) -> str:
        """What the figure depends on, for the printed name."""
        return f"threshold={self.threshold}"
