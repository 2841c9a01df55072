"""What a trained network is worth: accuracy, utilisation of its first linear layer, resilience."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.excitation_dropout.task import Images
from captum_ext.attr import LayerExcitationBackprop
from captum_ext.metrics import (
    CompressionCurve,
    CompressionResilience,
    DeadNeurons,
    HistogramEntropy,
    NeuronsEverOn,
    NeuronsOn,
    PeakExcitation,
    ShannonEntropy,
)
from captum_ext.metrics.functional import filter_change
from captum_ext.models import CNN2

__all__ = ["CURVES", "Evaluation", "evaluate"]

_BATCH, _N_RANKED, _BINS = 100, 200, 100
_SHARES = [k / 16 for k in range(17)]

CURVES: Mapping[str, Mapping[str, Any]] = {
    "most relevant": {"order": "most"},
    "least relevant": {"order": "least"},
    "random": {"order": "random"},
    "pruned, most relevant": {"order": "most", "by": "units", "scope": "dataset", "levels": _SHARES},
    "pruned, least relevant": {"order": "least", "by": "units", "scope": "dataset", "levels": _SHARES},
    "pruned, random": {"order": "random", "scope": "dataset", "levels": _SHARES},
}
"""Figure 5.5, where every image loses its own units, and units pruned for all images by their mean p_EB."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of a trained network.

    Args:
        accuracy (float): share of the test images.
        train_accuracy (float): share of the training images.
        utilization (dict): measure to value; shares of the units, of the largest possible entropy, or p_EB.
        curves (dict): name as in ``CURVES`` to curve.
        areas (dict): name to its normalised area.
        filter_change (Tensor): how far training moved each filter of the layer, (U,).
    """

    accuracy: float
    train_accuracy: float
    utilization: dict[str, float]
    curves: dict[str, CompressionCurve]
    areas: dict[str, float]
    filter_change: Tensor


def evaluate(net: CNN2, images: Images, initial: Tensor, n: int) -> Evaluation:
    """Look at a network in evaluation mode.

    Args:
        net (CNN2): the network, with whatever dropout does in evaluation.
        images (Images): all images.
        initial (Tensor): the weights of its first linear layer before training.
        n (int): test images whose utilisation is measured.
    """
    device = net.fc1.weight.device
    n_units = net.fc1.out_features
    on, ever, dead = NeuronsOn(), NeuronsEverOn(n_units), DeadNeurons(n_units)
    peak = PeakExcitation()
    shannon = {"activations": ShannonEntropy(), "p_EB": ShannonEntropy()}
    histogram = {name: HistogramEntropy(n_units, _BINS) for name in shannon}
    curves = {name: CompressionResilience(**options) for name, options in CURVES.items()}
    for metric in (on, ever, dead, peak, *shannon.values(), *histogram.values(), *curves.values()):
        metric.to(device)
    mean = _mean_excitation(net, images.train[:_N_RANKED], images.train_labels[:_N_RANKED])
    head = nn.Sequential(net.fc2, net.relu2, net.dropout2, net.classifier)
    for x, y in _batches(images.test[:n], images.test_labels[:n], device):
        h, p = _look(net, x, y)
        for metric in (on, ever, dead):
            metric.update(h)
        peak.update(p)
        for name, values in (("activations", h), ("p_EB", p)):
            shannon[name].update(values)
            histogram[name].update(values)
        for curve in curves.values():
            curve.update(head, h, mean if curve.scope == "dataset" else p, y)
    log_units = torch.tensor(n_units).log()
    log_bins = torch.tensor(min(_BINS, n)).log()
    utilization = {
        "on": on.compute() / n_units,
        "ever on": ever.compute() / n_units,
        "dead": dead.compute() / n_units,
        "peak p_EB": peak.compute(),
        **{f"Shannon, {name}": metric.compute() / log_units for name, metric in shannon.items()},
        **{f"histogram, {name}": metric.compute() / log_bins for name, metric in histogram.items()},
        "median change of a filter": filter_change(net.fc1.weight, initial, relative=True).median(),
    }
    return Evaluation(
        accuracy=_accuracy(net, images.test, images.test_labels, device),
        train_accuracy=_accuracy(net, images.train, images.train_labels, device),
        utilization={name: float(value) for name, value in utilization.items()},
        curves={name: curve.curve() for name, curve in curves.items()},
        areas={name: float(curve.compute()) for name, curve in curves.items()},
        filter_change=filter_change(net.fc1.weight, initial).cpu(),
    )


def _look(net: CNN2, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Activations behind the dropout, and p_EB of the label there."""
    found: list[Tensor] = []
    handle = net.dropout1.register_forward_hook(lambda module, args, output: found.append(output.detach()))
    try:
        with torch.no_grad():
            net(x)
    finally:
        handle.remove()
    return found[0], LayerExcitationBackprop(net, "dropout1").attribute(x, target=y)


def _mean_excitation(net: CNN2, x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([_look(net, *part)[1] for part in _batches(x, y, net.fc1.weight.device)]).mean(0)


@torch.no_grad()
def _accuracy(net: CNN2, images: Tensor, labels: Tensor, device: torch.device) -> float:
    hits = [net(x).argmax(1) == y for x, y in _batches(images, labels, device)]
    return float(torch.cat(hits).double().mean())


def _batches(images: Tensor, labels: Tensor, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    for x, y in zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True):
        yield x.to(device), y.to(device)
