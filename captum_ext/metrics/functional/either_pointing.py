"""Two points per clip, one of which must hit: an oracle, and what two random points would have scored."""

from collections.abc import Sequence

from torch import Tensor

from captum_ext.metrics.functional.temporal_pointing import temporal_pointing_chance, temporal_pointing_game


def either_pointing_game(first: Tensor, second: Tensor, spans: Tensor | Sequence[Tensor]) -> Tensor:
    """Play the pointing game with two points per clip, of which one must hit: an **oracle**.

    It looks at the ground truth to choose between the points, so it is no method, but a bound on what
    choosing between two could reach. It has two guesses, so compare it with
    :func:`either_pointing_chance`, never with the chance of one.

    Bargal et al. report 77.4 % for "peak probability + cEB-R" and do not say how the two were combined. This
    is one reading; those with a single guess are in :func:`captum_ext.grounding.combine_scores`.

    Args:
        first (Tensor): One score per frame, such as saliency sums.
        second (Tensor): Another, such as the probability of the class.
        spans (Tensor or sequence of Tensor): As for
            :func:`~captum_ext.metrics.functional.temporal_pointing_game`.

    Shape:
        - first, second: (N, T)
        - spans: (N, 2), or N times (S_n, 2)
        - returns: (N,)

    Returns:
        Tensor: True for a hit, bool.

    Raises:
        TypeError: If the scores are not floating point or the spans not integers.
        ValueError: If the two differ in shape, or as for ``temporal_pointing_game``.

    Example:
        >>> import torch
        >>> saliency, probability = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.2, 0.9, 0.1]])
        >>> either_pointing_game(saliency, probability, torch.tensor([[1, 2]]))
        tensor([True])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, table 3.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have the same shape (N, T), got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    hits = temporal_pointing_game(first, spans)
    return hits | temporal_pointing_game(second, spans).to(hits.device)


def either_pointing_chance(spans: Tensor | Sequence[Tensor], n_frames: int) -> Tensor:
    """Probability that at least one of two independent, uniformly random frames lies in one of the spans.

    Args:
        spans (Tensor or sequence of Tensor): As for :func:`either_pointing_game`.
        n_frames (int): Frames in each clip, T.

    Shape:
        - spans: (N, 2), or N times (S_n, 2)
        - returns: (N,)

    Returns:
        Tensor: ``1 - (1 - p)^2`` with p the share of frames inside, exact, float64.

    Raises:
        TypeError: If the spans are not integers.
        ValueError: If a shape is wrong, something is empty, or a span is not inside the clip.

    Example:
        >>> import torch
        >>> either_pointing_chance(torch.tensor([[1, 3], [0, 8]]), 8)
        tensor([0.4375, 1.0000], dtype=torch.float64)
    """
    return 1 - (1 - temporal_pointing_chance(spans, n_frames)) ** 2
