"""Conservation: does a map hold the mass that its method promises?"""

import torch
from torch import Tensor

from captum_ext._floating import check_floating


def conservation_residual(
    maps: Tensor, expected: float | Tensor = 1.0, delta: Tensor | None = None
) -> Tensor:
    r"""How far the mass of a map, and what its method says it dropped, is from what was put in.

    .. math:: \left| \sum_i M_i + \delta - P \right|

    Excitation Backprop puts in a probability of 1; the contrastive form 1 for the class and -1 against it,
    in all 0 (before negative values are cut off). What is left is lost or invented: a layer that a rule does
    not fit.

    Args:
        maps (Tensor): One map per example, as the method returned it (before any clamping or resizing).
        expected (float or Tensor): Mass that was put in, P: 1 for EB and EB-R, 0 for cEB and cEB-R.
        delta (Tensor, optional): Mass that the method reports as dropped (``return_convergence_delta``).

    Shape:
        - maps: (N, ...)
        - expected: a number or (N,)
        - delta: (N,)
        - returns: (N,)

    Returns:
        Tensor: Residuals, at least 0, float64; 0 is right, up to rounding.

    Raises:
        TypeError: If the maps are not floating point.
        ValueError: If shapes do not match, or something is empty or not finite.

    Example:
        >>> conservation_residual(torch.tensor([[0.25, 0.5], [0.25, 0.75]]))
        tensor([0.2500, 0.0000], dtype=torch.float64)
        >>> conservation_residual(torch.tensor([[0.25, 0.5]]), delta=torch.tensor([0.25]))
        tensor([0.], dtype=torch.float64)

    References:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, section 3.
    """
    check_floating(maps, "maps", "(N, ...)")
    if maps.dim() < 2 or 0 in maps.shape:
        raise ValueError(f"maps must have shape (N, ...) with no empty axis, got {tuple(maps.shape)}.")
    mass = maps.detach().double().flatten(1).sum(dim=1)
    prior = torch.as_tensor(expected, dtype=torch.float64, device=maps.device)
    dropped = torch.zeros_like(mass) if delta is None else delta.detach().to(mass)
    if prior.shape not in ((), mass.shape) or dropped.shape != mass.shape:
        raise ValueError(
            f"expected must be a number or (N,) = ({len(mass)},) and delta (N,), got {tuple(prior.shape)} "
            f"and {tuple(dropped.shape)}."
        )
    residual = (mass + dropped - prior).abs()
    if not bool(torch.isfinite(residual).all()):
        clip = int((~torch.isfinite(residual)).nonzero()[0])
        raise ValueError(f"maps, expected and delta must be finite, but those of example {clip} are not.")
    return residual
