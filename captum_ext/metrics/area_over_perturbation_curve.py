"""AOPC: how far the score falls on average while the most relevant parts are taken away."""

from typing import Any

from torch import Tensor

from captum_ext.metrics._perturbation_metric import PerturbationMetric
from captum_ext.metrics.functional import aopc
from captum_ext.metrics.functional.hidden_clips import Baseline
from captum_ext.metrics.functional.model_scores import ForwardFunction, Score
from captum_ext.metrics.functional.perturbation_curves import Unit
from captum_ext.metrics.functional.targets import Target

__all__ = ["AreaOverPerturbationCurve"]


class AreaOverPerturbationCurve(PerturbationMetric):
    """AOPC: mean drop of the score over the steps of the deletion curve; high is better.

    Mean over clips of :func:`~captum_ext.metrics.functional.aopc`. There is no exact chance: measure it with
    random maps.

    Args:
        forward_func (Callable): Takes clips, returns scores (N, K) or (N,). A module must be in evaluation
            mode; the metric refers to it, without becoming its owner.
        unit (str): ``"voxel"`` or ``"frame"``.
        baseline (str or Tensor): What is seen where something is deleted, as for
            :func:`~captum_ext.metrics.functional.deletion_curve`: ``"zero"``, ``"blur"``,
            ``"mean_frame"``, for frames ``"freeze"``, or a tensor that expands to the clips. A part of the
            metric: figures of two baselines must not be compared.
        steps (int, optional): Steps of the curve. Default: 50 for voxels, T for frames.
        score (str): ``"probability"`` or ``"logit"``.
        steps_per_eval (int): Steps in one call of the model; bounds memory, changes nothing else.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - clips: (N, C, T, H, W)
        - maps: (N, t, h, w), t <= T, h <= H, w <= W
        - compute: a scalar, float64, in the units of the score; NaN before any clip

    Example:
        >>> import torch
        >>> clips = torch.tensor([4.0, 2.0, 1.0]).view(1, 1, 3, 1, 1)
        >>> def total(clips):
        ...     return clips.sum((1, 2, 3, 4))
        >>> metric = AreaOverPerturbationCurve(total, baseline="zero", score="logit")
        >>> metric.update(clips, maps=clips[:, 0])
        >>> metric.compute()
        tensor(4.2500, dtype=torch.float64)

    References:
        Samek et al., Evaluating the visualization of what a deep neural network has learned, TNNLS 28, 2017.
    """

    higher_is_better: bool = True

    def __init__(
        self,
        forward_func: ForwardFunction,
        *,
        unit: Unit = "voxel",
        baseline: Baseline = "blur",
        steps: int | None = None,
        score: Score = "probability",
        steps_per_eval: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(forward_func, unit, baseline, steps, score, steps_per_eval, **kwargs)

    def _values(self, clips: Tensor, maps: Tensor, target: Target) -> Tensor:
        return aopc(self._deletion(clips, maps, target))
