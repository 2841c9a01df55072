"""The metrics of how a network uses a layer, with updates of different sizes."""

import torch
from metric_case import MetricCase
from torch import nn

from captum_ext.metrics import (
    CompressionResilience,
    ConservativeFilters,
    DeadNeurons,
    HistogramEntropy,
    NeuronsEverOn,
    NeuronsOn,
    PeakExcitation,
    ShannonEntropy,
    TargetDomainShare,
)

_N_UNITS, _N_CLASSES, _SIZES = 6, 4, (3, 1, 5)


def _normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def activations(seed, n, scale=1.0):
    """Half of them 0, the first unit always; updates differ in scale, so that histograms must be merged."""
    found = scale * _normal(seed, n, _N_UNITS).relu()
    found[:, 0] = 0
    return found


def excitation(seed, n):
    mass = activations(seed, n) + torch.tensor([0, 0.1, 0, 0, 0, 0])
    return mass / mass.sum(1, keepdim=True)


def _head():
    head = nn.Linear(_N_UNITS, _N_CLASSES).eval()
    with torch.no_grad():
        head.weight.copy_(_normal(7, _N_CLASSES, _N_UNITS))
        head.bias.zero_()
    return head


def _weights(seed):
    before = _normal(seed, 5, 2, 3)
    return before + 0.1 * _normal(seed + 1, 5, 2, 3) * torch.arange(5)[:, None, None], before


def _compression(excited):
    return tuple(
        (_head(), activations(k, n, 3.0), excited(k, n), torch.arange(n) % _N_CLASSES)
        for k, n in enumerate(_SIZES)
    )


def never_on():
    return DeadNeurons(_N_UNITS)


def ever_on():
    return NeuronsEverOn(_N_UNITS)


def histogram():
    return HistogramEntropy(_N_UNITS, num_bins=5)


def histogram_with_limits():
    return HistogramEntropy(_N_UNITS, num_bins=5, limits=(-4.0, 6.0))


def conservative():
    return ConservativeFilters(threshold=0.5)


def share():
    return TargetDomainShare(_N_UNITS, top_k=3)


def balanced_share():
    return TargetDomainShare(_N_UNITS, top_k=4, balance=True)


def least():
    return CompressionResilience("least")


def random():
    return CompressionResilience("random", seed=3)


def pruned():
    return CompressionResilience("most", levels=[0, 0.5, 1], by="units", scope="dataset", rescale=True)


_ACTIVATIONS = tuple((activations(k, n, 4.0**k),) for k, n in enumerate(_SIZES))
_EXCITATION = tuple((excitation(k, n),) for k, n in enumerate(_SIZES))
_POOL = tuple((activations(k, n), torch.arange(n) % 2 == k % 2) for k, n in enumerate(_SIZES))


def _case(name, build, updates, **kwargs):
    return MetricCase(name, build, updates, has_chance=False, is_descriptive=True, **kwargs)


UTILIZATION_CASES = [
    _case("NeuronsOn", NeuronsOn, _ACTIVATIONS),
    _case("NeuronsEverOn", ever_on, _ACTIVATIONS),
    _case("DeadNeurons", never_on, _ACTIVATIONS),
    _case("PeakExcitation", PeakExcitation, _EXCITATION),
    _case("ShannonEntropy", ShannonEntropy, _ACTIVATIONS),
    _case("HistogramEntropy", histogram, _ACTIVATIONS),
    _case(
        "HistogramEntropy with limits",
        histogram_with_limits,
        tuple((_normal(k, n, _N_UNITS),) for k, n in enumerate(_SIZES)),
    ),
    _case("ConservativeFilters", conservative, tuple(_weights(k) for k in range(3))),
    _case("TargetDomainShare", share, _POOL),
    _case("TargetDomainShare, balanced", balanced_share, _POOL),
    MetricCase("CompressionResilience", CompressionResilience, _compression(excitation), has_chance=False),
    MetricCase("CompressionResilience, least", least, _compression(excitation), has_chance=False),
    MetricCase("CompressionResilience, random", random, _compression(excitation), has_chance=False),
    MetricCase(
        "CompressionResilience, pruned",
        pruned,
        _compression(lambda k, n: excitation(9, 1)[0]),
        has_chance=False,
    ),
]
