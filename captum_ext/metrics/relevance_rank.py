"""Relevance rank accuracy over a data set."""

from typing import Any

from torch import Tensor

from captum_ext.metrics._frame_mean import Average, FrameMean
from captum_ext.metrics.functional import box_area_share, relevance_rank

__all__ = ["RelevanceRank"]


class RelevanceRank(FrameMean):
    """Share of the K most relevant pixels that lie inside the boxes, K being the boxes' area.

    Values are those of :func:`~captum_ext.metrics.functional.relevance_rank`, averaged over the annotated
    frames; only the order of a map's values matters. Chance is the boxes' share of the area, which a random
    order has inside. Frames without a box are skipped and counted. The interval takes clips as the examples
    (ratio estimator), and ``n`` is the number of clips.

    Args:
        average (str): ``"frames"``: mean over all frames. ``"clips"``: mean over clips of the mean of each.
            ``"classes"``: mean over classes of the mean over the frames of each.
        num_classes (int, optional): Number of classes, with ``average="classes"`` only.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - maps: (N, T, h, w)
        - boxes: (N, T, B, 4)
        - compute: a scalar, float64, in 0..1; NaN before any annotated frame

    Example:
        >>> import torch
        >>> metric = RelevanceRank()
        >>> maps = torch.tensor([[[[1.0, 3.0, 2.0, 2.0]]]])
        >>> metric.update(maps, torch.tensor([[[[1.0, 0.0, 3.0, 1.0]]]]), (1, 4))
        >>> metric.compute(), metric.summary().chance
        (tensor(0.7500, dtype=torch.float64), 0.5)

    References:
        Arras et al., CLEVR-XAI, Information Fusion 81, 2022.
    """

    higher_is_better: bool = True

    def __init__(self, average: Average = "frames", num_classes: int | None = None, **kwargs: Any) -> None:
        super().__init__(average, num_classes, **kwargs)

    def update(
        self, maps: Tensor, boxes: Tensor, frame_size: tuple[int, int], labels: Tensor | None = None
    ) -> None:
        """Count clips.

        Args:
            maps (Tensor): Saliency per frame with channels already summed, (N, T, h, w), at most as large as
                the frame.
            boxes (Tensor): Boxes ``x0, y0, x1, y1`` in pixels of the input, half-open, (N, T, B, 4), padded
                with rows of NaN.
            frame_size (tuple of int): Height and width of the frame in pixels, (H, W).
            labels (Tensor, optional): Class of each clip, (N,), with ``average="classes"``.

        Raises:
            TypeError: If maps or boxes are not floating point, or labels not integers.
            ValueError: As for :func:`~captum_ext.metrics.functional.relevance_rank`, or if labels are missing
                or not in 0..num_classes - 1.
        """
        self._add_frames(relevance_rank(maps, boxes, frame_size), box_area_share(boxes, frame_size), labels)
