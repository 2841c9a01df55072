"""The pointing game in space: does the best point of a frame lie in, or close to, a box?"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext._maps import check_maps
from captum_ext.metrics.functional.boxes import check_boxes, has_box

# Interpolation in float64 turns equal values into ones that differ by a few parts in 1e16; this much of a
# map's largest magnitude still counts as a tie.
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class SpatialPointing:
    """Result of the spatial pointing game, frame by frame.

    Attributes:
        hits (Tensor): True for a hit, bool, (N, T); False where there was no box.
        valid (Tensor): True where the frame has a box and so counts, bool, (N, T).
        ambiguous (Tensor): True for frames that are misses only because their map is constant or its tied
            highest pixels lie both inside and outside, bool, (N, T).
    """

    hits: Tensor
    valid: Tensor
    ambiguous: Tensor

    @property
    def n(self) -> int:
        """Number of frames that count."""
        return int(self.valid.sum())

    @property
    def n_skipped(self) -> int:
        """Number of frames without a box, which do not count."""
        return int((~self.valid).sum())

    @property
    def accuracy(self) -> float:
        """Hits / (hits + misses) over all frames that count, 0..1; NaN if there are none.

        Averaged over frames. For an average over classes, take ``hits[c][valid[c]]`` for the clips of each.
        """
        return int(self.hits.sum()) / self.n if self.n else float("nan")


def spatial_pointing_game(
    maps: Tensor,
    boxes: Tensor,
    frame_size: tuple[int, int],
    tolerance: float = 15,
    shape: Literal["disc", "square"] = "disc",
) -> SpatialPointing:
    """Check for each frame whether the highest point of its map meets one of its boxes.

    Each map is resized to the frame bilinearly (``align_corners=False``) and points at its highest pixel. A
    pixel belongs to a box if the two overlap. It is a hit if the pointed pixel belongs to a box, or if a
    pixel of a box lies *strictly* closer to it than the tolerance, centre to centre.

    A constant map points nowhere and is a miss. If several pixels tie for the highest value, all of them must
    hit. So a map that says little earns nothing by luck, while the small plateaus that resizing makes at the
    border do no harm.

    The papers' settings:

    =============================  ==================  ===================================================
    Bargal et al. 2018 (EB-R)      7.5, ``"disc"``     a circle of 15 px *diameter*
    Zhang et al. 2018, TorchRay    15, ``"disc"``      offsets of 14 px hit, of 15 px miss, as in TorchRay
    Li et al. 2021 (STEP), text    7, ``"disc"``       a circle of 7 px radius
    Li et al. 2021 (STEP), code    7.5, ``"square"``   boxes grown by 7 px, edges included
    =============================  ==================  ===================================================

    Args:
        maps (Tensor): Saliency per frame with channels already summed, at most as large as the frame.
        boxes (Tensor): Ground truth boxes ``x0, y0, x1, y1`` in pixels of the input, half-open, up to B per
            frame. Rows that are all NaN are padding; frames of nothing but padding are skipped.
            :func:`~captum_ext.metrics.functional.pad_boxes` makes it from lists; with one box per frame,
            ``boxes[:, :, None]`` adds the axis.
        frame_size (tuple of int): Height and width of the frame in pixels, (H, W).
        tolerance (float): Radius of the disc, or half the side of the square, in pixels of the input; 0 asks
            for a point in the box itself.
        shape (str): ``"disc"`` (Euclidean distance) or ``"square"`` (the larger of the distances in x and y).

    Shape:
        - maps: (N, T, h, w)
        - boxes: (N, T, B, 4)
        - result: ``hits``, ``valid`` and ``ambiguous`` of shape (N, T)

    Returns:
        SpatialPointing: Hits per frame, which frames count, and the accuracy over them. Compare it with the
        mean of :func:`spatial_pointing_chance` and with :func:`spatial_pointing_center`.

    Raises:
        TypeError: If maps or boxes are not floating-point tensors.
        ValueError: If shapes do not match, something is empty, a map is not finite or larger than the frame,
            a box is empty, reversed, half NaN or outside the frame, or tolerance or shape is not valid.

    Example:
        >>> maps = torch.zeros(1, 2, 40, 100)
        >>> maps[0, :, 15, 90] = 1.0  # row 15, column 90
        >>> box = torch.tensor([80.0, 10.0, 95.0, 20.0])
        >>> none = torch.full((4,), float("nan"))
        >>> result = spatial_pointing_game(maps, torch.stack([box, none])[None, :, None], (40, 100))
        >>> result.hits, result.accuracy, result.n, result.n_skipped
        (tensor([[ True, False]]), 1.0, 1, 1)

    References:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018; Bargal et al., Excitation
        Backprop for RNNs, CVPR 2018, section 5.1; Li et al., Towards Visually Explaining Video Understanding
        Networks with Perturbation, WACV 2021, section 4.
    """
    check_boxes(boxes, frame_size)
    _check_rule(tolerance, shape)
    check_maps(maps, frame_size)
    if boxes.shape[:2] != maps.shape[:2]:
        raise ValueError(
            f"boxes and maps must agree in (N, T): boxes have {tuple(boxes.shape[:2])}, "
            f"maps {tuple(maps.shape[:2])}."
        )
    boxes = boxes.to(maps.device)
    # One clip at a time: the maps of a whole batch at the input's resolution may not fit into memory.
    results = [
        _hits(clip_maps, _hit_pixels(clip_boxes, frame_size, tolerance, shape))
        for clip_maps, clip_boxes in zip(maps, boxes, strict=True)
    ]
    hits, ambiguous = (torch.stack(part) for part in zip(*results, strict=True))
    valid = has_box(boxes)
    return SpatialPointing(hits=hits, valid=valid, ambiguous=ambiguous & valid)


def spatial_pointing_center(
    boxes: Tensor,
    frame_size: tuple[int, int],
    tolerance: float = 15,
    shape: Literal["disc", "square"] = "disc",
) -> SpatialPointing:
    """Play the spatial pointing game with the centre of each frame: the baseline that knows about framing.

    The point is pixel (W // 2, H // 2), the one that holds the centre of the frame.

    Args:
        boxes (Tensor): As for :func:`spatial_pointing_game`.
        frame_size (tuple of int): Height and width of the frame in pixels, (H, W).
        tolerance (float): As for :func:`spatial_pointing_game`, in pixels.
        shape (str): ``"disc"`` or ``"square"``.

    Shape:
        - boxes: (N, T, B, 4)
        - result: ``hits``, ``valid`` and ``ambiguous`` of shape (N, T)

    Returns:
        SpatialPointing: Hits per frame, which frames count, and the accuracy over them.

    Raises:
        TypeError: If boxes are not a floating-point tensor.
        ValueError: As for :func:`spatial_pointing_game`.

    Example:
        >>> boxes = torch.tensor([[[[20.0, 10.0, 60.0, 25.0]], [[80.0, 10.0, 95.0, 20.0]]]])
        >>> spatial_pointing_center(boxes, (40, 100)).hits
        tensor([[ True, False]])
    """
    check_boxes(boxes, frame_size)
    _check_rule(tolerance, shape)
    row, column = frame_size[0] // 2, frame_size[1] // 2
    hits = torch.stack(
        [_hit_pixels(clip_boxes, frame_size, tolerance, shape)[:, row, column] for clip_boxes in boxes]
    )
    return SpatialPointing(hits=hits, valid=has_box(boxes), ambiguous=torch.zeros_like(hits))


def spatial_pointing_chance(
    boxes: Tensor,
    frame_size: tuple[int, int],
    tolerance: float = 15,
    shape: Literal["disc", "square"] = "disc",
) -> Tensor:
    """Probability that a uniformly random pixel of each frame is a hit.

    Args:
        boxes (Tensor): As for :func:`spatial_pointing_game`.
        frame_size (tuple of int): Height and width of the frame in pixels, (H, W).
        tolerance (float): As for :func:`spatial_pointing_game`, in pixels.
        shape (str): ``"disc"`` or ``"square"``.

    Shape:
        - boxes: (N, T, B, 4)
        - returns: (N, T)

    Returns:
        Tensor: Exact probabilities in (0, 1], float64, from counting pixels; NaN for frames without a box.

    Raises:
        TypeError: If boxes are not a floating-point tensor.
        ValueError: As for :func:`spatial_pointing_game`.

    Example:
        >>> boxes = torch.tensor([[[[20.0, 10.0, 60.0, 25.0]]]])
        >>> spatial_pointing_chance(boxes, (40, 100), tolerance=0)  # 40 x 15 pixels of 100 x 40
        tensor([[0.1500]], dtype=torch.float64)
    """
    check_boxes(boxes, frame_size)
    _check_rule(tolerance, shape)
    shares = [
        _hit_pixels(clip_boxes, frame_size, tolerance, shape).double().mean(dim=(1, 2))
        for clip_boxes in boxes
    ]
    return torch.stack(shares).masked_fill(~has_box(boxes), torch.nan)


def _check_rule(tolerance: float, shape: str) -> None:
    if shape not in ("disc", "square"):
        raise ValueError(f'shape must be "disc" or "square", got {shape!r}.')
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance must be a radius of at least 0 pixels, got {tolerance}.")


def _hit_pixels(boxes: Tensor, frame_size: tuple[int, int], tolerance: float, shape: str) -> Tensor:
    """Mark the pixels of each frame that hit when pointed at: (T, B, 4) -> (T, H, W)."""
    # A padded box, NaN, is nowhere: every comparison with its distances is false.
    x0, y0, x1, y1 = boxes.double().unbind(dim=-1)
    dx = _distance(x0.floor(), x1.ceil() - 1, frame_size[1])[:, :, None, :]
    dy = _distance(y0.floor(), y1.ceil() - 1, frame_size[0])[:, :, :, None]
    # Squares of whole numbers are exact; a rounded root could slip under the tolerance.
    squared = torch.maximum(dx, dy) ** 2 if shape == "square" else dx**2 + dy**2
    return ((squared == 0) | (squared < tolerance**2)).any(dim=1)


def _distance(first: Tensor, last: Tensor, size: int) -> Tensor:
    """Distance of pixels 0..size-1 to the pixels first..last along one axis: (T, B) -> (T, B, size)."""
    pixel = torch.arange(size, device=first.device, dtype=first.dtype)
    return torch.maximum(first[..., None] - pixel, pixel - last[..., None]).clamp(min=0)


def _hits(maps: Tensor, hit_pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Hits and ambiguous frames of one clip: (T, h, w) and (T, H, W) -> (T,) and (T,)."""
    maps = maps.double()
    size = hit_pixels.shape[1:]
    resized = F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    slack = _TIE * maps.abs().amax(dim=(1, 2))
    highest = resized >= (resized.amax(dim=(1, 2)) - slack)[:, None, None]
    constant = maps.amax(dim=(1, 2)) == maps.amin(dim=(1, 2))
    some = (highest & hit_pixels).any(dim=2).any(dim=1)
    every = (hit_pixels | ~highest).all(dim=2).all(dim=1)
    return every & ~constant, some & (constant | ~every)
