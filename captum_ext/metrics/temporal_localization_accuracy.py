"""Window accuracy over a data set: do the windows found overlap the action well enough?"""

from typing import Any

import torch
from torch import Tensor

from captum_ext.metrics._example_mean import ExampleMean
from captum_ext.metrics.functional import (
    any_length_window_chance,
    center_window_chance,
    random_window_chance,
    whole_clip_chance,
    window_accuracy,
)

__all__ = ["TemporalLocalizationAccuracy"]


class TemporalLocalizationAccuracy(ExampleMean):
    """Share of the clips whose window overlaps the action with at least the given IoU.

    One window and one span per clip: an accuracy, not an average precision. Chance is exact: that of a random
    place for the window of the action's own length if the length was known, else that of a uniformly random
    window of any length. Answers that look at no saliency do much better than the latter, so read
    :meth:`baselines` too. The interval is Wilson's.

    Args:
        iou_threshold (float): Smallest intersection over union that is a hit, in (0, 1].
        known_length (bool): The windows were found knowing the action's length, and have it
            (:func:`captum_ext.grounding.known_length_window`). False for windows of any length
            (:func:`captum_ext.grounding.greedy_window`).
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - windows: (N, 2)
        - spans: (N, 2)
        - compute: a scalar, float64, in 0..1; NaN before any clip

    Example:
        >>> metric = TemporalLocalizationAccuracy()
        >>> metric.update(torch.tensor([[2, 5], [0, 3]]), torch.tensor([[3, 6], [5, 8]]), n_frames=8)
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
        >>> {name: round(value, 3) for name, value in metric.baselines().items()}
        {'random': 0.417, 'center': 0.5, 'whole_clip': 0.0}

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 5.2 and table 2.
    """

    higher_is_better: bool = True
    _votes: bool = True

    center_hits: Tensor
    whole_clip_hits: Tensor

    def __init__(self, iou_threshold: float = 0.5, known_length: bool = True, **kwargs: Any) -> None:
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"iou_threshold must lie in (0, 1], got {iou_threshold}.")
        super().__init__(**kwargs)
        self.iou_threshold = iou_threshold
        self.known_length = known_length
        for name in ("center_hits", "whole_clip_hits"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, windows: Tensor, spans: Tensor, n_frames: int) -> None:
        """Count clips.

        Args:
            windows (Tensor): Half-open windows ``[start, end)`` in frames, one per clip, (N, 2).
            spans (Tensor): Ground truth, half-open, one per clip, (N, 2).
            n_frames (int): Frames in each clip, T.

        Raises:
            TypeError: If windows or spans are not integers.
            ValueError: If shapes do not match, a window or span is empty, reversed or outside the clip, or a
                window has not the length of its span though it was known.
        """
        hits = window_accuracy(windows, spans, self.iou_threshold).double()
        outside = windows[:, 1] > n_frames
        if bool(outside.any()):
            raise ValueError(
                f"windows must end within the clip of {n_frames} frames, got {windows[outside][0].tolist()}."
            )
        lengths, wanted = windows.diff(dim=1)[:, 0], spans.to(windows.device).diff(dim=1)[:, 0]
        if self.known_length and not torch.equal(lengths.long(), wanted.long()):
            row = int((lengths != wanted).nonzero()[0])
            raise ValueError(
                f"the window of row {row} has {int(lengths[row])} frames and its span {int(wanted[row])}; "
                "for windows found without knowing the length, use known_length=False."
            )
        chance = random_window_chance if self.known_length else any_length_window_chance
        self._add(hits, chance(spans, n_frames, self.iou_threshold))
        center = center_window_chance(spans, n_frames, self.iou_threshold).sum()
        whole = whole_clip_chance(spans, n_frames, self.iou_threshold).sum()
        self.center_hits += center.to(self.center_hits.device)
        self.whole_clip_hits += whole.to(self.whole_clip_hits.device)

    def baselines(self) -> dict[str, float]:
        """What answers score that look at no saliency, on the same clips, over all processes.

        Returns:
            dict: ``random``, as in the summary's chance; ``center``, the window of the action's own length in
            the middle of the clip, which knows that length even where the method does not; and
            ``whole_clip``. NaN before any clip.
        """
        with self._synced():
            return {
                "random": float(self.chance_total / self.chance_n),
                "center": float(self.center_hits / self.n),
                "whole_clip": float(self.whole_clip_hits / self.n),
            }
