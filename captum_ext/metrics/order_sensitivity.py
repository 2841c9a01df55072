"""Order sensitivity over a data set: do maps over time depend on the order of the frames?"""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics._reference import Reference
from captum_ext.metrics.functional import order_sensitivity
from captum_ext.metrics.functional.explanations import ExplanationFunction
from captum_ext.metrics.functional.map_correlation import Similarity
from captum_ext.metrics.functional.model_scores import ForwardFunction, Score
from captum_ext.metrics.functional.order_sensitivity import FrameOrder, check_order_options
from captum_ext.metrics.functional.targets import Target

__all__ = ["OrderSensitivity"]


class OrderSensitivity(ExampleMean):
    """Mean change of the frames' scores when the frames are shuffled or reversed, each followed to its place.

    Mean over clips of the ``maps`` of :func:`~captum_ext.metrics.functional.order_sensitivity`: 0 for a
    method that looks at each frame by itself, 1 for scores that have nothing to do with those before. So
    chance, for random scores, is 1, and a high value is good only where the output depends on the order too:
    read it beside :meth:`output_change`.

    Args:
        forward_func (Callable): Takes clips, returns scores (N, K) or (N,). A module must be in evaluation
            mode.
        explanation_func (Callable): Takes clips and target (N,), returns maps (N, T, h, w) or scores per
            frame (N, T).
        order (str): ``"shuffle"`` or ``"reverse"``.
        similarity (str): ``"spearman"`` or ``"pearson"``.
        score (str): ``"probability"`` or ``"logit"``.
        seed (int): Draws the permutation.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - clips: (N, C, T, H, W)
        - compute: a scalar, float64, in 0..2; NaN before any clip

    Example:
        >>> def mean_of_frames(clips):
        ...     return clips.mean((1, 2, 3, 4))
        >>> def brightness(clips, target):  # of each frame by itself
        ...     return clips.sum(1)
        >>> metric = OrderSensitivity(mean_of_frames, brightness, score="logit")
        >>> metric.update(torch.rand(2, 1, 4, 3, 5))
        >>> metric.compute()
        tensor(0., dtype=torch.float64)
        >>> metric.output_change() < 1e-6
        True
    """

    higher_is_better: bool = True
    plot_upper_bound: float | None = 2.0

    output_total: Tensor

    def __init__(
        self,
        forward_func: ForwardFunction,
        explanation_func: ExplanationFunction,
        *,
        order: FrameOrder = "shuffle",
        similarity: Similarity = "spearman",
        score: Score = "probability",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_order_options(order, similarity, score)
        self._forward_func = Reference(forward_func)
        self._explanation_func = Reference(explanation_func)
        self.order = order
        self.similarity = similarity
        self.score = score
        self.seed = seed
        self.add_state("output_total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, clips: Tensor, target: Target = None) -> None:
        """Count clips.

        Args:
            clips (Tensor): The model's input, (N, C, T, H, W), T at least 2.
            target (int, sequence of int or Tensor, optional): The class explained; left out if
                ``forward_func`` returns (N,).

        Raises:
            TypeError: If clips, maps or scores are not floating point, or the target is not an integer.
            ValueError: If shapes do not match, something is empty or not finite, a module is in training
                mode or the model draws random numbers.
        """
        change = order_sensitivity(
            self._forward_func.function,
            self._explanation_func.function,
            clips,
            target,
            order=self.order,
            similarity=self.similarity,
            score=self.score,
            seed=self.seed,
        )
        self._add(change.maps, torch.ones_like(change.maps))
        self.output_total += change.output.sum().to(self.output_total.device)

    def output_change(self) -> float:
        """Mean absolute change of the target's score over all clips and processes; NaN before any."""
        with self._synced():
            return float(self.output_total / self.n)

    def extra_repr(self) -> str:
        """What the figure depends on, for the printed name."""
        return f"order={self.order!r}, similarity={self.similarity!r}, score={self.score!r}"
