"""Insertion: how soon the score rises as the most relevant parts of a clip are shown."""

from typing import Any

from torch import Tensor

from captum_ext.metrics._perturbation_metric import PerturbationMetric
from captum_ext.metrics.functional import area_under_curve
from captum_ext.metrics.functional.hidden_clips import Baseline
from captum_ext.metrics.functional.model_scores import ForwardFunction, Score
from captum_ext.metrics.functional.targets import Target

__all__ = ["SpatioTemporalInsertion", "TemporalInsertion"]


class SpatioTemporalInsertion(PerturbationMetric):
    """Area under the insertion curve over voxels: high if a map finds what suffices for the score.

    Mean over clips of the area under :func:`~captum_ext.metrics.functional.insertion_curve`. What a random
    map scores depends on the model: measure it with random maps, there is no exact chance.

    Args:
        forward_func (Callable): Takes clips, returns scores (N, K) or (N,). A module must be in evaluation
            mode; the metric refers to it, without becoming its owner.
        baseline (str or Tensor): What is seen before anything is inserted, as for
            :func:`~captum_ext.metrics.functional.deletion_curve`: ``"zero"``, ``"blur"``,
            ``"mean_frame"`` or a tensor that expands to the clips. A part of the metric: figures of two
            baselines must not be compared.
        steps (int, optional): Steps of the curve. Default: 50.
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
        >>> metric = SpatioTemporalInsertion(total, baseline="zero", score="logit")
        >>> metric.update(clips, maps=clips[:, 0])
        >>> metric.compute()
        tensor(4.5000, dtype=torch.float64)

    References:
        Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018.
    """

    higher_is_better: bool = True

    def __init__(
        self,
        forward_func: ForwardFunction,
        *,
        baseline: Baseline = "blur",
        steps: int | None = None,
        score: Score = "probability",
        steps_per_eval: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(forward_func, "voxel", baseline, steps, score, steps_per_eval, **kwargs)

    def _values(self, clips: Tensor, maps: Tensor, target: Target) -> Tensor:
        return area_under_curve(self._insertion(clips, maps, target))


class TemporalInsertion(PerturbationMetric):
    """Area under the insertion curve over frames, ranked by the sum of the map over each.

    As :class:`SpatioTemporalInsertion`, frame by frame. The default baseline freezes the clip: a frame not
    yet inserted shows the nearest one that is.

    Args:
        forward_func (Callable): Takes clips, returns scores (N, K) or (N,). A module must be in evaluation
            mode; the metric refers to it, without becoming its owner.
        baseline (str or Tensor): What is seen before anything is inserted, as for
            :func:`~captum_ext.metrics.functional.deletion_curve`: ``"freeze"``, ``"zero"``,
            ``"blur"``, ``"mean_frame"`` or a tensor that expands to the clips. A part of the metric: figures
            of two baselines must not be compared.
        steps (int, optional): Steps of the curve. Default: T, one frame each.
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
        >>> metric = TemporalInsertion(total, baseline="zero", score="logit")
        >>> metric.update(clips, maps=clips[:, 0])
        >>> metric.compute()
        tensor(4.5000, dtype=torch.float64)

    References:
        Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018.
    """

    higher_is_better: bool = True

    def __init__(
        self,
        forward_func: ForwardFunction,
        *,
        baseline: Baseline = "freeze",
        steps: int | None = None,
        score: Score = "probability",
        steps_per_eval: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(forward_func, "frame", baseline, steps, score, steps_per_eval, **kwargs)

    def _values(self, clips: Tensor, maps: Tensor, target: Target) -> Tensor:
        return area_under_curve(self._insertion(clips, maps, target))
