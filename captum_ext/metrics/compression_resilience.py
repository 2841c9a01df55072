"""Compression resilience over a data set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import torch
from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional.compression import (
    By,
    Order,
    check_levels,
    check_order,
    check_rising,
    compression_curves,
    default_levels,
    normalized_auc,
)

__all__ = ["CompressionCurve", "CompressionResilience"]

_Z_95 = NormalDist().inv_cdf(0.975)
_TITLES = {
    "most": "most relevant units off",
    "least": "least relevant units off",
    "random": "random units off",
}
_AXES = {"mass": "cumulated p_EB of the units off", "units": "share of units off"}


@dataclass(frozen=True)
class CompressionCurve:
    """Mean over examples of what is left while units are switched off.

    Attributes:
        levels (Tensor): Cumulated p_EB, or share of units, that is switched off, (L,).
        probability (Tensor): Probability of the target class, (L,).
        low (Tensor): Lower end of its 95 % interval over examples, (L,).
        high (Tensor): Upper end, (L,).
        accuracy (Tensor): Share of examples whose largest logit is that of the target class, (L,).
        units_off (Tensor): Share of the units that are switched off, (L,).
        order (str): Which units go first, ``"most"`` or ``"least"`` relevant ones or ``"random"`` ones.
        by (str): What the levels count, ``"mass"`` or ``"units"``.
    """

    levels: Tensor
    probability: Tensor
    low: Tensor
    high: Tensor
    accuracy: Tensor
    units_off: Tensor
    order: Order
    by: By

    @property
    def area(self) -> float:
        """Area under the probability, divided by the width of the levels: ``compute`` of the metric."""
        probability = self.probability.cpu()[None]
        return float(normalized_auc(probability, self.levels.tolist()))

    def plot(self, ax: Any = None) -> tuple[Any, Any]:
        """Plot the probability with its 95 % interval.

        Args:
            ax (matplotlib.axes.Axes, optional): Where to draw. Default: a new figure.

        Returns:
            tuple: The figure and the axes.
        """
        if ax is None:
            from matplotlib import pyplot  # not at import time

            _, ax = pyplot.subplots()
        levels = self.levels.tolist()
        (line,) = ax.plot(levels, self.probability.tolist())
        ax.fill_between(levels, self.low.tolist(), self.high.tolist(), alpha=0.2, color=line.get_color())
        ax.set_xlabel(_AXES[self.by])
        ax.set_ylabel("probability of the class")
        ax.set_title(_TITLES[self.order])
        ax.set_ylim(0, 1)
        return ax.figure, ax


class CompressionResilience(ExampleMean):
    """Probability that a network keeps for a class while units of a layer are switched off.

    ``compute`` is the normalised area under the curve of
    :func:`~captum_ext.metrics.functional.compression_curves` (trapezoid rule over the levels, divided by
    their width), so 1 is a network that stays certain; ``curve`` is the curve, ``plot`` draws it.

    By default every image has its own order of units, as in the thesis. ``scope="dataset"`` switches off the
    same units for all images, which is what removing them does: give ``update`` one p_EB for all, such as the
    mean over training images.

    Args:
        order (str): ``"most"`` relevant units first (the worst case), ``"least"`` relevant first, or
            ``"random"``.
        levels (sequence of float, optional): Rising levels in 0..1, at least two. Default: those of the
            thesis, 0, 0.05, ... 0.95 of p_EB, or 0, 1/32, ... 1 of the units.
        by (str, optional): What levels count: ``"mass"``, cumulated p_EB, or ``"units"``. Default: as in
            the thesis, ``"units"`` for ``"random"``, else ``"mass"``.
        scope (str): ``"image"`` or ``"dataset"``.
        rescale (bool): Divide the activations of the survivors by their share of the layer. Default: False
        seed (int): Seed of random orders. Row r of every update takes the r-th order of the seed (the first
            for ``scope="dataset"``), so that results do not depend on the order of updates or on processes.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - activations: (N, U) or (N, U, *)
        - excitation: (N, U), or (U,) for ``scope="dataset"``
        - target: (N,)
        - compute: a scalar, float64, in 0..1; NaN before any example

    Example:
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(7, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
        >>> from captum_ext.attr import LayerExcitationBackprop
        >>> x, target = torch.rand(5, 7), torch.tensor([0, 2, 1, 1, 0])
        >>> p = LayerExcitationBackprop(model, "1").attribute(x, target=target)
        >>> metric = CompressionResilience("most")
        >>> metric.update(model[2], model[:2](x), p, target)
        >>> 0 < metric.compute() < 1, metric.curve().probability.shape
        (tensor(True), torch.Size([20]))

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, section 5.2.4,
        Figure 5.5. The class of p_EB is not stated there; give the map of the class you mean.
    """

    higher_is_better: bool = True

    curve_total: Tensor
    curve_squares: Tensor
    correct_total: Tensor
    units_off_total: Tensor

    def __init__(
        self,
        order: Order = "most",
        levels: Sequence[float] | None = None,
        by: By | None = None,
        scope: Literal["image", "dataset"] = "image",
        rescale: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.order, self.by = order, check_order(order, by)
        if scope not in ("image", "dataset"):
            raise ValueError(f'scope must be "image" or "dataset", got {scope!r}.')
        self.levels = tuple(default_levels(self.by) if levels is None else levels)
        check_levels(self.levels)
        check_rising(self.levels)
        self.scope, self.rescale, self.seed = scope, rescale, seed
        for name in ("curve_total", "curve_squares", "correct_total", "units_off_total"):
            self.add_state(name, torch.zeros(len(self.levels), dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self, head: Callable[[Tensor], Tensor], activations: Tensor, excitation: Tensor, target: Tensor
    ) -> None:
        """Switch units off for a batch.

        Args:
            head (Callable): The network from the layer to its logits, in evaluation mode.
            activations (Tensor): Activations of the layer, what ``head`` takes, (N, U, *).
            excitation (Tensor): p_EB at the layer: (N, U), or (U,) for ``scope="dataset"``.
            target (Tensor): Class whose probability is followed, (N,).

        Raises:
            TypeError: If a tensor has the wrong type.
            ValueError: If shapes do not match or a value is not finite or outside its range.
        """
        if self.scope == "dataset":
            if len(excitation.shape) >= len(activations.shape):
                raise ValueError(
                    'scope="dataset" takes one p_EB for all images, (U,), such as the mean of theirs, got '
                    f"excitation of shape {tuple(excitation.shape)}."
                )
            excitation = excitation[None]
        elif len(excitation) != len(activations):
            raise ValueError(
                f"excitation must have a row per example, {len(activations)}, got shape "
                f'{tuple(excitation.shape)}; for one p_EB for all images choose scope="dataset".'
            )
        curves = compression_curves(
            head,
            activations,
            excitation,
            target,
            self.levels,
            self.order,
            self.by,
            self.rescale,
            torch.Generator().manual_seed(self.seed),
        )
        self._add(normalized_auc(curves.probability, self.levels))
        self.curve_total += curves.probability.sum(0).to(self.curve_total.device)
        self.curve_squares += curves.probability.square().sum(0).to(self.curve_total.device)
        self.correct_total += curves.correct.double().sum(0).to(self.curve_total.device)
        self.units_off_total += curves.units_off.sum(0).to(self.curve_total.device)

    def curve(self) -> CompressionCurve:
        """The curve behind ``compute``, over all processes.

        Returns:
            CompressionCurve: float64, NaN before any example; the interval is NaN before the second one.
        """
        with self._synced():
            mean = self.curve_total / self.n
            variance = (self.curve_squares - self.n * mean**2).clamp(min=0) / (self.n - 1)
            half = torch.where(self.n > 1, _Z_95 * (variance / self.n).sqrt(), torch.nan)
            return CompressionCurve(
                levels=torch.tensor(self.levels, dtype=torch.float64),
                probability=mean,
                low=(mean - half).clamp(0, 1),
                high=(mean + half).clamp(0, 1),
                accuracy=self.correct_total / self.n,
                units_off=self.units_off_total / self.n,
                order=self.order,
                by=self.by,
            )

    def plot(
        self, val: Tensor | dict[str, Tensor] | Sequence[Tensor] | None = None, ax: Any = None
    ) -> tuple[Any, Any]:
        """Plot the curve with its 95 % interval, or given areas as steps.

        Args:
            val (Tensor, dict or sequence, optional): Results of ``compute`` or ``forward``. Default: the
                current curve.
            ax (matplotlib.axes.Axes, optional): Where to draw. Default: a new figure.

        Returns:
            tuple: The figure and the axes.
        """
        return self.curve().plot(ax) if val is None else super().plot(val, ax)
