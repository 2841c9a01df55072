"""The spatial pointing game over a data set: does the best point of a frame meet a box?"""

from typing import Any, Literal

import torch
from torch import Tensor

from captum_ext.metrics._frame_mean import Average, FrameMean
from captum_ext.metrics.functional import spatial_pointing_chance, spatial_pointing_game

__all__ = ["SpatialPointingGame"]

_PRESETS: dict[str, tuple[float, Literal["disc", "square"]]] = {
    "bargal2018": (7.5, "disc"),
    "zhang2018": (15, "disc"),
    "li2021-text": (7, "disc"),
    "li2021-code": (7.5, "square"),
}


class SpatialPointingGame(FrameMean):
    """Share of the annotated frames in which the highest point of the map meets a box.

    Hits are those of :func:`~captum_ext.metrics.functional.spatial_pointing_game`. Frames without a box are
    skipped and counted; frames that are misses only since their map is constant or its ties lie inside and
    outside are counted too, see :meth:`counts`. Chance is the exact probability that a uniformly random pixel
    hits, averaged in the same way.

    Frames of one clip are not independent: the interval takes clips as the examples (ratio estimator;
    Wilson's where every clip has one frame), and ``n`` in the summary is the number of clips.

    Args:
        tolerance (float): Radius of the disc, or half the side of the square, in pixels of the input.
        shape (str): ``"disc"`` or ``"square"``.
        average (str): ``"frames"``: hits / frames over everything. ``"clips"``: mean over clips of the
            accuracy of each. ``"classes"``: mean over classes of hits / frames of each, as TorchRay does.
        num_classes (int, optional): Number of classes, with ``average="classes"`` only.
        kwargs (Any): Options of :class:`torchmetrics.Metric`.

    Shape:
        - maps: (N, T, h, w)
        - boxes: (N, T, B, 4)
        - compute: a scalar, float64, in 0..1; NaN before any annotated frame

    Example:
        >>> maps = torch.zeros(1, 3, 40, 100)
        >>> maps[0, :, 15, 90] = 1.0  # row 15, column 90
        >>> hit, miss = [80.0, 10.0, 95.0, 20.0], [0.0, 0.0, 20.0, 20.0]
        >>> metric = SpatialPointingGame.preset("bargal2018")
        >>> metric.update(maps, torch.tensor([[[hit], [miss], [[float("nan")] * 4]]]), (40, 100))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
        >>> metric.counts()
        {'clips': 1, 'frames': 2, 'skipped': 1, 'ambiguous': 0}

    References:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018; Bargal et al., Excitation
        Backprop for RNNs, CVPR 2018, section 5.1; Li et al., Towards Visually Explaining Video Understanding
        Networks with Perturbation, WACV 2021, section 4.
    """

    higher_is_better: bool = True

    n_ambiguous: Tensor

    def __init__(
        self,
        tolerance: float = 15,
        shape: Literal["disc", "square"] = "disc",
        average: Average = "frames",
        num_classes: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(average, num_classes, **kwargs)
        if shape not in ("disc", "square"):
            raise ValueError(f'shape must be "disc" or "square", got {shape!r}.')
        if not 0 <= tolerance < float("inf"):
            raise ValueError(f"tolerance must be a radius of at least 0 pixels, got {tolerance}.")
        self.tolerance = tolerance
        self.shape: Literal["disc", "square"] = shape
        self.add_state("n_ambiguous", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @classmethod
    def preset(cls, name: str, **options: Any) -> "SpatialPointingGame":
        """The tolerance and shape of a paper.

        Args:
            name (str): ``"bargal2018"`` (EB-R: a circle of 15 px diameter), ``"zhang2018"`` (EB and TorchRay:
                radius 15), ``"li2021-text"`` (STEP as written: radius 7) or ``"li2021-code"`` (STEP as
                coded: boxes grown by 7 px, edges included).
            options (Any): The other arguments of the class.

        Returns:
            SpatialPointingGame: The metric.

        Raises:
            ValueError: If there is no preset of that name.
        """
        if name not in _PRESETS:
            raise ValueError(f"there are the presets {', '.join(_PRESETS)}, got {name!r}.")
        tolerance, shape = _PRESETS[name]
        return cls(tolerance, shape, **options)

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
            ValueError: As for :func:`~captum_ext.metrics.functional.spatial_pointing_game`, or if labels are
                missing or not in 0..num_classes - 1.
        """
        result = spatial_pointing_game(maps, boxes, frame_size, self.tolerance, self.shape)
        chance = spatial_pointing_chance(boxes, frame_size, self.tolerance, self.shape)
        self._add_frames(result.hits.double().masked_fill(~result.valid, torch.nan), chance, labels)
        self.n_ambiguous += result.ambiguous.sum().to(self.n_ambiguous.device)

    def counts(self) -> dict[str, int]:
        """How much was counted, over all processes.

        Returns:
            dict: ``clips`` with an annotated frame, annotated ``frames``, frames ``skipped`` since they have
            no box, and ``ambiguous`` misses among the frames.
        """
        return super().counts()

    def _counts(self) -> dict[str, int]:
        return {**super()._counts(), "ambiguous": int(self.n_ambiguous)}
