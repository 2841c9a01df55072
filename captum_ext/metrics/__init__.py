"""Metrics of saliency in space and time, as :class:`torchmetrics.Metric` classes.

Each has ``compute()`` (the figure), ``summary()`` (the figure with n, 95 % interval and exact chance) and
``plot()``; its functional twin, one value per example, is in :mod:`captum_ext.metrics.functional`.
"""

from captum_ext.metrics.area_between_perturbation_curves import AreaBetweenPerturbationCurves
from captum_ext.metrics.area_over_perturbation_curve import AreaOverPerturbationCurve
from captum_ext.metrics.conservation_residual import ConservationResidual
from captum_ext.metrics.deletion import SpatioTemporalDeletion, TemporalDeletion
from captum_ext.metrics.insertion import SpatioTemporalInsertion, TemporalInsertion
from captum_ext.metrics.minimum_preservation_ratio import MinimumPreservationRatio
from captum_ext.metrics.order_sensitivity import OrderSensitivity
from captum_ext.metrics.parameter_randomization import ParameterRandomization
from captum_ext.metrics.random_target import RandomTarget
from captum_ext.metrics.summary import Summary
from captum_ext.metrics.temporal_auc import TemporalAUC

__all__ = [
    "AreaBetweenPerturbationCurves",
    "AreaOverPerturbationCurve",
    "ConservationResidual",
    "MinimumPreservationRatio",
    "OrderSensitivity",
    "ParameterRandomization",
    "RandomTarget",
    "SpatioTemporalDeletion",
    "SpatioTemporalInsertion",
    "Summary",
    "TemporalAUC",
    "TemporalDeletion",
    "TemporalInsertion",
]
