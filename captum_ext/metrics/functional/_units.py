"""What the activations and the winning probabilities of a layer must be."""

import torch
from torch import Tensor

# Sums of probabilities that were bfloat16 are off by a few thousandths.
_SLACK = 1e-2


def units_of(values: Tensor, name: str) -> Tensor:
    """One row of units per example, (N, U); refuses what is not a finite floating-point (N, *)."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        what = str(values.dtype) if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name} must be a floating-point tensor of shape (N, *), got {what}.")
    if values.dim() < 2:
        raise ValueError(
            f"{name} must have shape (N, *), examples by units, got {tuple(values.shape)}; "
            "for a single example add the batch axis with [None]."
        )
    if values.numel() == 0:
        raise ValueError(f"{name} is empty: its shape is {tuple(values.shape)}.")
    rows = values.detach().flatten(1)
    if not bool(torch.isfinite(rows).all()):
        example, unit = (~torch.isfinite(rows)).nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be finite, but example {example}, unit {unit} is {rows[example, unit].item()}; "
            "check the model and its inputs."
        )
    return rows


def non_negative_units_of(values: Tensor, name: str) -> Tensor:
    """As :func:`units_of`, and no value below zero."""
    rows = units_of(values, name)
    lowest = float(rows.min())
    if lowest < 0:
        raise ValueError(
            f"{name} must be at least 0, got {lowest}; take the activations behind the ReLU, or clamp them."
        )
    return rows


def probabilities_of(values: Tensor, name: str) -> Tensor:
    """As :func:`non_negative_units_of`, and rows that sum to 1 or, where mass was lost, to less."""
    rows = non_negative_units_of(values, name)
    most = float(rows.sum(1, dtype=torch.float64).max())
    if most > 1 + _SLACK:
        raise ValueError(
            f"{name} must be winning probabilities, which sum to at most 1 per example, but a row sums to "
            f"{most:.4g}; pass the map of Excitation Backprop as it is, without contrast or scaling."
        )
    return rows


def check_matches(found: int, wanted: int, name: str, what: str = "units") -> None:
    """Refuse another number of units than the metric was made for."""
    if found != wanted:
        raise ValueError(
            f"{name} has {found} {what} per example, but the metric was made for {wanted}; "
            "use one metric per layer."
        )
