"""Frame AUC over a data set: do the frames of the action score above the others?"""

from collections.abc import Sequence

from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional import frame_auc, frame_auc_chance, frames_inside

__all__ = ["TemporalAUC"]


class TemporalAUC(ExampleMean):
    """Probability that a random frame inside the action scores above a random frame outside it.

    Mean over clips of :func:`~captum_ext.metrics.functional.frame_auc`; clips that lie wholly inside or
    outside are left out. Chance is 0.5.

    Args:
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - scores: (N, T)
        - spans: (N, 2), or N times (S_n, 2), half-open in frames
        - compute: a scalar, float64, in 0..1; NaN before any clip

    Example:
        >>> import torch
        >>> metric = TemporalAUC()
        >>> metric.update(torch.tensor([[0.1, 0.9, 0.4, 0.4]]), torch.tensor([[1, 3]]))
        >>> metric.compute()
        tensor(0.8750, dtype=torch.float64)
        >>> metric.summary().chance
        0.5

    References:
        Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """

    higher_is_better: bool = True

    def update(self, scores: Tensor, spans: Tensor | Sequence[Tensor]) -> None:
        """Count clips.

        Args:
            scores (Tensor): One score per frame, (N, T).
            spans (Tensor or sequence of Tensor): Half-open spans of the action in frames, one per clip or one
                tensor of spans per clip.

        Raises:
            TypeError: If the scores are not floating point or the spans not integers.
            ValueError: If shapes do not match, something is empty, a score is not finite, or a span is not
                inside its clip.
        """
        inside = frames_inside(spans, scores.shape[1])
        self._add(frame_auc(scores, inside), frame_auc_chance(inside))
