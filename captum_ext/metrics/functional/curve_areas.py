"""One number from a deletion or insertion curve."""

from torch import Tensor

from captum_ext._series import check_series


def area_under_curve(curves: Tensor) -> Tensor:
    r"""Area under curves over the share of the clip that was deleted or inserted, 0 to 1.

    .. math:: \frac{1}{S} \sum_{s=1}^{S} \frac{c_{s-1} + c_s}{2}

    the trapezoid rule. Of a deletion curve low is better, of an insertion curve high.

    Args:
        curves (Tensor): Scores at steps of equal width.

    Shape:
        - curves: (N, S + 1), S >= 1
        - returns: (N,)

    Returns:
        Tensor: Areas in the units of the score, float64.

    Raises:
        TypeError: If the curves are not floating point.
        ValueError: If they are not of shape (N, S + 1), empty or not finite.

    Example:
        >>> import torch
        >>> area_under_curve(torch.tensor([[1.0, 0.5, 0.0]]))
        tensor([0.5000], dtype=torch.float64)

    References:
        Petsiuk et al., RISE, BMVC 2018, section 4.1.
    """
    _check_curves(curves, "curves")
    curves = curves.double()
    return (curves[:, :-1] + curves[:, 1:]).mean(dim=1) / 2


def aopc(curves: Tensor) -> Tensor:
    r"""Area over the perturbation curve: mean drop of the score over all steps.

    .. math:: \frac{1}{S + 1} \sum_{s=0}^{S} (c_0 - c_s)

    Of a deletion curve, most relevant first, high is better.

    Args:
        curves (Tensor): Deletion curves.

    Shape:
        - curves: (N, S + 1), S >= 1
        - returns: (N,)

    Returns:
        Tensor: Mean drops in the units of the score, float64.

    Raises:
        TypeError: If the curves are not floating point.
        ValueError: If they are not of shape (N, S + 1), empty or not finite.

    Example:
        >>> import torch
        >>> aopc(torch.tensor([[0.9, 0.3, 0.0]]))
        tensor([0.5000], dtype=torch.float64)

    References:
        Samek et al., Evaluating the visualization of what a deep neural network has learned, TNNLS 28, 2017.
    """
    _check_curves(curves, "curves")
    curves = curves.double()
    return (curves[:, :1] - curves).mean(dim=1)


def abpc(most_relevant_first: Tensor, least_relevant_first: Tensor) -> Tensor:
    """Area between the perturbation curves: under least relevant first, minus under most relevant first.

    Both curves see the same deleted clips at their ends, so much of what the baseline itself does to the
    model cancels. A random order has 0 in expectation, exactly, whatever the model; so has a constant map.

    Args:
        most_relevant_first (Tensor): Deletion curves in this order (MoRF).
        least_relevant_first (Tensor): Deletion curves of the same clips in this order (LeRF).

    Shape:
        - both: (N, S + 1), S >= 1
        - returns: (N,)

    Returns:
        Tensor: Areas in the units of the score, float64; high is better.

    Raises:
        TypeError: If the curves are not floating point.
        ValueError: If the shapes differ or are not (N, S + 1), or something is empty or not finite.

    Example:
        >>> import torch
        >>> abpc(torch.tensor([[1.0, 0.2, 0.0]]), torch.tensor([[1.0, 0.8, 0.0]]))
        tensor([0.3000], dtype=torch.float64)

    References:
        Samek et al., Evaluating the visualization of what a deep neural network has learned, TNNLS 28, 2017.
    """
    _check_curves(most_relevant_first, "most_relevant_first")
    _check_curves(least_relevant_first, "least_relevant_first")
    if most_relevant_first.shape != least_relevant_first.shape:
        raise ValueError(
            f"the two curves must have the same shape, got {tuple(most_relevant_first.shape)} and "
            f"{tuple(least_relevant_first.shape)}."
        )
    return area_under_curve(least_relevant_first) - area_under_curve(most_relevant_first)


def _check_curves(curves: Tensor, name: str) -> None:
    check_series(curves, name)
    if curves.shape[1] < 2:
        raise ValueError(f"{name} must have at least two points, (N, S + 1), got {tuple(curves.shape)}.")
