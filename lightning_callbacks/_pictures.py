"""The pictures of one explained sample: an image beside its overlay, or the strip and animation of a clip."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext.metrics import CompressionCurve
from captum_ext.visualization import overlay, timeline_strip
from captum_ext.visualization.overlay import Negative
from captum_ext.visualization.timeline import LEFT

__all__ = ["Layout", "Pictures", "draw", "draw_curves", "maps_of", "share_outside", "visible_frames"]

Layout = Literal["NCTHW", "NTCHW"]

# Layout of an image's picture in pixels: the title's lines above, the image and its overlay below.
MARGIN, LINE = 8, 18
_SMALLEST_SIDE = {"still": 192, "moving": 96}  # pictures with a smaller one are enlarged
_LONGEST_SIDE, _LONGEST_ENLARGED = 640, 512
_SMALLEST_WIDTH = 2 * _SMALLEST_SIDE["still"] + 3 * MARGIN  # so that a title fits
_DPI = 100
_INK = "#1c2430"


@dataclass(frozen=True)
class Pictures:
    """What a sample's pictures are.

    Args:
        still (Tensor): uint8 (3, H, W), on the CPU.
        moving (Tensor, optional): the overlay of a clip, uint8 (T, 3, H, W), on the CPU.
        caption (str): what is written on ``still``.
    """

    still: Tensor
    moving: Tensor | None
    caption: str


def visible_frames(
    inputs: Tensor,
    layout: Layout,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Tensor:
    """Turn what a model reads into what a person sees.

    Args:
        inputs (Tensor): one image or clip.
        layout (str): axes of a clip.
        mean (tuple of float, optional): the normalisation to undo, one number or one per channel. Default:
            the smallest value of the sample becomes black, its largest white.
        std (tuple of float, optional): goes with ``mean``.

    Shape:
        inputs (1, C, H, W), or by layout (1, C, T, H, W) or (1, T, C, H, W); returns (T, 3, H, W)

    Returns:
        Tensor: uint8, on the device of ``inputs``, an image as a clip of one frame. Where there are not three
        channels their mean is shown, in grey.
    """
    frames = _frames(inputs, layout, mean, std)
    if frames.shape[1] != 3:
        frames = frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


def share_outside(
    inputs: Tensor, layout: Layout, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> float:
    """Share of the values that are clearly no colours, below -0.05 or above 1.05, when they should be.

    Args:
        inputs (Tensor): as in :func:`visible_frames`.
        layout (str): as there.
        mean (tuple of float, optional): as there.
        std (tuple of float, optional): as there.

    Returns:
        float: in 0..1; large if the inputs are not normalised by this mean and std.
    """
    frames = _frames(inputs, layout, mean, std)
    return float(((frames < -0.05) | (frames > 1.05)).float().mean())


def _frames(
    inputs: Tensor, layout: Layout, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Tensor:
    """Colours in 0..1 if the normalisation is right, (T, C, H, W)."""
    _check_axes(inputs, layout)
    pixels = inputs.detach()[0].float()
    frames = pixels[None] if pixels.dim() == 3 else pixels.movedim(layout.index("T") - 1, 0)
    if mean is None or std is None:
        low, high = frames.aminmax()
        return (frames - low) / (high - low).clamp(min=torch.finfo(frames.dtype).tiny)
    C = frames.shape[1]
    if len(mean) not in (1, C):
        raise ValueError(f"mean and std have {len(mean)} numbers, but the inputs {C} channels (axis C)")
    return frames * frames.new_tensor(std).view(-1, 1, 1) + frames.new_tensor(mean).view(-1, 1, 1)


def _check_axes(inputs: Tensor, layout: Layout) -> None:
    """Raise unless these are images or clips whose axes are plausible."""
    shape = tuple(inputs.shape)
    if inputs.dim() not in (4, 5):
        raise ValueError(
            f"inputs must be images (N, C, H, W) or clips (N, C, T, H, W), got {shape}; input_fn says where "
            f"they are in the batch"
        )
    if inputs.dim() == 4 and shape[1] > 4 and shape[3] == 3:
        raise ValueError(
            f"images of the shape {shape} seem to have their channels last; the axes (N, C, H, W) are "
            f"needed: input_fn=lambda batch: batch[0].movedim(-1, 1), and a model that takes these"
        )
    if inputs.dim() == 5 and shape[layout.index("C")] > 4 and shape[layout.index("T")] == 3:
        other = "NTCHW" if layout == "NCTHW" else "NCTHW"
        raise ValueError(
            f"clips of the shape {shape} have {shape[layout.index('C')]} channels and 3 frames in the layout "
            f"{layout!r}: frames and channels look swapped; pass layout={other!r}"
        )


def maps_of(attribution: object, inputs: Tensor, layout: Layout) -> Tensor:
    """Sum an attribution of one example over its channels.

    Args:
        attribution (Tensor or tuple of one Tensor): at the inputs, or at a layer of lower resolution.
        inputs (Tensor): the image or clip that was explained.
        layout (str): axes of a clip. An attribution of the clip's shape has them too; one of another shape
            has its channels first, as layers have.

    Shape:
        attribution (1, C, h, w), or (1, C, T', h, w), or (T, C, h, w) from a layer that sees the frames of a
        clip as its batch; returns (T', h, w)

    Returns:
        Tensor: float32; of an image T' = 1.
    """
    if isinstance(attribution, tuple) and len(attribution) == 1:
        attribution = attribution[0]
    if not isinstance(attribution, Tensor):
        raise TypeError(
            f"the attribution is a {type(attribution).__name__}, not a tensor; leave out options such as "
            f"return_convergence_delta, which return more than a map"
        )
    found, shape = attribution.detach().float(), tuple(attribution.shape)
    if inputs.dim() == 4 and found.dim() == 4 and len(found) == 1:
        return found.sum(1)
    if inputs.dim() == 5:
        if found.dim() == 5 and len(found) == 1:
            return found[0].sum(layout.index("C") - 1 if found.shape == inputs.shape else 0)
        if found.dim() == 4 and len(found) == inputs.shape[layout.index("T")]:
            return found.sum(1)
    raise ValueError(
        f"an attribution of the shape {shape} is no map of inputs {tuple(inputs.shape)}: axes (1, C, h, w) "
        f"for an image and (1, C, T, h, w) for a clip are needed"
    )


def draw(frames: Tensor, maps: Tensor, caption: str, is_clip: bool, negative: Negative = "hide") -> Pictures:
    """Draw a sample and its map.

    Args:
        frames (Tensor): the sample.
        maps (Tensor): its map.
        caption (str): parts separated by ``"; "``, written on a line each; names that are too long are cut.
        is_clip (bool): whether time is to be shown.
        negative (str): as in :func:`captum_ext.visualization.overlay`.

    Shape:
        frames (T, 3, H, W), uint8; maps (T', h, w)

    Returns:
        Pictures: of a clip the strip with the curve of the evidence per frame, and the painted clip. Of an
        image it and its overlay. Both begin at row ``MARGIN + LINE * lines``, the image at column ``MARGIN``.
        Small samples are enlarged by a whole factor, large ones shrunk.
    """
    if not is_clip:
        return Pictures(_beside(frames, maps, caption, negative), None, caption)
    curve = F.interpolate(maps.sum((1, 2))[None, None], len(frames), mode="linear", align_corners=False)[0, 0]
    strip = np.array(timeline_strip(frames, maps, curve, negative=negative))
    still = _titled(torch.from_numpy(strip).movedim(-1, 0), caption, LEFT)
    return Pictures(still, overlay(_sized(frames, "moving"), maps, negative=negative).cpu(), caption)


def draw_curves(curves: Mapping[str, CompressionCurve]) -> Tensor:
    """Draw compression curves beside each other.

    Args:
        curves (mapping): order to curve, at least one.

    Returns:
        Tensor: uint8 (3, H, W), on the CPU.
    """
    from matplotlib.figure import Figure  # the object API: no pyplot, no global state

    figure = Figure(figsize=(4 * len(curves), 3), dpi=_DPI, facecolor="white", layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.values(), strict=True):
        curve.plot(axes)
        axes.set_title(f"{axes.get_title()}\narea {curve.area:.3f}", fontsize=9)
    return _pixels(figure)


def _beside(frames: Tensor, maps: Tensor, caption: str, negative: Negative) -> Tensor:
    large = _sized(frames, "still")
    painted = overlay(large, maps, negative=negative)
    pair = torch.cat([F.pad(large, (0, MARGIN), value=255), painted], dim=3)[0].cpu()
    return _titled(F.pad(pair, (MARGIN, MARGIN, 0, MARGIN), value=255), caption, MARGIN)


def _sized(frames: Tensor, kind: Literal["still", "moving"]) -> Tensor:
    """Frames (T, 3, H, W) of a size to look at."""
    H, W = frames.shape[2:]
    if max(H, W) > _LONGEST_SIDE:
        size = [max(1, round(side * _LONGEST_SIDE / max(H, W))) for side in (H, W)]
        return F.interpolate(frames.float(), size, mode="area").round().to(torch.uint8)
    factor = max(1, min(-(-_SMALLEST_SIDE[kind] // min(H, W)), _LONGEST_ENLARGED // max(H, W)))
    return frames.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def _titled(picture: Tensor, caption: str, left: int) -> Tensor:
    """A picture (3, H, W) with lines of text above it that begin at column ``left``."""
    wide = F.pad(picture, (0, max(0, _SMALLEST_WIDTH - picture.shape[2])), value=255)
    return torch.cat([_title(caption.split("; "), wide.shape[2], left), wide], dim=1)


def _title(lines: list[str], width: int, left: int) -> Tensor:
    """Lines of text, dark on white, as a picture (3, MARGIN + LINE * lines, width)."""
    from matplotlib.figure import Figure  # the object API: no pyplot, no global state

    height = MARGIN + LINE * len(lines)
    # A pixel more on either side, since some releases of matplotlib round the size down.
    w, h = width + 1, height + 1
    figure = Figure(figsize=(w / _DPI, h / _DPI), dpi=_DPI, facecolor="white")
    with warnings.catch_warnings():
        # The font has no Chinese, say; the caption that goes to the logger names the class.
        warnings.filterwarnings("ignore", message="Glyph")
        for i, line in enumerate(lines):
            y = 1 - (MARGIN / 2 + LINE * (i + 0.5)) / h
            text = figure.text(left / w, y, line, color=_INK, fontsize=9, va="center", parse_math=False)
            _shorten(text, width - left - MARGIN)
        return _pixels(figure)[:, :height, :width]


def _shorten(text: Any, width: int) -> None:
    """Cut the name in a line so that it fits, never the probability behind it."""
    line = text.get_text()
    end = line.rfind(", p = ") if ", p = " in line else len(line)

    def is_too_wide(n: int) -> bool:
        text.set_text(line if n == end else f"{line[:n]}…{line[end:]}")
        return bool(text.get_window_extent().width > width)

    if is_too_wide(end):
        is_too_wide(max(0, bisect_left(range(end), True, key=is_too_wide) - 1))


def _pixels(figure: Any) -> Tensor:
    """A figure of matplotlib as a picture (3, H, W)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)  # matplotlib ships no types for its canvases
    canvas.draw()
    return torch.from_numpy(np.array(canvas.buffer_rgba())[..., :3]).movedim(-1, 0).contiguous()
