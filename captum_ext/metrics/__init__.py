"""Metrics of saliency, and of how a network uses a layer, as :class:`torchmetrics.Metric` classes.

Each has ``compute()`` (the figure), ``summary()`` (the figure with n and, where there are such, 95 % interval
and exact chance) and ``plot()``; its functional twin, one value per example, unit or filter, is in
:mod:`captum_ext.metrics.functional`.
"""

from captum_ext.metrics.area_between_perturbation_curves import AreaBetweenPerturbationCurves
from captum_ext.metrics.area_over_perturbation_curve import AreaOverPerturbationCurve
from captum_ext.metrics.compression_resilience import CompressionCurve, CompressionResilience
from captum_ext.metrics.conservation_residual import ConservationResidual
from captum_ext.metrics.conservative_filters import ConservativeFilters
from captum_ext.metrics.dead_neurons import DeadNeurons
from captum_ext.metrics.deletion import SpatioTemporalDeletion, TemporalDeletion
from captum_ext.metrics.energy_pointing_game import EnergyPointingGame
from captum_ext.metrics.histogram_entropy import HistogramEntropy
from captum_ext.metrics.insertion import SpatioTemporalInsertion, TemporalInsertion
from captum_ext.metrics.minimum_preservation_ratio import MinimumPreservationRatio
from captum_ext.metrics.neurons_ever_on import NeuronsEverOn
from captum_ext.metrics.neurons_on import NeuronsOn
from captum_ext.metrics.order_sensitivity import OrderSensitivity
from captum_ext.metrics.parameter_randomization import ParameterRandomization
from captum_ext.metrics.peak_excitation import PeakExcitation
from captum_ext.metrics.random_target import RandomTarget
from captum_ext.metrics.relevance_rank import RelevanceRank
from captum_ext.metrics.shannon_entropy import ShannonEntropy
from captum_ext.metrics.spatial_pointing_game import SpatialPointingGame
from captum_ext.metrics.summary import Summary
from captum_ext.metrics.target_domain_share import TargetDomainShare
from captum_ext.metrics.temporal_auc import TemporalAUC
from captum_ext.metrics.temporal_detection_ap import TemporalDetectionAP
from captum_ext.metrics.temporal_localization_accuracy import TemporalLocalizationAccuracy
from captum_ext.metrics.temporal_pointing_game import TemporalPointingGame

__all__ = [
    "AreaBetweenPerturbationCurves",
    "AreaOverPerturbationCurve",
    "CompressionCurve",
    "CompressionResilience",
    "ConservationResidual",
    "ConservativeFilters",
    "DeadNeurons",
    "EnergyPointingGame",
    "HistogramEntropy",
    "MinimumPreservationRatio",
    "NeuronsEverOn",
    "NeuronsOn",
    "OrderSensitivity",
    "ParameterRandomization",
    "PeakExcitation",
    "RandomTarget",
    "RelevanceRank",
    "ShannonEntropy",
    "SpatialPointingGame",
    "SpatioTemporalDeletion",
    "SpatioTemporalInsertion",
    "Summary",
    "TargetDomainShare",
    "TemporalAUC",
    "TemporalDeletion",
    "TemporalDetectionAP",
    "TemporalInsertion",
    "TemporalLocalizationAccuracy",
    "TemporalPointingGame",
]
