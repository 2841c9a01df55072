"""Random target test over a data set: do maps depend on the class they explain?"""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics._reference import Reference
from captum_ext.metrics.functional import random_target
from captum_ext.metrics.functional.explanations import ExplanationFunction
from captum_ext.metrics.functional.map_correlation import Similarity
from captum_ext.metrics.functional.random_target import Others, check_random_target_options
from captum_ext.metrics.functional.targets import Target

__all__ = ["RandomTarget"]


class RandomTarget(ExampleMean):
    """Mean similarity of the map of the target to the map of another class; low is better.

    Mean over clips of :func:`~captum_ext.metrics.functional.random_target`. Chance, for random maps, is 0.

    Args:
        explanation_func (Callable): Takes clips and target (N,), returns maps (N, ...).
        n_classes (int): K, at least 2.
        others (str): ``"random"``, one other class for each, or ``"all"``.
        similarity (str): ``"spearman"`` or ``"pearson"``.
        absolute (bool): Compare absolute values.
        seed (int): Draws the other classes.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - clips: (N, C, T, H, W)
        - compute: a scalar, float64, in -1..1; NaN before any clip

    Example:
        >>> def brightness(clips, target):  # looks at no class
        ...     return clips.sum(1)
        >>> metric = RandomTarget(brightness, n_classes=3)
        >>> metric.update(torch.rand(2, 1, 4, 3, 5), target=[0, 2])
        >>> metric.compute()
        tensor(1., dtype=torch.float64)

    References:
        Sixt et al., When Explanations Lie, ICML 2020 (random logit test).
    """

    higher_is_better: bool = False
    plot_lower_bound: float | None = -1.0

    def __init__(
        self,
        explanation_func: ExplanationFunction,
        n_classes: int,
        *,
        others: Others = "random",
        similarity: Similarity = "spearman",
        absolute: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_random_target_options(n_classes, others, similarity)
        self._explanation_func = Reference(explanation_func)
        self.n_classes = n_classes
        self.others = others
        self.similarity = similarity
        self.absolute = absolute
        self.seed = seed

    def update(self, clips: Tensor, target: Target) -> None:
        """Count clips.

        Args:
            clips (Tensor): The model's input, (N, C, T, H, W).
            target (int, sequence of int or Tensor): The class explained, one for all or one per clip.

        Raises:
            TypeError: If clips or maps are not floating point, or the target is not an integer.
            ValueError: If shapes do not match, or something is empty or not finite.
        """
        similarities = random_target(
            self._explanation_func.function,
            clips,
            target,
            self.n_classes,
            others=self.others,
            similarity=self.similarity,
            absolute=self.absolute,
            seed=self.seed,
        )
        self._add(similarities, torch.zeros_like(similarities))

    def extra_repr(self) -> str:
        """What the figure depends on, for the printed name."""
        return f"others={self.others!r}, similarity={self.similarity!r}, absolute={self.absolute}"
