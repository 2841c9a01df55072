"""Neurons on: how much of a layer answers at all."""

import math

from torch import Tensor

from captum_ext.metrics.functional._units import units_of


def neurons_on(activations: Tensor, threshold: float = 0.0) -> Tensor:
    r"""Number of units of a layer that an example switches on.

    .. math:: \#\{i : h_i > \text{threshold}\}

    It is U (1 - APoZ), where APoZ is the average percentage of zeros of pruning. The thesis writes that it
    counts zero activations and prints those that are not zero, as here.

    Args:
        activations (Tensor): Activations of the layer behind its ReLU. Each of the elements beside the batch
            axis is a unit.
        threshold (float): A unit is on above it, in units of the activations.

    Shape:
        - activations: (N, U) or (N, *)
        - returns: (N,)

    Returns:
        Tensor: Whole numbers in 0..U, float64.

    Raises:
        TypeError: If the activations are not floating point.
        ValueError: If they have no batch axis, are empty or not finite, or the threshold is not finite.

    Example:
        >>> import torch
        >>> neurons_on(torch.tensor([[0.0, 2.0, 0.1], [0.0, 0.0, 1.0]]))
        tensor([2., 1.], dtype=torch.float64)

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, section 5.2.3.
        Hu et al., Network Trimming, arXiv:1607.03250, 2016 (APoZ).
    """
    return _on(activations, threshold).sum(1).double()


def neurons_ever_on(activations: Tensor, threshold: float = 0.0) -> Tensor:
    """Which units of a layer at least one example switches on; the others are *dead* on these examples.

    Args:
        activations (Tensor): Activations of the layer behind its ReLU.
        threshold (float): A unit is on above it, in units of the activations.

    Shape:
        - activations: (N, U) or (N, *)
        - returns: (U,), or the product of the axes beside the batch

    Returns:
        Tensor: bool.

    Raises:
        TypeError: If the activations are not floating point.
        ValueError: If they have no batch axis, are empty or not finite, or the threshold is not finite.

    Example:
        >>> import torch
        >>> neurons_ever_on(torch.tensor([[0.0, 2.0, 0.1], [0.0, 0.0, 1.0]]))
        tensor([False,  True,  True])
    """
    return _on(activations, threshold).any(0)


def _on(activations: Tensor, threshold: float) -> Tensor:
    check_threshold(threshold)
    return units_of(activations, "activations") > threshold


def check_threshold(threshold: float) -> None:
    """Refuse a threshold that nothing, or everything, passes."""
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be finite, got {threshold}.")
