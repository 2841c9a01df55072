"""The pictures of one explained sample: an image beside its overlay, or the strip and animation of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext.visualization import overlay, timeline_strip
from captum_ext.visualization.overlay import Negative

__all__ = ["Layout", "Pictures", "draw", "maps_of", "visible_frames"]

Layout = Literal["NCTHW", "NTCHW"]

# Layout of an image's picture in pixels: the title's lines above, the image and its overlay below.
MARGIN, LINE = 8, 18
_SMALLEST_SIDE = 192  # smaller images are enlarged, so that a title fits above them
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
    if inputs.dim() not in (4, 5):
        raise ValueError(
            f"inputs must be images (N, C, H, W) or clips (N, C, T, H, W), got {tuple(inputs.shape)}; "
            f"input_fn says where they are in the batch"
        )
    pixels = inputs.detach()[0].float()
    frames = pixels[None] if pixels.dim() == 3 else pixels.movedim(layout.index("T") - 1, 0)
    if mean is None or std is None:
        low, high = frames.aminmax()
        frames = (frames - low) / (high - low).clamp(min=torch.finfo(frames.dtype).tiny)
    else:
        C = frames.shape[1]
        if len(mean) not in (1, C):
            raise ValueError(f"mean and std have {len(mean)} numbers, but the inputs {C} channels (axis C)")
        frames = frames * frames.new_tensor(std).view(-1, 1, 1) + frames.new_tensor(mean).view(-1, 1, 1)
    if frames.shape[1] != 3:
        frames = frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


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
        raise TypeError(f"the attribution is a {type(attribution).__name__}, not a tensor")
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
        caption (str): parts separated by ``"; "``, for an image written on a line each.
        is_clip (bool): whether time is to be shown.
        negative (str): as in :func:`captum_ext.visualization.overlay`.

    Shape:
        frames (T, 3, H, W), uint8; maps (T', h, w)

    Returns:
        Pictures: of a clip the strip with the curve of the evidence per frame, and the painted clip. Of an
        image it and its overlay; the first begins at row ``MARGIN + LINE * lines``, column ``MARGIN``.
    """
    if not is_clip:
        return Pictures(_beside(frames, maps, caption, negative), None, caption)
    curve = F.interpolate(maps.sum((1, 2))[None, None], len(frames), mode="linear", align_corners=False)[0, 0]
    strip = timeline_strip(frames, maps, curve, title=caption, negative=negative)
    still = torch.from_numpy(np.array(strip)).movedim(-1, 0).contiguous()
    return Pictures(still, overlay(frames, maps, negative=negative).cpu(), caption)


def _beside(frames: Tensor, maps: Tensor, caption: str, negative: Negative) -> Tensor:
    factor = -(-_SMALLEST_SIDE // min(frames.shape[2:]))
    large = frames.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    painted = overlay(large, maps, negative=negative)
    pair = torch.cat([F.pad(large, (0, MARGIN), value=255), painted], dim=3)[0].cpu()
    title = _title(caption.split("; "), pair.shape[2] + 2 * MARGIN)
    return torch.cat([title, F.pad(pair, (MARGIN, MARGIN, 0, MARGIN), value=255)], dim=1)


def _title(lines: list[str], width: int) -> Tensor:
    """Lines of text, dark on white, as a picture (3, MARGIN + LINE * lines, width)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # the object API: no pyplot, no global state
    from matplotlib.figure import Figure

    height = MARGIN + LINE * len(lines)
    # A pixel more on either side, since some releases of matplotlib round the size down.
    w, h = width + 1, height + 1
    figure = Figure(figsize=(w / _DPI, h / _DPI), dpi=_DPI, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib ships no types for its canvases
    for i, line in enumerate(lines):
        y = 1 - (MARGIN / 2 + LINE * (i + 0.5)) / h
        figure.text(MARGIN / w, y, line, color=_INK, fontsize=9, va="center", parse_math=False)
    canvas.draw()
    pixels = np.array(canvas.buffer_rgba())[:height, :width, :3]
    return torch.from_numpy(pixels).movedim(-1, 0)
