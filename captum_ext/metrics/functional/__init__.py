"""The metrics as plain functions: one result per example or vote, and exact chance values beside them.

Each ``*_chance`` function gives the expected value of a uniformly random answer under the same convention,
computed, never sampled. Conventions: spans and windows are half-open ``[start, end)`` in frames; boxes are
``x0, y0, x1, y1`` in pixels, half-open; points are ``(x, y)``; tensors index ``[..., t, y, x]``. Results lie
on the tensor's device.
"""

from captum_ext.metrics.functional.boxes import pad_boxes
from captum_ext.metrics.functional.compression import (
    CompressionCurves,
    compression_curves,
    normalized_auc,
    switch_off_levels,
)
from captum_ext.metrics.functional.conservative_filters import conservative_filters, filter_change
from captum_ext.metrics.functional.frame_auc import frame_auc, frame_auc_chance
from captum_ext.metrics.functional.histogram_entropy import histogram_entropy
from captum_ext.metrics.functional.intervals import bootstrap_interval, wilson_interval
from captum_ext.metrics.functional.neurons_on import neurons_ever_on, neurons_on
from captum_ext.metrics.functional.peak_excitation import peak_excitation
from captum_ext.metrics.functional.shannon_entropy import shannon_entropy
from captum_ext.metrics.functional.spans import frames_inside
from captum_ext.metrics.functional.spatial_pointing import (
    SpatialPointing,
    spatial_pointing_center,
    spatial_pointing_chance,
    spatial_pointing_game,
)
from captum_ext.metrics.functional.target_domain_share import target_domain_share
from captum_ext.metrics.functional.temporal_pointing import temporal_pointing_chance, temporal_pointing_game
from captum_ext.metrics.functional.window_accuracy import (
    center_window_chance,
    random_window_chance,
    whole_clip_chance,
    window_accuracy,
)

__all__ = [
    "CompressionCurves",
    "SpatialPointing",
    "bootstrap_interval",
    "center_window_chance",
    "compression_curves",
    "conservative_filters",
    "filter_change",
    "frame_auc",
    "frame_auc_chance",
    "frames_inside",
    "histogram_entropy",
    "neurons_ever_on",
    "neurons_on",
    "normalized_auc",
    "pad_boxes",
    "peak_excitation",
    "random_window_chance",
    "shannon_entropy",
    "spatial_pointing_center",
    "spatial_pointing_chance",
    "spatial_pointing_game",
    "switch_off_levels",
    "target_domain_share",
    "temporal_pointing_chance",
    "temporal_pointing_game",
    "whole_clip_chance",
    "wilson_interval",
    "window_accuracy",
]
