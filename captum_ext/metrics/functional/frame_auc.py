"""Frame AUC: does a frame of the action score above a frame outside it?"""

import torch
from torch import Tensor

from captum_ext._series import check_series


def frame_auc(scores: Tensor, inside: Tensor) -> Tensor:
    r"""Probability that a random frame inside the action scores above a random frame outside it.

    .. math:: \frac{1}{n_1 n_0} \sum_{i \in \text{inside}} \sum_{o \notin \text{inside}}
              \left( [S_i > S_o] + \tfrac12 [S_i = S_o] \right)

    Ties count one half, so a constant series scores 0.5. Unlike the pointing game it looks at all frames, and
    it needs no threshold. Computed exactly, from ranks (the Mann-Whitney U statistic).

    Args:
        scores (Tensor): One score per frame: a saliency sum, or the probability of the class.
        inside (Tensor): True for frames of the action, bool, as from
            :func:`~captum_ext.metrics.functional.frames_inside`.

    Shape:
        - scores: (N, T)
        - inside: (N, T)
        - returns: (N,)

    Returns:
        Tensor: AUC in 0..1, float64; NaN for a clip in which all frames or none are inside.

    Raises:
        TypeError: If the scores are not floating point or ``inside`` is not bool.
        ValueError: If the shapes differ or are not (N, T), something is empty, or a score is not finite.

    Example:
        >>> scores = torch.tensor([[0.1, 0.9, 0.4, 0.4]])
        >>> frame_auc(scores, torch.tensor([[False, True, True, False]]))
        tensor([0.8750], dtype=torch.float64)

    References:
        Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """
    check_series(scores)
    _check_inside(inside)
    if inside.shape != scores.shape:
        raise ValueError(
            f"inside must have the shape of scores, {tuple(scores.shape)}, got {tuple(inside.shape)}."
        )
    return _frame_auc(scores, inside.to(scores.device))


def frame_auc_chance(inside: Tensor) -> Tensor:
    """Expected frame AUC of uniformly random scores: 0.5 wherever the AUC is defined.

    Args:
        inside (Tensor): True for frames of the action, bool.

    Shape:
        - inside: (N, T)
        - returns: (N,)

    Returns:
        Tensor: 0.5, or NaN for a clip in which all frames or none are inside, float64.

    Raises:
        TypeError: If ``inside`` is not bool.
        ValueError: If it is not of shape (N, T) or is empty.

    Example:
        >>> frame_auc_chance(torch.tensor([[True, False, False], [True, True, True]]))
        tensor([0.5000,    nan], dtype=torch.float64)
    """
    _check_inside(inside)
    mixed = inside.any(dim=1) & ~inside.all(dim=1)
    return torch.where(mixed, 0.5, torch.nan).double()


def _check_inside(inside: Tensor) -> None:
    if not isinstance(inside, Tensor) or inside.dtype != torch.bool:
        what = str(inside.dtype) if isinstance(inside, Tensor) else type(inside).__name__
        raise TypeError(f"inside must be a bool tensor of shape (N, T), got {what}.")
    if inside.dim() != 2 or 0 in inside.shape:
        raise ValueError(f"inside must have shape (N, T) with no empty axis, got {tuple(inside.shape)}.")


def _frame_auc(scores: Tensor, inside: Tensor) -> Tensor:
    scores = scores.double()
    ordered = scores.sort(dim=1).values
    below = torch.searchsorted(ordered, scores)
    not_above = torch.searchsorted(ordered, scores, right=True)
    # Twice the mean rank (from 1) of each frame's tie group: whole, so only the last step rounds.
    twice_rank = below + not_above + 1
    n_inside = inside.sum(dim=1)
    n_outside = inside.shape[1] - n_inside
    twice_u = (twice_rank * inside).sum(dim=1) - n_inside * (n_inside + 1)
    return twice_u.double() / (2 * n_inside * n_outside)  # 0 / 0 is the NaN that is promised
