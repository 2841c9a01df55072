"""The temporal pointing game over a data set: do the clips point into the action?"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._clusters import ClusteredMean, ClusterSums, cluster_sums
from captum_ext.metrics._tables import TableMetric
from captum_ext.metrics.functional.pointing_votes import (
    N_PAIR_COLUMNS,
    PointingConvention,
    PointingVotes,
    check_convention,
    clip_annotation_pairs,
    count_votes,
)

__all__ = ["TemporalPointingGame"]


class TemporalPointingGame(TableMetric, ClusteredMean):
    """Share of the votes in which a clip's frame of highest score lies inside the action.

    Clips may be whole videos, or windows of longer ones whose actions span several windows. Then what has a
    vote is a matter of convention: the five of
    :func:`~captum_ext.metrics.functional.temporal_pointing_votes`, by default one vote per annotation, given
    by the clip that shares most frames with it. Clips of one video may come in any update of any process; one
    that comes twice, as samplers do to fill up processes, counts once if its video has an id.

    Chance is the exact expected accuracy of a uniformly random frame in each clip under the same convention.
    The interval takes videos as independent, not votes: that of the ratio estimator over videos, or
    Wilson's where each video has one vote. ``n`` is the number of videos with a vote.

    Args:
        convention (str): ``"pairs"`` (A), ``"pairs-any-interval"`` (B), ``"best-clip"`` (C), ``"clips"`` (D)
            or ``"any-clip"`` (E).
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - scores: (N, T)
        - spans: (N, 2), or N times (S_n, 2)
        - compute: a scalar, float64, in 0..1; NaN before any vote

    Example:
        >>> metric = TemporalPointingGame()
        >>> scores = torch.tensor([[0.0, 3.0, 1.0, 1.0], [2.0, 0.0, 0.0, 1.0]])
        >>> metric.update(scores, torch.tensor([[1, 3], [1, 2]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
        >>> metric.summary().chance, metric.lift()
        (0.375, 1.3333333333333333)

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 5.2 and table 3.
    """

    higher_is_better: bool = True

    def __init__(self, convention: PointingConvention = "best-clip", **kwargs: Any) -> None:
        check_convention(convention)
        super().__init__(**kwargs)
        self.convention = convention
        self._add_table("pairs", N_PAIR_COLUMNS)

    def update(
        self,
        scores: Tensor,
        spans: Tensor | Sequence[Tensor],
        videos: Tensor | Sequence[int] | Sequence[str] | None = None,
        starts: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        """Count clips.

        Args:
            scores (Tensor): One score per frame, (N, T).
            spans (Tensor or sequence of Tensor): Annotations of each clip, half-open, in frames: of the clip
                without ``videos``; with ``videos`` all of the clip's video and label, in frames of the video.
            videos (Tensor or sequence, optional): Id of the video of each clip, whole numbers or names.
                Default: every clip is a video of its own.
            starts (Tensor, optional): First frame of each clip in its video, (N,); needed with ``videos``.
            labels (Tensor, optional): Class of each row of scores, (N,), where a clip is scored for several.

        Raises:
            TypeError: If the scores are not floating point, or spans, starts or labels not integers.
            ValueError: If shapes do not match or a value is bad.
        """
        pairs = clip_annotation_pairs(scores, spans, videos, starts, labels)
        if videos is None:
            self.sums += _sums(count_votes(pairs, self.convention)).to(self.sums.device)
        else:
            self._append("pairs", pairs)

    def lift(self) -> float:
        """How many times the accuracy of a random point was reached: value / chance; NaN before any vote."""
        summary = self.summary()
        return summary.value / summary.chance

    def _clusters(self) -> ClusterSums:
        votes = count_votes(self._table("pairs"), self.convention)
        return ClusterSums(*(self.sums + _sums(votes).to(self.sums.device)))


def _sums(votes: PointingVotes) -> Tensor:
    n_videos = int(votes.videos.max()) + 1 if len(votes.videos) else 0
    values, counts, chance = (
        torch.zeros(n_videos, dtype=torch.float64).index_add_(0, votes.videos, per_vote)
        for per_vote in (votes.hits.double(), torch.ones_like(votes.chance), votes.chance)
    )
    return cluster_sums(values, counts, chance)
