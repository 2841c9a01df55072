"""Who is kept: eq. 5.1 of the thesis and its inverse."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["check_drop_rate", "excitation_keep_mask", "excitation_keep_probability"]

_ROUNDING = 1e-3


def excitation_keep_probability(
    p_eb: Tensor, p: float = 0.5, n: int | Tensor | None = None, inverse: bool = False
) -> Tensor:
    r"""Probability that Excitation Dropout keeps each unit (eq. 5.1).

    The paper's formula in odds, where nothing cancels and both terms are at least 0:

    .. math::
        r = \frac{P (1 - p_{EB})}{P (1 - p_{EB}) + (1 - P) (N - 1)\, p_{EB}}

    with P = 1 - ``p``. So the log-odds of being dropped are those of ``p`` plus how much more evidence than
    1 / N the unit holds. Units without evidence are always kept, a unit with all of it never; a unit with
    1 / N is kept with probability P. Averaged over a layer, at most the share ``p`` is dropped (if that is
    1 / N or more).

    Args:
        p_eb (Tensor): winning probabilities of one layer, in 0..1; of each example they sum to at most 1.
        p (float, optional): base drop rate, as in :class:`torch.nn.Dropout`; in 0..1, below 1. Default: 0.5
        n (int or Tensor, optional): N, at least 2, or a tensor that broadcasts. Default: all axes but the
            first, multiplied
        inverse (bool, optional): the control: drop the units with the *least* evidence, with the log-odds of
            ``p`` minus those of the unit's share over 1 / N; examples without any evidence are kept whole.
            Default: False

    Shape:
        ``p_eb`` (N, *); the result has its shape.

    Returns:
        *Tensor* of probabilities in 0..1.

    Raises:
        ValueError: ``p`` is not in 0..1 or is 1; ``n`` is below 2; ``p_eb`` is not in 0..1 or is NaN (which
            is looked at on the CPU only, since for a GPU the host would have to wait).

    Example:
        >>> import torch
        >>> p_eb = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
        >>> excitation_keep_probability(p_eb, p=0.5)
        tensor([[0.5000, 0.5000, 0.5000, 0.5000],
                [0.0000, 1.0000, 1.0000, 1.0000]])

    References:
        Zunino et al., Excitation Dropout: Encouraging Plasticity in Deep Neural Networks, IJCV 2021, eq. 2;
        Bargal, thesis 2019, eq. 5.1.
    """
    check_drop_rate(p)
    keep, drop = _weights(p_eb, p, n, inverse)
    # N = 1 at p_EB = 1, or a drop rate of 0 with a share that is 1: nobody to take over, nothing to drop.
    total = keep + drop
    return torch.where(total > 0, keep / total.clamp_min(torch.finfo(total.dtype).tiny), 1.0 - float(p > 0))


def excitation_keep_mask(
    p_eb: Tensor,
    p: float = 0.5,
    n: int | Tensor | None = None,
    inverse: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw which units Excitation Dropout keeps, each with its :func:`excitation_keep_probability`.

    One uniform number per unit is drawn, also where the answer is certain.

    Args:
        p_eb (Tensor): winning probabilities of one layer, in 0..1.
        p (float, optional): base drop rate. Default: 0.5
        n (int or Tensor, optional): N. Default: all axes of ``p_eb`` but the first, multiplied
        inverse (bool, optional): drop the units with the least evidence. Default: False
        generator (torch.Generator, optional): source of randomness. Default: torch's own

    Shape:
        ``p_eb`` (N, *); the result has its shape.

    Returns:
        *Tensor* of bools, True for units that are kept.

    Raises:
        ValueError: as in :func:`excitation_keep_probability`.

    Example:
        >>> import torch
        >>> excitation_keep_mask(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([[False,  True,  True]])
    """
    check_drop_rate(p)
    keep, drop = _weights(p_eb, p, n, inverse)
    u = torch.rand(p_eb.shape, generator=generator, dtype=keep.dtype, device=p_eb.device)
    # u < keep / (keep + drop), without the division.
    return u * (keep + drop) < keep if p > 0 else u >= 0


def check_drop_rate(p: float) -> None:
    """Raise for a rate that is no base drop rate."""
    if not 0 <= p < 1:
        raise ValueError(
            f"p is the base drop rate, at least 0 and below 1, got {p}; at 1 every unit with any evidence "
            "would be dropped"
        )


def _weights(p_eb: Tensor, p: float, n: int | Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
    """Numbers in the ratio of keeping to dropping."""
    n = math.prod(p_eb.shape[1:]) if n is None else n
    if isinstance(n, int) and n < 2:
        raise ValueError(f"Excitation Dropout needs at least 2 units to choose between, got n = {n}")
    if p_eb.device.type == "cpu" and not bool(((p_eb > -_ROUNDING) & (p_eb < 1 + _ROUNDING)).all()):
        raise ValueError("p_eb are winning probabilities, in 0..1, but some are not, or are NaN")
    share = p_eb.to(torch.promote_types(p_eb.dtype, torch.float32)).clamp(0.0, 1.0)
    rest = 1.0 - share
    if not inverse:
        return (1.0 - p) * rest, p * (n - 1) * share
    whole = share.sum(tuple(range(1, share.dim())), keepdim=True) == 0
    return (1.0 - p) * (n - 1) * share + whole, (p * rest).masked_fill(whole, 0.0)
