"""What is cut to fit, and what cannot be right: ends of videos and borders of frames."""

from dataclasses import replace
from typing import Literal

from captum_ext.data.annotations.records import AnnotatedAction
from captum_ext.data.records import Box

Overrun = Literal["raise", "keep", "cut"]

# Times are published with one or two decimals: an end this much behind the duration is rounding.
ROUNDING_S = 0.1


def check_overrun(overrun: Overrun) -> None:
    """Refuse any other word, before a record is read."""
    if overrun not in ("raise", "keep", "cut"):
        raise ValueError(f'overrun must be "raise", "keep" or "cut", not {overrun!r}')


def fit_to_duration(
    action: AnnotatedAction, duration_s: float | None, overrun: Overrun
) -> AnnotatedAction | None:
    """The action as it lies in a video of that duration; None if nothing of it does and it is to be cut."""
    if duration_s is None or action.end_s <= duration_s or overrun == "keep":
        return action
    if overrun == "raise" and not (action.end_s <= duration_s + ROUNDING_S and action.start_s < duration_s):
        raise ValueError(
            f"{action.label!r} from {action.start_s} to {action.end_s} s ends behind the video, which lasts "
            f'{duration_s} s; overrun says what to do with it ("cut" cuts it to the video)'
        )
    return replace(action, end_s=duration_s) if action.start_s < duration_s else None


def clip_box(box: Box, frame_size: tuple[int, int]) -> Box:
    """The part of the box inside the frame; a ``ValueError`` if it is empty or wholly outside."""
    x0, y0, x1, y1 = box
    H, W = frame_size
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"box {box} (x0, y0, x1, y1) is empty or reversed")
    if not (x0 < W and y0 < H and x1 > 0 and y1 > 0):
        raise ValueError(f"box {box} (x0, y0, x1, y1) lies outside the frame of (H, W) = {frame_size}")
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(W)), min(y1, float(H))
