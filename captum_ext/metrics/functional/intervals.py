"""Confidence intervals: how far a figure may be off, given how many examples it rests on."""

import math
from statistics import NormalDist

import torch
from torch import Tensor

from captum_ext._floating import check_floating

Z_95 = NormalDist().inv_cdf(0.975)


def wilson_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of an accuracy.

    It stays inside 0..1 and is sensible for few examples and for accuracies of 0 and 1. It takes the examples
    as independent: frames of one clip are not, so for those give
    :func:`bootstrap_interval` the accuracy of each clip.

    Args:
        hits (int): Number of hits, 0 to n.
        n (int): Number of examples, at least 1.
        confidence (float): Share of such intervals that hold the true accuracy, in (0, 1).

    Returns:
        tuple of float: Lower and upper end, in 0..1.

    Raises:
        ValueError: If a number is outside its range.

    Example:
        >>> low, high = wilson_interval(8, 10)
        >>> round(low, 3), round(high, 3)
        (0.49, 0.943)

    References:
        Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}; without examples there is no interval.")
    if not 0 <= hits <= n:
        raise ValueError(f"hits must lie in 0..{n} (n), got {hits}.")
    _check_confidence(confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = hits / n
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At no hits and at n hits one end is the accuracy itself, which rounding would miss.
    return (center - half if hits > 0 else 0.0), (center + half if hits < n else 1.0)


def bootstrap_interval(
    values: Tensor,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, such as that of the frame AUC over clips.

    Args:
        values (Tensor): One value per independent example (clip, not frame); NaN is left out.
        confidence (float): Share of the resampled means inside the interval, in (0, 1).
        n_resamples (int): Number of resamples, at least 1.
        generator (torch.Generator, optional): Source of the resamples. By default a fresh one with seed 0, so
            that the same values give the same interval; torch's global generator is never touched.

    Shape:
        - values: (N,)

    Returns:
        tuple of float: Lower and upper end, in the units of the values.

    Raises:
        TypeError: If values are not a floating-point tensor.
        ValueError: If values are not of shape (N,), infinite, or hold nothing but NaN, or a number is outside
            its range.

    Example:
        >>> low, high = bootstrap_interval(torch.tensor([0.2, 0.4, float("nan"), 0.9]))
        >>> 0.2 <= low < 0.5 < high <= 0.9
        True

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    check_floating(values, "values", "(N,)")
    if values.dim() != 1:
        raise ValueError(f"values must have shape (N,), one per example, got {tuple(values.shape)}.")
    if bool(torch.isinf(values).any()):
        raise ValueError("values must not be infinite.")
    _check_confidence(confidence)
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}.")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    known = values.detach()[~values.isnan()].to(generator.device, torch.float64)
    n = len(known)
    if n == 0:
        raise ValueError(f"values holds no number: {len(values)} values, all of them NaN or none given.")
    # One resample at a time: n_resamples x N indices at once may not fit into memory.
    means = torch.stack(
        [
            known[torch.randint(n, (n,), generator=generator, device=generator.device)].mean()
            for _ in range(n_resamples)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = means.quantile(means.new_tensor([tail, 1 - tail])).tolist()
    return low, high


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}; 95 % is 0.95.")
