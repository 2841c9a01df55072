"""A clip, its evidence and its score curve S_t in one still picture, all on the same time axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from captum_ext.visualization._checks import check_frames, check_scores, check_span
from captum_ext.visualization.overlay import Negative, overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The strip's layout in pixels.
LEFT, RIGHT, TOP, GAP = 84, 16, 14, 6
TITLE_HEIGHT, CURVE_HEIGHT, FOOT_HEIGHT = 26, 150, 74
_DPI = 100

_INK, _GREY, _LINE = "#1c2430", "#69727f", "#2f5bd0"
_SPAN, _WINDOW = "#bfe3cd", "#d9730d"


def timeline_strip(
    frames: Tensor,
    maps: Tensor,
    scores: Tensor,
    *,
    span: tuple[int, int] | None = None,
    window: tuple[int, int] | None = None,
    columns: int = 8,
    cell_width: int = 120,
    negative: Negative = "hide",
    title: str = "",
) -> Image.Image:
    """Draw a row of frames, the row of their overlays, and the curve S_t below them.

    Column i shows the middle frame of the i-th of ``columns`` equal parts of the clip, and stands above
    just that part of the curve.

    Args:
        frames (Tensor): The clip, uint8 RGB.
        maps (Tensor): Its saliency, float; see :func:`captum_ext.visualization.overlay`.
        scores (Tensor): Evidence per frame S_t, usually the map's sum over space.
        span (tuple of int, optional): Where the action truly is, half-open [start, end) in frames; shaded.
        window (tuple of int, optional): Where the method found it, half-open [start, end) in frames; marked
            by a bar and two dashed lines.
        columns (int): Frames to show, at most T. Default: 8.
        cell_width (int): Width of one shown frame in pixels, with its margin. Default: 120.
        negative (str): ``"hide"`` or ``"show"`` evidence against. Default: ``"hide"``.
        title (str): A line above the pictures; taken literally. Default: none.

    Shape:
        - frames: (T, 3, H, W)
        - maps: (T', h, w) with T' <= T
        - scores: (T,)

    Returns:
        PIL.Image.Image: RGB; frame boundary t lies at pixel column ``LEFT + t / T * n * cell_width``, where
        n is the number of frames shown.

    Raises:
        TypeError: If ``frames`` is not uint8 or ``maps`` not floating point.
        ValueError: If a shape, span or value does not fit.

    Example:
        >>> frames = torch.randint(256, (20, 3, 24, 32), dtype=torch.uint8)
        >>> maps = torch.rand(20, 6, 8)
        >>> timeline_strip(frames, maps, maps.sum((1, 2)), span=(5, 12), columns=4).size
        (580, 430)
    """
    check_frames(frames)
    T, _, H, W = frames.shape
    check_scores(scores, T)
    for name, interval in (("span", span), ("window", window)):
        if interval is not None:
            check_span(interval, T, name)
    if columns < 1 or cell_width < 8:
        raise ValueError(
            f"columns must be positive and cell_width at least 8, not {columns} and {cell_width}."
        )

    from matplotlib.backends.backend_agg import FigureCanvasAgg  # the object API: no pyplot, no global state
    from matplotlib.figure import Figure

    n = min(columns, T)
    cell_height = max(1, round(cell_width * H / W))
    top = TOP + (TITLE_HEIGHT if title else 0)
    width = LEFT + n * cell_width + RIGHT
    height = top + 2 * (cell_height + GAP) + CURVE_HEIGHT + FOOT_HEIGHT
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)  # matplotlib ships no types for its canvases

    shown = [(2 * i + 1) * T // (2 * n) for i in range(n)]
    # The clip is painted whole and picked from afterwards: colours are relative to the whole clip's peak.
    rows = {"clip": frames, "evidence": overlay(frames, maps, negative=negative)}
    for row, (label, clip) in enumerate(rows.items()):
        y = top + row * (cell_height + GAP)
        picture = _row(clip[shown], cell_width, cell_height)
        figure.figimage(picture.numpy(), LEFT, height - y - cell_height, origin="upper")
        middle = 1 - (y + cell_height / 2) / height
        figure.text((LEFT - 12) / width, middle, label, color=_GREY, fontsize=9, ha="right", va="center")
    if title:
        figure.text(
            LEFT / width, 1 - TOP / height, title, color=_INK, fontsize=11, va="top", parse_math=False
        )

    bottom = FOOT_HEIGHT / height
    axes = figure.add_axes((LEFT / width, bottom, n * cell_width / width, CURVE_HEIGHT / height))
    _draw_curve(axes, scores.detach().float().cpu(), span, window)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="lower left",
        bbox_to_anchor=(LEFT / width, 2 / height),
        borderaxespad=0.4,
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
    )
    canvas.draw()
    # Older releases of matplotlib round the figure's size down to one pixel less.
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _row(clip: Tensor, cell_width: int, cell_height: int) -> Tensor:
    """Frames (n, 3, H, W) at the cells' size next to each other, with a white margin: (h, n * w, 3) uint8."""
    size = (cell_height, cell_width - 4)
    small = F.interpolate(clip.cpu().float(), size, mode="bilinear", antialias=True).round().to(torch.uint8)
    return torch.cat(list(F.pad(small, (2, 2), value=255)), dim=2).permute(1, 2, 0).contiguous()


def _draw_curve(
    axes: Axes, scores: Tensor, span: tuple[int, int] | None, window: tuple[int, int] | None
) -> None:
    T = len(scores)
    values = scores.tolist()
    if span is not None:
        axes.axvspan(*span, color=_SPAN, lw=0, zorder=0, label="true span")
    axes.axhline(0, color=_GREY, lw=0.8, zorder=1)
    centres = [t + 0.5 for t in range(T)]  # frame t lasts from t to t + 1
    axes.fill_between(centres, values, color=_LINE, alpha=0.12, lw=0, zorder=2)
    axes.plot(centres, values, color=_LINE, lw=1.8, zorder=3, marker="o" if T == 1 else "", label="S$_t$")
    if window is not None:
        axes.plot(
            window,
            (0.97, 0.97),
            color=_WINDOW,
            lw=4,
            solid_capstyle="butt",
            transform=axes.get_xaxis_transform(),
            zorder=4,
            label="found window",
        )
        for edge in window:
            axes.axvline(edge, color=_WINDOW, lw=1, ls=(0, (4, 3)), zorder=2)
    axes.set_xlim(0, T)
    low, high = min(0.0, *values), max(0.0, *values)
    margin = 0.12 * (high - low) or 1.0
    axes.set_ylim(low - (margin if low < 0 else 0), high + 1.6 * margin)
    axes.set_xlabel("frame", color=_GREY, fontsize=9, labelpad=2)
    axes.set_ylabel("evidence S$_t$", color=_GREY, fontsize=9)
    # An offset or exponent above the axis would run into the pictures.
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    axes.locator_params(axis="y", nbins=4)
    axes.tick_params(colors=_GREY, labelsize=9, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#c9ced6")
