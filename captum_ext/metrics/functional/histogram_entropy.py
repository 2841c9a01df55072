"""Histogram entropy of a layer: how much the values of each unit differ between examples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext.metrics.functional._units import non_negative_units_of, units_of

# Doubles below 2 ** -1000 count as 0, so that powers of two between the limits are finite.
_LOWEST, _HIGHEST = -1000, 1024


def histogram_entropy(
    values: Tensor, num_bins: int = 100, limits: tuple[float, float] | None = None
) -> Tensor:
    r"""Entropy of each unit's histogram over the examples, in nats.

    .. math:: H_i = -\sum_b q_{ib} \ln q_{ib}

    with :math:`q_{ib}` the share of examples whose value of unit i lies in bin b of ``num_bins`` equal bins.
    A unit that says the same for every example, such as a dead one, has 0.

    The thesis states neither bins nor range nor the base of the logarithm of its tables. Here the bins of a
    unit cover 0 to the next power of two above its largest value (where the range doubles, neighbouring bins
    merge exactly, so that histograms of parts add up): scaling a unit by a power of two changes nothing, by
    another factor little. With ``limits`` all units share these.

    Args:
        values (Tensor): Activations behind a ReLU, or winning probabilities p_EB.
        num_bins (int): Number of bins, at least 2.
        limits (tuple of float, optional): Fixed range of all units, ends included; values outside are an
            error. Required where values may be negative.

    Shape:
        - values: (N, U) or (N, *)
        - returns: (U,), or the product of the axes beside the batch

    Returns:
        Tensor: Nats in 0..ln(num_bins), float64.

    Raises:
        TypeError: If the values are not floating point.
        ValueError: If they have no batch axis, are empty or not finite, are negative without ``limits`` or
            outside of them, or ``num_bins`` or ``limits`` are bad.

    Example:
        >>> values = torch.tensor([[0.0, 0.1], [0.0, 0.2], [0.0, 0.6], [0.0, 0.9]])
        >>> histogram_entropy(values, num_bins=2).exp()
        tensor([1., 2.], dtype=torch.float64)

    References:
        Luo and Wu, An Entropy-based Pruning Method for CNN Compression, arXiv:1706.05791, 2017.
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, Table 5.3.
    """
    check_bins(num_bins, limits)
    return entropy_of(histograms(values, num_bins, limits))


def check_bins(num_bins: int, limits: Sequence[float] | None) -> None:
    """Refuse bins that tell nothing."""
    if num_bins < 2:
        raise ValueError(f"num_bins must be at least 2, got {num_bins}.")
    if limits is not None and not -torch.inf < limits[0] < limits[1] < torch.inf:
        raise ValueError(f"limits must be two finite numbers, the lower first, got {tuple(limits)}.")


def histograms(values: Tensor, num_bins: int, limits: Sequence[float] | None) -> Tensor:
    """Counts per unit and, in the last column, the exponent of its range, (U, num_bins + 1) int64.

    Bins cover ``[0, 2 ** exponent)``; with ``limits`` they cover these, and the exponent is 0.
    """
    if limits is None:
        rows = non_negative_units_of(values, "values").double()
        exponents = torch.frexp(rows.amax(0)).exponent.long()
        exponents = torch.where(rows.amax(0) > 0, exponents, _LOWEST).clamp(_LOWEST, _HIGHEST)
        rows = rows * torch.exp2(-exponents.double())
    else:
        rows = units_of(values, "values").double()
        low, high = limits
        _check_inside(rows, low, high)
        exponents = torch.zeros(rows.shape[1], dtype=torch.int64, device=rows.device)
        rows = (rows - low) / (high - low)
    bins = (rows * num_bins).long().clamp(max=num_bins - 1).T
    counts = torch.zeros(len(bins), num_bins, dtype=torch.int64, device=rows.device)
    counts.scatter_add_(1, bins, torch.ones_like(bins))
    return torch.cat([counts, exponents[:, None]], 1)


def add_histograms(parts: Tensor) -> Tensor:
    """Sum of histograms (P, U, num_bins + 1) after merging their bins to the widest range of each unit."""
    counts, exponents = parts[..., :-1], parts[..., -1:]
    widest = exponents.amax(0, keepdim=True)
    bins = torch.arange(counts.shape[-1], device=parts.device)
    # A range 2 ** d times as wide: bins b and b + 1 of 2 ** d fall into b >> d.
    merged = bins >> (widest - exponents).clamp(max=62)
    total = torch.zeros_like(counts[0])
    for part_counts, part_bins in zip(counts, merged, strict=True):
        total.scatter_add_(1, part_bins, part_counts)
    return torch.cat([total, widest[0]], 1)


def empty_histograms(num_units: int, num_bins: int, limits: Sequence[float] | None) -> Tensor:
    """Histograms of no examples, (U, num_bins + 1) int64."""
    empty = torch.zeros(num_units, num_bins + 1, dtype=torch.int64)
    if limits is None:
        empty[:, -1] = _LOWEST
    return empty


def entropy_of(histogram: Tensor) -> Tensor:
    """Entropy of each unit, (U,); NaN without examples."""
    counts = histogram[:, :-1].double()
    entropy: Tensor = torch.special.entr(counts / counts.sum(1, keepdim=True)).sum(1)
    return entropy


def _check_inside(rows: Tensor, low: float, high: float) -> None:
    lowest, highest = float(rows.min()), float(rows.max())
    if lowest < low or highest > high:
        raise ValueError(
            f"values must lie inside limits, {low}..{high}, but they reach from {lowest} to {highest}; "
            "widen limits, or leave them out for values of at least 0."
        )
