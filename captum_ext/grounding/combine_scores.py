"""One point from two series: the probability of the class and the evidence for it."""

from typing import Literal, get_args

import torch
from torch import Tensor

from captum_ext._series import check_series

Combination = Literal["sum", "product", "rank_mean", "gate"]


def combine_scores(
    saliency: Tensor,
    probability: Tensor,
    how: Combination = "sum",
    threshold: float | None = 0.5,
) -> Tensor:
    """Combine the saliency sums and the probabilities of a clip's frames into one series to point with.

    Bargal et al. report 77.4 % for "peak probability + cEB-R" in the pointing game in time, against 65.8 %
    and 65.1 % alone, and do not define the combination. None of these is known to be theirs; each is a single
    guess and knows nothing of the ground truth:

    - ``"sum"``: sum of the two, each standardised inside the clip (mean 0, standard deviation 1).
    - ``"product"``: product of the two, each scaled to 0..1 inside the clip.
    - ``"rank_mean"``: mean of the two ranks inside the clip, 1 to T, equal values sharing their mean rank.
    - ``"gate"``: the saliency where the probability reaches the threshold, and less than the clip's smallest
      saliency elsewhere. Where no frame of a clip reaches it, the saliency as it is.

    A series that is constant within a clip says nothing and leaves the other one's order as it is. The oracle
    that lets the ground truth choose between two points is
    :func:`captum_ext.metrics.functional.either_pointing_game`.

    Args:
        saliency (Tensor): One score per frame, as from :func:`~captum_ext.grounding.frame_scores`.
        probability (Tensor): Probability of the class at each frame, 0 to 1.
        how (str): ``"sum"``, ``"product"``, ``"rank_mean"`` or ``"gate"``.
        threshold (float, optional): For ``"gate"``: smallest probability that opens it, 0 to 1; None for the
            clip's own median probability.

    Shape:
        - saliency: (N, T)
        - probability: (N, T)
        - returns: (N, T)

    Returns:
        Tensor: The combined series, float64.

    Raises:
        TypeError: If a series is not a floating-point tensor.
        ValueError: If the series differ in shape, are not (N, T), empty or not finite, ``how`` is unknown, or
            a probability or the threshold is outside 0..1.

    Example:
        >>> saliency, probability = torch.tensor([[0.0, 3.0, 2.0]]), torch.tensor([[0.9, 0.2, 0.8]])
        >>> combine_scores(saliency, probability, "product").argmax(dim=1)
        tensor([2])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, table 3.
    """
    check_series(saliency, "saliency")
    check_series(probability, "probability")
    if saliency.shape != probability.shape:
        raise ValueError(
            f"saliency and probability must have the same shape (N, T), got {tuple(saliency.shape)} and "
            f"{tuple(probability.shape)}."
        )
    if how not in get_args(Combination):
        raise ValueError(f"how must be one of {', '.join(map(repr, get_args(Combination)))}, got {how!r}.")
    outside = (probability < 0) | (probability > 1)
    if bool(outside.any()):
        raise ValueError(
            f"probability must lie in 0..1, got {probability[outside][0].item()}; "
            "pass the softmax of the logits, not the logits."
        )
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in 0..1, got {threshold}.")
    saliency, probability = saliency.double(), probability.to(saliency.device).double()
    if how == "sum":
        return _standardised(saliency) + _standardised(probability)
    if how == "product":
        return _scaled(saliency) * _scaled(probability)
    if how == "rank_mean":
        return (_ranks(saliency) + _ranks(probability)) / 2
    return _gated(saliency, probability, threshold)


def _standardised(series: Tensor) -> Tensor:
    # Constant is settled by equality: the rounded deviation of equal numbers need not be 0.
    constant = series.amax(dim=1, keepdim=True) == series.amin(dim=1, keepdim=True)
    deviation = series.std(dim=1, correction=0, keepdim=True)
    centered = series - series.mean(dim=1, keepdim=True)
    return torch.where(constant, 0.0, centered / torch.where(deviation > 0, deviation, 1))


def _scaled(series: Tensor) -> Tensor:
    low, high = series.amin(dim=1, keepdim=True), series.amax(dim=1, keepdim=True)
    return torch.where(high > low, (series - low) / torch.where(high > low, high - low, 1), 1.0)


def _ranks(series: Tensor) -> Tensor:
    ordered = series.sort(dim=1).values
    return (torch.searchsorted(ordered, series) + torch.searchsorted(ordered, series, right=True) + 1) / 2


def _gated(saliency: Tensor, probability: Tensor, threshold: float | None) -> Tensor:
    if threshold is None:
        smallest = probability.quantile(0.5, dim=1, keepdim=True)
    else:
        smallest = torch.full_like(probability[:, :1], threshold)
    is_open = probability >= smallest
    is_open |= ~is_open.any(dim=1, keepdim=True)
    low, high = saliency.amin(dim=1, keepdim=True), saliency.amax(dim=1, keepdim=True)
    below = low - torch.where(high > low, high - low, low.abs().clamp(min=1))
    return torch.where(is_open, saliency, below)
