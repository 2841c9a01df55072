"""Parameter randomisation test over a data set: do maps depend on what the model has learned?"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics._reference import Reference
from captum_ext.metrics.functional import parameter_randomization, randomized_layers
from captum_ext.metrics.functional.explanations import ExplanationFunction
from captum_ext.metrics.functional.map_correlation import Similarity
from captum_ext.metrics.functional.parameter_randomization import (
    RandomizationMode,
    check_randomization_options,
)
from captum_ext.metrics.functional.targets import Target

__all__ = ["ParameterRandomization"]


class ParameterRandomization(ExampleMean):
    """Mean similarity of maps to the original while the model's layers are made random; low is better.

    Mean over clips, and over layers, of
    :func:`~captum_ext.metrics.functional.parameter_randomization`; :meth:`curve` has the mean over clips for
    each layer. Chance, for random maps, is 0. The model's parameters and buffers are restored after each
    update, whatever happens.

    Args:
        model (nn.Module): The model that ``explanation_func`` explains, in evaluation mode.
        explanation_func (Callable): Takes clips and target (N,), returns maps (N, ...).
        layers (sequence of str, optional): Names of layers or blocks in the order in which to make them
            random. Default: every module with parameters of its own, the last first.
        mode (str): ``"cascading"`` or ``"independent"``.
        similarity (str): ``"spearman"`` or ``"pearson"``.
        absolute (bool): Compare absolute values.
        seed (int): Draws the parameters.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - clips: (N, C, T, H, W)
        - compute: a scalar, float64, in -1..1; NaN before any clip

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 3)).eval()
        >>> def brightness(clips, target):  # never looks at the model
        ...     return clips.sum(1)
        >>> metric = ParameterRandomization(model, brightness)
        >>> metric.update(torch.rand(2, 1, 4, 3, 5), target=0)
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
        >>> metric.curve()
        {'1': 1.0}

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018; Sixt et al., When Explanations Lie,
        ICML 2020, for Excitation Backprop.
    """

    higher_is_better: bool = False
    plot_lower_bound: float | None = -1.0

    layer_totals: Tensor

    def __init__(
        self,
        model: nn.Module,
        explanation_func: ExplanationFunction,
        *,
        layers: Sequence[str] | None = None,
        mode: RandomizationMode = "cascading",
        similarity: Similarity = "spearman",
        absolute: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_randomization_options(mode, similarity)
        self.layers = randomized_layers(model, layers)
        self._default_layers = layers is None
        self._model = Reference(model)
        self._explanation_func = Reference(explanation_func)
        self.mode = mode
        self.similarity = similarity
        self.absolute = absolute
        self.seed = seed
        self.add_state(
            "layer_totals", torch.zeros(len(self.layers), dtype=torch.float64), dist_reduce_fx="sum"
        )

    def update(self, clips: Tensor, target: Target = None) -> None:
        """Count clips.

        Args:
            clips (Tensor): The model's input, (N, C, T, H, W).
            target (int, sequence of int or Tensor, optional): The class explained.

        Raises:
            TypeError: If clips or maps are not floating point, or the target is not an integer.
            ValueError: If shapes do not match, something is empty or not finite, or the model is in training
                mode.
        """
        similarities = parameter_randomization(
            self._model.function,
            self._explanation_func.function,
            clips,
            target,
            layers=None if self._default_layers else self.layers,
            mode=self.mode,
            similarity=self.similarity,
            absolute=self.absolute,
            seed=self.seed,
        ).similarities
        values = similarities.mean(dim=1)
        self._add(values, torch.zeros_like(values))
        self.layer_totals += similarities.sum(dim=0).to(self.layer_totals.device)

    def curve(self) -> dict[str, float]:
        """Mean similarity over all clips and processes, once each layer is random; NaN before any."""
        with self._synced():
            return dict(zip(self.layers, (self.layer_totals / self.n).tolist(), strict=True))

    def extra_repr(self) -> str:
        """What the figure depends on, for the printed name."""
        return f"mode={self.mode!r}, similarity={self.similarity!r}, absolute={self.absolute}"
