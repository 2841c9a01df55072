"""The single best frame of a clip, and the single best point of a frame."""

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext._maps import check_maps
from captum_ext._series import check_series

# Interpolation in float64 turns equal values into ones that differ by a few parts in 1e16; this much of a
# map's largest magnitude still counts as equal, so that "the earliest on ties" holds after it as before.
_TIE = 1e-12


def peak_frame(scores: Tensor) -> Tensor:
    """Point at the frame with the highest score, the earliest on ties.

    Args:
        scores (Tensor): One score per frame: a saliency sum, or the probability of a class.

    Shape:
        - scores: (N, T)
        - returns: (N,)

    Returns:
        Tensor: Index of the frame, int64, 0 to T - 1.

    Raises:
        TypeError: If the scores are not a floating-point tensor.
        ValueError: If they are not of shape (N, T), hold no clip or no frame, or are not finite.

    Example:
        >>> peak_frame(torch.tensor([[0.1, 0.9, 0.9], [-1.0, -2.0, -3.0]]))
        tensor([1, 0])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 5.2 (the pointing game in time).
    """
    check_series(scores)
    return scores.argmax(dim=1)


def peak_point(maps: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """Point at the highest value of each frame's map, in pixels of the input.

    Each map is resized to the frame bilinearly (``align_corners=False``: a map and a frame share their outer
    edges), and the highest pixel is taken, on ties the earliest in row-major order. Pixel (x, y) covers
    ``[x, x + 1)`` by ``[y, y + 1)``; its centre is (x + 0.5, y + 0.5).

    Args:
        maps (Tensor): Saliency per frame with channels already summed, at most as large as the frame.
        frame_size (tuple of int): Height and width of the frame in pixels, (H, W).

    Shape:
        - maps: (N, T, h, w)
        - returns: (N, T, 2)

    Returns:
        Tensor: Points (x, y): column, then row, int64 pixel indices with 0 <= x < W and 0 <= y < H.

    Raises:
        TypeError: If the maps are not a floating-point tensor.
        ValueError: If they are not of shape (N, T, h, w), are empty, not finite or larger than the frame.

    Example:
        >>> maps = torch.zeros(1, 1, 4, 6)
        >>> maps[0, 0, 1, 5] = 1.0  # row 1, column 5
        >>> peak_point(maps, (4, 6))
        tensor([[[5, 1]]])

    References:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018 (the pointing game); Bargal
        et al., Excitation Backprop for RNNs, CVPR 2018, section 5.1.
    """
    check_maps(maps, frame_size)
    # One clip at a time: the maps of a whole batch at the input's resolution may not fit into memory.
    return torch.stack([_peak_point(clip, frame_size) for clip in maps])


def _peak_point(maps: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """(T, h, w) -> (T, 2)."""
    resized = F.interpolate(maps.double()[None], size=frame_size, mode="bilinear", align_corners=False)[0]
    slack = _TIE * maps.double().abs().amax(dim=(1, 2))
    peak = resized >= (resized.amax(dim=(1, 2)) - slack)[:, None, None]
    index = peak.flatten(1).byte().argmax(dim=1)  # the first True of each frame
    width = frame_size[1]
    return torch.stack([index % width, index // width], dim=1)
