"""The metrics as plain functions: one result per example or vote, and exact chance values beside them.

Each ``*_chance`` function gives the expected value of a uniformly random answer under the same convention,
computed, never sampled. Conventions: spans and windows are half-open ``[start, end)`` in frames; boxes are
``x0, y0, x1, y1`` in pixels, half-open; points are ``(x, y)``; tensors index ``[..., t, y, x]``. Results lie
on the tensor's device.
"""

from captum_ext.metrics.functional.box_coverage import box_area_share
from captum_ext.metrics.functional.boxes import pad_boxes
from captum_ext.metrics.functional.compression import (
    CompressionCurves,
    compression_curves,
    normalized_auc,
    switch_off_levels,
)
from captum_ext.metrics.functional.conservation_residual import conservation_residual
from captum_ext.metrics.functional.conservative_filters import conservative_filters, filter_change
from captum_ext.metrics.functional.curve_areas import abpc, aopc, area_under_curve
from captum_ext.metrics.functional.either_pointing import either_pointing_chance, either_pointing_game
from captum_ext.metrics.functional.energy_pointing import energy_pointing_game
from captum_ext.metrics.functional.frame_auc import frame_auc, frame_auc_chance
from captum_ext.metrics.functional.histogram_entropy import histogram_entropy
from captum_ext.metrics.functional.intervals import bootstrap_interval, wilson_interval
from captum_ext.metrics.functional.map_correlation import map_correlation
from captum_ext.metrics.functional.minimum_preservation_ratio import (
    MinimumPreservation,
    minimum_preservation_ratio,
)
from captum_ext.metrics.functional.neurons_on import neurons_ever_on, neurons_on
from captum_ext.metrics.functional.order_sensitivity import OrderChange, order_sensitivity
from captum_ext.metrics.functional.parameter_randomization import (
    RandomizationCurve,
    parameter_randomization,
    randomized_layers,
)
from captum_ext.metrics.functional.peak_excitation import peak_excitation
from captum_ext.metrics.functional.perturbation_curves import deletion_curve, insertion_curve
from captum_ext.metrics.functional.pointing_votes import PointingVotes, temporal_pointing_votes
from captum_ext.metrics.functional.random_target import random_target
from captum_ext.metrics.functional.relevance_rank import relevance_rank
from captum_ext.metrics.functional.shannon_entropy import shannon_entropy
from captum_ext.metrics.functional.spans import frames_inside
from captum_ext.metrics.functional.spatial_pointing import (
    SpatialPointing,
    spatial_pointing_center,
    spatial_pointing_chance,
    spatial_pointing_game,
)
from captum_ext.metrics.functional.target_domain_share import target_domain_share
from captum_ext.metrics.functional.temporal_average_precision import temporal_average_precision
from captum_ext.metrics.functional.temporal_nms import temporal_nms
from captum_ext.metrics.functional.temporal_pointing import temporal_pointing_chance, temporal_pointing_game
from captum_ext.metrics.functional.window_accuracy import (
    any_length_window_chance,
    center_window_chance,
    random_window_chance,
    whole_clip_chance,
    window_accuracy,
)

__all__ = [
    "CompressionCurves",
    "MinimumPreservation",
    "OrderChange",
    "PointingVotes",
    "RandomizationCurve",
    "SpatialPointing",
    "abpc",
    "any_length_window_chance",
    "aopc",
    "area_under_curve",
    "bootstrap_interval",
    "box_area_share",
    "center_window_chance",
    "compression_curves",
    "conservation_residual",
    "conservative_filters",
    "deletion_curve",
    "either_pointing_chance",
    "either_pointing_game",
    "energy_pointing_game",
    "filter_change",
    "frame_auc",
    "frame_auc_chance",
    "frames_inside",
    "histogram_entropy",
    "insertion_curve",
    "map_correlation",
    "minimum_preservation_ratio",
    "neurons_ever_on",
    "neurons_on",
    "normalized_auc",
    "order_sensitivity",
    "pad_boxes",
    "parameter_randomization",
    "peak_excitation",
    "random_target",
    "random_window_chance",
    "randomized_layers",
    "relevance_rank",
    "shannon_entropy",
    "spatial_pointing_center",
    "spatial_pointing_chance",
    "spatial_pointing_game",
    "switch_off_levels",
    "target_domain_share",
    "temporal_average_precision",
    "temporal_nms",
    "temporal_pointing_chance",
    "temporal_pointing_game",
    "temporal_pointing_votes",
    "whole_clip_chance",
    "wilson_interval",
    "window_accuracy",
]
