"""The metrics of one layer, by the names that they are logged under."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from captum_ext.metrics import (
    CompressionResilience,
    DeadNeurons,
    HistogramEntropy,
    NeuronsEverOn,
    NeuronsOn,
    PeakExcitation,
    ShannonEntropy,
)
from captum_ext.metrics.functional.compression import Order

__all__ = ["layer_metrics", "update_layer_metrics"]

_OF_ACTIVATIONS = (
    "neurons_on",
    "neurons_ever_on",
    "dead_neurons",
    "entropy_activations_shannon",
    "entropy_activations_histogram",
)
_OF_EXCITATION = ("peak_p_eb", "entropy_p_eb_shannon", "entropy_p_eb_histogram")


def layer_metrics(num_units: int, num_bins: int, compression: Sequence[Order]) -> dict[str, Metric]:
    """New metrics of a layer.

    Args:
        num_units (int): its number of units.
        num_bins (int): of the histograms.
        compression (sequence of str): orders of the compression curves.

    Returns:
        dict: name to metric.
    """
    metrics: dict[str, Metric] = {
        "neurons_on": NeuronsOn(),
        "neurons_ever_on": NeuronsEverOn(num_units),
        "dead_neurons": DeadNeurons(num_units),
        "peak_p_eb": PeakExcitation(),
        "entropy_activations_shannon": ShannonEntropy(),
        "entropy_activations_histogram": HistogramEntropy(num_units, num_bins),
        "entropy_p_eb_shannon": ShannonEntropy(),
        "entropy_p_eb_histogram": HistogramEntropy(num_units, num_bins),
    }
    return metrics | {f"compression_{order}": CompressionResilience(order) for order in compression}


def update_layer_metrics(
    metrics: dict[str, Metric],
    head: Callable[[Tensor], Tensor],
    activations: Tensor,
    excitation: Tensor,
    target: Tensor,
) -> None:
    """Count a batch.

    Args:
        metrics (dict): what :func:`layer_metrics` made.
        head (callable): the network from the layer to its scores.
        activations (Tensor): at least 0, (N, U, *).
        excitation (Tensor): p_EB, (N, U), or (N, U, *) where elements are units.
        target (Tensor): the class of p_EB, (N,).
    """
    units = activations
    if activations.dim() > excitation.dim():  # in half precision the sum over space can overflow
        wide = torch.promote_types(activations.dtype, torch.float32)
        units = activations.flatten(excitation.dim()).sum(-1, dtype=wide)
    for name in _OF_ACTIVATIONS:
        metrics[name].update(units)
    for name in _OF_EXCITATION:
        metrics[name].update(excitation)
    for metric in metrics.values():
        if isinstance(metric, CompressionResilience):
            metric.update(head, activations, excitation, target)
