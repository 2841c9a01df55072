"""The energy-based pointing game over a data set."""

from typing import Any, get_args

from torch import Tensor

from captum_ext.metrics._frame_mean import Average, FrameMean
from captum_ext.metrics.functional import box_area_share, energy_pointing_game
from captum_ext.metrics.functional.energy_pointing import NegativeValues

__all__ = ["EnergyPointingGame"]


class EnergyPointingGame(FrameMean):
    """Share of the map's energy that lies inside the boxes, averaged over the annotated frames.

    Unlike a pointing game it looks at the whole map. Values are those of
    :func:`~captum_ext.metrics.functional.energy_pointing_game`; chance is the boxes' share of the area, which
    an even map has inside. Frames without a box are skipped and counted. The interval takes clips as the
    examples (ratio estimator), and ``n`` is the number of clips.

    Args:
        negative (str): What negative values are: ``"clip"`` counts only the positive part of a map,
            ``"absolute"`` takes absolute values, ``"refuse"`` raises.
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
        >>> metric = EnergyPointingGame()
        >>> maps = torch.tensor([[[[1.0, 3.0], [-2.0, 0.0]]]])
        >>> metric.update(maps, torch.tensor([[[[75.0, 0.0, 100.0, 40.0]]]]), (40, 100))
        >>> metric.compute(), metric.summary().chance
        (tensor(0.3750, dtype=torch.float64), 0.25)

    References:
        Wang et al., Score-CAM, CVPR workshops 2020, section 4.3.
    """

    higher_is_better: bool = True

    def __init__(
        self,
        negative: NegativeValues = "clip",
        average: Average = "frames",
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(average, num_classes, **kwargs)
        if negative not in get_args(NegativeValues):
            raise ValueError(f'negative must be "clip", "absolute" or "refuse", got {negative!r}.')
        self.negative = negative

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
            ValueError: As for :func:`~captum_ext.metrics.functional.energy_pointing_game`, or if labels are
                missing or not in 0..num_classes - 1.
        """
        shares = energy_pointing_game(maps, boxes, frame_size, self.negative)
        self._add_frames(shares, box_area_share(boxes, frame_size), labels)
