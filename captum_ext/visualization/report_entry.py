"""One explained clip of a report: what is shown, checked when it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn import functional as F

from captum_ext.visualization._checks import check_fps, check_frames, check_maps, check_scores, check_span
from captum_ext.visualization.boxes import boxes_by_frame
from captum_ext.visualization.overlay import Negative


@dataclass(frozen=True, eq=False)
class ReportEntry:
    """A clip with the maps of one or more methods.

    Args:
        title (str): Heading, such as the clip's label.
        frames (Tensor): The clip, uint8 RGB.
        fps (float): Frames per second at which it plays.
        maps (mapping of str to Tensor): Method name to its saliency, float; the first is shown first.
        scores (mapping of str to Tensor): Method name to its curve S_t. A method left out gets the sum of its
            map over space, interpolated linearly where the map has fewer time steps than the clip.
        spans (sequence of tuple): Where the action truly is: half-open [start, end) in frames.
        windows (mapping of str to tuple): Method name to where it found the action: [start, end) in frames.
        boxes (Tensor or sequence of Tensor, optional): For each frame its boxes x0, y0, x1, y1 in pixels; NaN
            for none. See :func:`captum_ext.visualization.draw_boxes`.
        metadata (mapping of str to object): Facts in a line under the title, such as the predicted class.
        note (str): A remark under them.
        negative (str): ``"hide"`` or ``"show"`` evidence against. Default: ``"hide"``.
        see_through (bool): The maps are masks in 0..1, and the clip is seen through them: dark where a mask
            is 0. The curve of a method left out of ``scores`` is then the share of each frame that the mask
            keeps. Default: False.

    Shape:
        - frames: (T, 3, H, W)
        - maps: (T', h, w) with T' <= T, each method its own
        - scores: (T,)

    Raises:
        TypeError: If ``frames`` is not uint8 or a map not floating point.
        ValueError: If a shape, span or value does not fit, or a curve or window names an unknown method.

    Example:
        >>> import torch
        >>> frames = torch.zeros(6, 3, 16, 20, dtype=torch.uint8)
        >>> entry = ReportEntry("jump", frames, fps=10, maps={"EB-R": torch.rand(6, 4, 5)}, spans=[(1, 4)])
        >>> entry.curve("EB-R").shape
        torch.Size([6])
    """

    title: str
    frames: Tensor
    fps: float
    maps: Mapping[str, Tensor]
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    spans: Sequence[tuple[int, int]] = ()
    windows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    boxes: Tensor | Sequence[Tensor] | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    note: str = ""
    negative: Negative = "hide"
    see_through: bool = False

    def __post_init__(self) -> None:
        where = f"entry {self.title!r}: "
        check_frames(self.frames, where + "frames")
        check_fps(self.fps)
        T = len(self.frames)
        if not self.maps:
            raise ValueError(f"{where}maps must hold at least one method's map.")
        for method, maps in self.maps.items():
            check_maps(maps, T, f"{where}maps[{method!r}]")
            if self.see_through and not bool(((maps >= 0) & (maps <= 1)).all()):
                raise ValueError(
                    f"{where}maps[{method!r}] must lie in 0..1 to be seen through; it has values from "
                    f"{float(maps.min()):.4g} to {float(maps.max()):.4g}."
                )
        for name, per_method in (("scores", self.scores), ("windows", self.windows)):
            unknown = sorted(set(per_method) - set(self.maps))
            if unknown:
                raise ValueError(f"{where}{name} names {unknown}, but maps has only {list(self.maps)}.")
        for method, scores in self.scores.items():
            check_scores(scores, T, f"{where}scores[{method!r}]")
        for method, window in self.windows.items():
            check_span(window, T, f"{where}windows[{method!r}]")
        for span in self.spans:
            check_span(span, T, f"{where}spans")
        if self.boxes is not None:
            boxes_by_frame(self.boxes, T)

    def curve(self, method: str) -> Tensor:
        """Return a method's curve S_t: the one given, else the sum of its map over space, of masks the mean.

        Args:
            method (str): A key of ``maps``.

        Returns:
            Tensor: Evidence per frame, shape (T,), float.
        """
        if method in self.scores:
            return self.scores[method].detach().float()
        maps = self.maps[method].detach().float()
        steps = maps.mean((1, 2)) if self.see_through else maps.sum((1, 2))
        T = len(self.frames)
        return F.interpolate(steps[None, None], T, mode="linear", align_corners=False)[0, 0]
