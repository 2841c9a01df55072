"""Saliency maps laid over their clip, on whatever device the tensors are."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext.visualization._checks import check_frames, check_maps
from captum_ext.visualization.colormap import DIVERGING, SEQUENTIAL, lookup_table

Negative = Literal["hide", "show"]
"""What becomes of negative map values: left out, or painted in the other half of a diverging map."""


def overlay(
    frames: Tensor,
    maps: Tensor,
    *,
    negative: Negative = "hide",
    opacity: float = 0.8,
    peak: float | None = None,
) -> Tensor:
    """Paint a clip's saliency over its frames.

    Each pixel moves towards the map's colour by ``opacity`` times the map's value relative to the peak of
    the **whole clip**, so weak evidence leaves the picture visible. (Scaling each frame by its own peak
    would paint the frames before an action as brightly as the action itself.)

    Args:
        frames (Tensor): The clip, uint8 RGB.
        maps (Tensor): Its saliency, float, of any resolution; upsampled trilinearly when it has fewer time
            steps than the clip has frames, else bilinearly.
        negative (str): ``"hide"`` paints positive evidence only; ``"show"`` also paints evidence against,
            as contrastive maps have it, in blue. Default: ``"hide"``.
        opacity (float): Share of the colour at the peak, in [0, 1]. Default: 0.8.
        peak (float, optional): Map value to be painted in full colour. Pass one number for several clips or
            methods to make their colours comparable. Default: the clip's largest painted value.

    Shape:
        - frames: (T, 3, H, W)
        - maps: (T', h, w) with T' <= T
        - returns: (T, 3, H, W)

    Returns:
        Tensor: The painted clip, uint8 RGB on the device of ``frames``. A map with nothing to paint gives
        the frames unchanged.

    Raises:
        TypeError: If ``frames`` is not uint8 or ``maps`` not floating point.
        ValueError: If a shape, option or map value (NaN, infinity) does not fit.

    Example:
        >>> frames = torch.full((4, 3, 6, 8), 100, dtype=torch.uint8)
        >>> maps = torch.zeros(4, 3, 4)
        >>> maps[2, 1, 1] = 1.0
        >>> painted = overlay(frames, maps)
        >>> [bool((painted[t] != frames[t]).any()) for t in range(4)]
        [False, False, True, False]
    """
    check_frames(frames)
    T, _, H, W = frames.shape
    layer = heat_layer(maps, (T, H, W), negative=negative, opacity=opacity, peak=peak).to(frames.device)
    colour, alpha = layer[:, :3].float(), layer[:, 3:].float() / 255
    return torch.lerp(frames.float(), colour, alpha).round().to(torch.uint8)


def heat_layer(
    maps: Tensor,
    size: tuple[int, int, int],
    *,
    negative: Negative = "hide",
    opacity: float = 1.0,
    peak: float | None = None,
) -> Tensor:
    """Colour a clip's saliency as a translucent layer, to be composed with the frames elsewhere.

    Args:
        maps (Tensor): Saliency, float, of any resolution.
        size (tuple of int): Frames, height and width (T, H, W) of the clip it is to cover.
        negative (str): As in :func:`overlay`. Default: ``"hide"``.
        opacity (float): Alpha at the peak, in [0, 1]. Default: 1.
        peak (float, optional): As in :func:`overlay`.

    Shape:
        - maps: (T', h, w) with T' <= T
        - returns: (T, 4, H, W)

    Returns:
        Tensor: uint8 RGBA, alpha not premultiplied, on the device of ``maps``.

    Raises:
        TypeError: If ``maps`` is not floating point.
        ValueError: If a shape, option or map value (NaN, infinity) does not fit.

    Example:
        >>> heat_layer(torch.rand(2, 4, 4), (8, 32, 24)).shape
        torch.Size([8, 4, 32, 24])
    """
    colours = palette(negative, opacity).to(maps.device)
    return colours[levels(maps, size, negative=negative, peak=peak).long()].movedim(-1, 1).contiguous()


def levels(
    maps: Tensor, size: tuple[int, int, int], *, negative: Negative, peak: float | None = None
) -> Tensor:
    """Map saliency to the 256 rows of :func:`palette`, relative to the whole clip's peak.

    Args:
        maps (Tensor): Saliency (T', h, w), float.
        size (tuple of int): Frames, height and width (T, H, W) to upsample it to.
        negative (str): ``"hide"``: 0 is no evidence, 255 the peak. ``"show"``: 128 is no evidence, 1 and 255
            are the peak's size against and for.
        peak (float, optional): As in :func:`overlay`.

    Returns:
        Tensor: uint8 (T, H, W).
    """
    check_maps(maps, size[0])
    _check_negative(negative)
    if peak is not None and not 0 < peak < float("inf"):
        raise ValueError(f"peak must be a positive, finite map value, not {peak}.")
    values = _upsample(maps.detach().float(), size)
    if negative == "hide":
        values = values.clamp(min=0)
    scale = values.abs().amax() if peak is None else values.new_tensor(peak)
    # Division by an all-zero clip's peak gives NaN, which is "nothing to paint".
    values = (values / scale).nan_to_num(0.0).clamp(-1, 1)
    return (values * 255 if negative == "hide" else values * 127 + 128).round().to(torch.uint8)


def palette(negative: Negative, opacity: float = 1.0) -> Tensor:
    """Return the colour and alpha of each level: alpha grows with the evidence, zero evidence is clear.

    Args:
        negative (str): As in :func:`levels`.
        opacity (float): Alpha at the peak, in [0, 1]. Default: 1.

    Returns:
        Tensor: uint8 RGBA, shape (256, 4), alpha not premultiplied.
    """
    _check_negative(negative)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], not {opacity}.")
    level = torch.arange(256)
    strength = level / 255 if negative == "hide" else ((level - 128).abs() / 127).clamp(max=1)
    alpha = (255 * opacity * strength).round().to(torch.uint8)
    return torch.cat([lookup_table(SEQUENTIAL if negative == "hide" else DIVERGING), alpha[:, None]], dim=1)


def shade() -> Tensor:
    """Return the colour and alpha of each level of a mask: level 0 is hidden in black, level 255 is clear.

    Returns:
        Tensor: uint8 RGBA, shape (256, 4), alpha not premultiplied.
    """
    return F.pad(torch.arange(255, -1, -1, dtype=torch.uint8)[:, None], (3, 0))


def _upsample(maps: Tensor, size: tuple[int, int, int]) -> Tensor:
    T, H, W = size
    if len(maps) == T:  # frames stay apart: no evidence leaks into the frame before or after
        return F.interpolate(maps.unsqueeze(1), (H, W), mode="bilinear", align_corners=False).squeeze(1)
    return F.interpolate(maps[None, None], (T, H, W), mode="trilinear", align_corners=False)[0, 0]


def _check_negative(negative: str) -> None:
    if negative not in get_args(Negative):
        raise ValueError(f"negative must be 'hide' or 'show', not {negative!r}.")
