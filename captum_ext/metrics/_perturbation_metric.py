"""What the metrics share that delete or insert parts of clips and run the model on the result."""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics._reference import Reference
from captum_ext.metrics.functional import deletion_curve, insertion_curve
from captum_ext.metrics.functional.hidden_clips import Baseline
from captum_ext.metrics.functional.model_scores import ForwardFunction, Score
from captum_ext.metrics.functional.perturbation_curves import Order, Unit, check_curve_options
from captum_ext.metrics.functional.targets import Target

__all__ = ["PerturbationMetric"]


class PerturbationMetric(ExampleMean):
    """Holds the model and the options of the curves; a subclass defines :meth:`_values`."""

    plot_lower_bound: float | None = None  # scores may be logits
    plot_upper_bound: float | None = None
    _chance: float | None = None

    def __init__(
        self,
        forward_func: ForwardFunction,
        unit: Unit,
        baseline: Baseline,
        steps: int | None,
        score: Score,
        steps_per_eval: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_curve_options(unit, baseline, steps, score, steps_per_eval)
        self._forward_func = Reference(forward_func)
        self.unit = unit
        self.baseline = baseline
        self.steps = steps
        self.score = score
        self.steps_per_eval = steps_per_eval

    def update(self, clips: Tensor, maps: Tensor, target: Target = None) -> None:
        """Count clips.

        Args:
            clips (Tensor): The model's input, (N, C, T, H, W).
            maps (Tensor): Saliency per frame with channels summed, (N, t, h, w).
            target (int, sequence of int or Tensor, optional): The class explained, one for all or one per
                clip; left out if ``forward_func`` returns (N,).

        Raises:
            TypeError: If clips, maps or scores are not floating point, or the target is not an integer.
            ValueError: If shapes do not match, something is empty or not finite, a module is in training
                mode or the model draws random numbers.
        """
        values = self._values(clips, maps, target)
        self._add(values, None if self._chance is None else torch.full_like(values, self._chance))

    def extra_repr(self) -> str:
        """What the figure depends on, for the printed name."""
        baseline = (
            f"tensor {tuple(self.baseline.shape)}" if isinstance(self.baseline, Tensor) else self.baseline
        )
        return f"unit={self.unit!r}, baseline={baseline!r}, steps={self.steps}, score={self.score!r}"

    def _values(self, clips: Tensor, maps: Tensor, target: Target) -> Tensor:
        """What the metric is the mean of, one per clip, (N,)."""
        raise NotImplementedError

    def _deletion(
        self, clips: Tensor, maps: Tensor, target: Target, order: Order = "most_relevant_first"
    ) -> Tensor:
        return deletion_curve(
            self._forward_func.function, clips, maps, target, order=order, **self._options()
        )

    def _insertion(self, clips: Tensor, maps: Tensor, target: Target) -> Tensor:
        return insertion_curve(self._forward_func.function, clips, maps, target, **self._options())

    def _options(self) -> dict[str, Any]:
        names = ("unit", "baseline", "steps", "score", "steps_per_eval")
        return {name: getattr(self, name) for name in names}
