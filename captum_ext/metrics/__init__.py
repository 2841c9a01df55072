"""Metrics of saliency, and of how a network uses a layer, as :class:`torchmetrics.Metric` classes.

Each has ``compute()`` (the figure), ``summary()`` (the figure with n, 95 % interval and exact chance) and
``plot()``; its functional twin, one value per example, is in :mod:`captum_ext.metrics.functional`.
"""

from captum_ext.metrics.compression_resilience import CompressionCurve, CompressionResilience
from captum_ext.metrics.conservative_filters import ConservativeFilters
from captum_ext.metrics.dead_neurons import DeadNeurons
from captum_ext.metrics.histogram_entropy import HistogramEntropy
from captum_ext.metrics.neurons_ever_on import NeuronsEverOn
from captum_ext.metrics.neurons_on import NeuronsOn
from captum_ext.metrics.peak_excitation import PeakExcitation
from captum_ext.metrics.shannon_entropy import ShannonEntropy
from captum_ext.metrics.summary import Summary
from captum_ext.metrics.target_domain_share import TargetDomainShare
from captum_ext.metrics.temporal_auc import TemporalAUC

__all__ = [
    "CompressionCurve",
    "CompressionResilience",
    "ConservativeFilters",
    "DeadNeurons",
    "HistogramEntropy",
    "NeuronsEverOn",
    "NeuronsOn",
    "PeakExcitation",
    "ShannonEntropy",
    "Summary",
    "TargetDomainShare",
    "TemporalAUC",
]
