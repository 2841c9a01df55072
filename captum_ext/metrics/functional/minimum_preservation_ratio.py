"""Minimum preservation ratio: the smallest share of a clip that keeps its prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MinimumPreservation:
    """Result of :func:`minimum_preservation_ratio`, example by example.

    Attributes:
        ratios (Tensor): The smallest area that keeps the prediction, in (0, 1], float64, (N,); 1 where none
            does.
        kept (Tensor): True where one of the areas does, bool, (N,).
    """

    ratios: Tensor
    kept: Tensor


def minimum_preservation_ratio(
    areas: Tensor | Sequence[float], probabilities: Tensor, original: Tensor, threshold: float = 1.0
) -> MinimumPreservation:
    r"""Smallest area whose mask keeps the probability of the class.

    .. math:: a^* = \min \{a : p(m_a \otimes x) \geq \theta\, p(x)\}

    over a ladder of areas. An example that no area keeps needs the whole clip: it counts as 1. Probabilities
    need not rise with the area.

    Args:
        areas (Tensor or sequence of float): Shares of the clip that the masks keep, in (0, 1]: one ladder for
            all examples, or one per example.
        probabilities (Tensor): Probability of the class for each example and area, 0..1.
        original (Tensor): Probability for the whole clip, 0..1.
        threshold (float): Share of the original probability to keep, :math:`\theta`, in (0, 1]. The paper's
            "without decreasing" is 1.

    Shape:
        - areas: (A,) or (N, A)
        - probabilities: (N, A)
        - original: (N,)
        - result: ``ratios`` and ``kept`` of shape (N,)

    Returns:
        MinimumPreservation: The ratios, and which examples were kept by any area.

    Raises:
        TypeError: If something is not a floating-point tensor.
        ValueError: If shapes do not match, something is empty, a number is outside its range or NaN.

    Example:
        >>> areas = torch.tensor([0.05, 0.1, 0.2])
        >>> kept = torch.tensor([[0.2, 0.6, 0.9], [0.1, 0.1, 0.3]])
        >>> result = minimum_preservation_ratio(areas, kept, torch.tensor([0.8, 0.5]))
        >>> result.ratios, result.kept
        (tensor([0.2000, 1.0000], dtype=torch.float64), tensor([ True, False]))

    References:
        Li et al., Towards Visually Explaining Video Understanding Networks with Perturbation, WACV 2021,
        eq. 3 and Table 2.
    """
    check_threshold(threshold)
    if not isinstance(areas, Tensor):
        areas = torch.tensor(areas, dtype=torch.float64)
    for name, tensor in (("areas", areas), ("probabilities", probabilities), ("original", original)):
        _check_shares(tensor, name)
    if bool((areas == 0).any()):
        raise ValueError("areas must be above 0: nothing kept explains nothing.")
    if probabilities.dim() != 2 or original.shape != probabilities.shape[:1]:
        raise ValueError(
            "probabilities must have shape (N, A) and original (N,), got "
            f"{tuple(probabilities.shape)} and {tuple(original.shape)}."
        )
    if areas.shape not in (probabilities.shape, probabilities.shape[1:]):
        raise ValueError(
            f"areas must have shape (A,) or (N, A) for probabilities {tuple(probabilities.shape)}, "
            f"got {tuple(areas.shape)}."
        )
    # In float64, so that a probability is compared with itself and not with its neighbour.
    keeps = probabilities.double() >= threshold * original.to(probabilities.device).double()[:, None]
    candidates = torch.where(keeps, areas.to(probabilities.device).double(), 1.0)
    return MinimumPreservation(ratios=candidates.amin(dim=1), kept=keeps.any(dim=1))


def check_threshold(threshold: float) -> None:
    """Refuse shares outside (0, 1]."""
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], got {threshold}.")


def _check_shares(tensor: Tensor, name: str) -> None:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        what = str(tensor.dtype) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {what}.")
    if tensor.numel() == 0:
        raise ValueError(f"{name} is empty: {tuple(tensor.shape)}.")
    if not bool(((tensor >= 0) & (tensor <= 1)).all()):  # false for NaN too
        raise ValueError(f"{name} must lie in 0..1 and not be NaN.")
