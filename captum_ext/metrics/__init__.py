"""Metrics of saliency in space and time, as :class:`torchmetrics.Metric` classes.

Each has ``compute()`` (the figure), ``summary()`` (the figure with n, 95 % interval and exact chance) and
``plot()``; its functional twin, one value per example, is in :mod:`captum_ext.metrics.functional`.
"""

from captum_ext.metrics.summary import Summary
from captum_ext.metrics.temporal_auc import TemporalAUC

__all__ = ["Summary", "TemporalAUC"]
