"""How alike two maps are: correlation of their values or of their ranks."""

from typing import Literal

import torch
from torch import Tensor

from captum_ext._floating import check_floating

Similarity = Literal["spearman", "pearson"]

# What is left of a constant map after sums in float32.
_CONSTANT = 1e-6


def map_correlation(
    maps: Tensor, others: Tensor, similarity: Similarity = "spearman", absolute: bool = False
) -> Tensor:
    """Correlation of each map with its partner, over all of its values.

    Correlation with a constant map is not defined; here it is 1 if both are constant (they say the same,
    nothing) and 0 if one is. A map counts as constant if its values spread over at most a millionth of the
    largest magnitude.

    Args:
        maps (Tensor): One map per example.
        others (Tensor): Maps of the same shape.
        similarity (str): ``"spearman"``, of the ranks (equal values share their mean rank), or
            ``"pearson"``, of the values.
        absolute (bool): Take absolute values first, so that evidence against counts like evidence for.

    Shape:
        - maps, others: (N, ...)
        - returns: (N,)

    Returns:
        Tensor: Correlations in -1..1, float64. Independent random maps have 0 in expectation.

    Raises:
        TypeError: If the maps are not floating point.
        ValueError: If shapes differ, something is empty or not finite, or ``similarity`` is unknown.

    Example:
        >>> a = torch.tensor([[1.0, 2.0, 3.0]])
        >>> map_correlation(a, torch.tensor([[1.0, 4.0, 9.0]]))
        tensor([1.], dtype=torch.float64)
        >>> map_correlation(a, torch.tensor([[1.0, 4.0, 9.0]]), "pearson")
        tensor([0.9897], dtype=torch.float64)
    """
    check_similarity(similarity)
    for name, tensor in (("maps", maps), ("others", others)):
        _check(tensor, name)
    if maps.shape != others.shape:
        raise ValueError(
            f"maps and others must have the same shape, got {tuple(maps.shape)} and {tuple(others.shape)}."
        )
    a, b = (x.detach().flatten(1).double().contiguous() for x in (maps, others.to(maps.device)))
    if absolute:
        a, b = a.abs(), b.abs()
    a_constant, b_constant = _constant(a), _constant(b)
    if similarity == "spearman":
        a, b = _ranks(a), _ranks(b)
    # u v = 1 - |u - v|^2 / 2 for vectors of length 1: exactly 1 for equal maps.
    correlation = 1 - (_standardized(a) - _standardized(b)).square().sum(dim=1) / 2
    correlation = correlation.clamp(-1, 1)
    if_constant = (a_constant & b_constant).double()
    return torch.where(a_constant | b_constant, if_constant, correlation)


def check_similarity(similarity: str) -> None:
    """Refuse anything but the two kinds of correlation."""
    if similarity not in ("spearman", "pearson"):
        raise ValueError(f"similarity must be 'spearman' or 'pearson', got {similarity!r}.")


def _check(maps: Tensor, name: str) -> None:
    check_floating(maps, name, "(N, ...)")
    if maps.dim() < 2 or 0 in maps.shape:
        raise ValueError(f"{name} must have shape (N, ...) with no empty axis, got {tuple(maps.shape)}.")
    if not bool(torch.isfinite(maps).all()):
        raise ValueError(f"{name} must be finite, but they hold NaN or infinite values.")


def _constant(rows: Tensor) -> Tensor:
    spread = rows.amax(dim=1) - rows.amin(dim=1)
    return spread <= _CONSTANT * rows.abs().amax(dim=1)


def _ranks(rows: Tensor) -> Tensor:
    """Twice the mean rank of each value's tie group, which is a whole number."""
    ordered = rows.sort(dim=1).values
    below = torch.searchsorted(ordered, rows)
    not_above = torch.searchsorted(ordered, rows, right=True)
    return (below + not_above).double()


def _standardized(rows: Tensor) -> Tensor:
    """Mean 0 and length 1; a constant row becomes NaN or noise, which the caller replaces."""
    centered = rows - rows.mean(dim=1, keepdim=True)
    # Scaled first, so that squares of the smallest and largest values stay finite and above 0.
    centered = centered / centered.abs().amax(dim=1, keepdim=True)
    return centered / centered.square().sum(dim=1, keepdim=True).sqrt()
