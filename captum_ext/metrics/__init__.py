"""Metrics of saliency in space and time, as :class:`torchmetrics.Metric` classes.

Each has ``compute()`` (the figure), ``summary()`` (the figure with n, 95 % interval and exact chance) and
``plot()``; its functional twin, one value per example, is in :mod:`captum_ext.metrics.functional`.
"""

from captum_ext.metrics.energy_pointing_game import EnergyPointingGame
from captum_ext.metrics.relevance_rank import RelevanceRank
from captum_ext.metrics.spatial_pointing_game import SpatialPointingGame
from captum_ext.metrics.summary import Summary
from captum_ext.metrics.temporal_auc import TemporalAUC
from captum_ext.metrics.temporal_detection_ap import TemporalDetectionAP
from captum_ext.metrics.temporal_localization_accuracy import TemporalLocalizationAccuracy
from captum_ext.metrics.temporal_pointing_game import TemporalPointingGame

__all__ = [
    "EnergyPointingGame",
    "RelevanceRank",
    "SpatialPointingGame",
    "Summary",
    "TemporalAUC",
    "TemporalDetectionAP",
    "TemporalLocalizationAccuracy",
    "TemporalPointingGame",
]
