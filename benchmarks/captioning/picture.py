"""One clip, a row of frames for each of its words."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from captum_ext.visualization import overlay

__all__ = ["word_picture"]

_SCALE, _GAP, _LABEL_WIDTH, _TITLE_HEIGHT = 2, 6, 110, 30
_PEAK = 0.995
_BACKGROUND, _INK = "#ffffff", "#1c2430"


def word_picture(frames: Tensor, maps: Mapping[str, Tensor], title: str, columns: int = 6) -> Image.Image:
    """Frames of a clip, and below them for every word the same frames under its map.

    Shape:
        frames (T, 3, H, W) uint8; each map (T, h, w).
    """
    chosen = torch.linspace(0, len(frames) - 1, columns).round().long()
    large = F.interpolate(frames.float(), scale_factor=_SCALE, mode="bilinear").round().clamp(0, 255).byte()
    rows = {"clip": large}
    for word, found in maps.items():
        # Not the maximum, which would leave all but a few points too pale to see.
        peak = float(found.flatten().quantile(_PEAK))
        rows[word] = overlay(large, found, peak=peak if peak > 0 else None)
    height, width = large.shape[2:]
    size = (
        _LABEL_WIDTH + columns * (width + _GAP),
        _TITLE_HEIGHT + len(rows) * (height + _GAP),
    )
    picture = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=15)
    draw.text((_GAP, _GAP), title, _INK, font)
    for row, (label, shown) in enumerate(rows.items()):
        top = _TITLE_HEIGHT + row * (height + _GAP)
        draw.text((_GAP, top + height // 2 - 8), label, _INK, font)
        for column, t in enumerate(chosen.tolist()):
            cell = Image.fromarray(shown[t].permute(1, 2, 0).numpy())
            picture.paste(cell, (_LABEL_WIDTH + column * (width + _GAP), top))
    return picture
