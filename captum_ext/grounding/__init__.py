"""From saliency to where and when: scores per frame, windows in time, points in space.

Conventions, everywhere: windows are half-open ``[start, end)`` in frames; points are ``(x, y)`` in pixels;
tensors index ``[..., t, y, x]``; on ties the earliest frame or pixel wins. Results lie on the tensor's
device. Nothing here needs Captum, so any map can be grounded, whatever made it.
"""

from captum_ext.grounding.baselines import center_window, threshold_scores, whole_clip_window
from captum_ext.grounding.combine_scores import combine_scores
from captum_ext.grounding.frame_scores import frame_scores
from captum_ext.grounding.greedy_window import greedy_window
from captum_ext.grounding.known_length_window import known_length_window
from captum_ext.grounding.peaks import peak_frame, peak_point
from captum_ext.grounding.temporal_iou import temporal_iou

__all__ = [
    "center_window",
    "combine_scores",
    "frame_scores",
    "greedy_window",
    "known_length_window",
    "peak_frame",
    "peak_point",
    "temporal_iou",
    "threshold_scores",
    "whole_clip_window",
]
