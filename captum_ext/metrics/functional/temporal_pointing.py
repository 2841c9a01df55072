"""The pointing game in time: does the best frame of a clip lie inside the action?"""

from collections.abc import Sequence

from torch import Tensor

from captum_ext._series import check_series
from captum_ext.metrics.functional.spans import frames_inside


def temporal_pointing_game(scores: Tensor, spans: Tensor | Sequence[Tensor]) -> Tensor:
    """Check for each clip whether the frame with the highest score lies in one of its spans.

    One vote per clip. The earliest frame wins a tie, but a constant series points nowhere and is a miss
    (that includes clips of one frame).

    Args:
        scores (Tensor): One score per frame: a saliency sum, or the probability of the class.
        spans (Tensor or sequence of Tensor): Ground truth, half-open ``[start, end)`` in frames: one span per
            clip as a tensor, or one tensor of spans per clip, of which any counts.

    Shape:
        - scores: (N, T)
        - spans: (N, 2), or N times (S_n, 2)
        - returns: (N,)

    Returns:
        Tensor: True for a hit, bool. Its mean is the accuracy; compare that with the mean of
        :func:`temporal_pointing_chance`.

    Raises:
        TypeError: If the scores are not floating point or the spans are not integers.
        ValueError: If shapes or lengths do not match, something is empty, a score is not finite, or a span
            is not inside the clip.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[0.0, 3.0, 1.0, 1.0], [2.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
        >>> temporal_pointing_game(scores, torch.tensor([[1, 3], [1, 3], [0, 4]]))
        tensor([ True, False, False])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 5.2 (pointing game in time).
    """
    check_series(scores)
    if len(spans) != len(scores):
        raise ValueError(
            f"spans must hold one entry per clip: scores have N = {len(scores)}, got {len(spans)}."
        )
    return _pointing_hits(scores, frames_inside(spans, scores.shape[1]).to(scores.device))


def temporal_pointing_chance(spans: Tensor | Sequence[Tensor], n_frames: int) -> Tensor:
    """Probability that a uniformly random frame of each clip lies in one of its spans.

    Args:
        spans (Tensor or sequence of Tensor): Ground truth as for :func:`temporal_pointing_game`.
        n_frames (int): Frames in each clip, T.

    Shape:
        - spans: (N, 2), or N times (S_n, 2)
        - returns: (N,)

    Returns:
        Tensor: Exact probabilities in (0, 1], float64: frames inside / T.

    Raises:
        TypeError: If the spans are not integers.
        ValueError: If a shape is wrong, something is empty, or a span is not inside the clip.

    Example:
        >>> import torch
        >>> temporal_pointing_chance(torch.tensor([[1, 3], [0, 8]]), 8)
        tensor([0.2500, 1.0000], dtype=torch.float64)
    """
    return frames_inside(spans, n_frames).double().mean(dim=1)


def _pointing_hits(scores: Tensor, inside: Tensor) -> Tensor:
    hits = inside.gather(1, scores.argmax(dim=1, keepdim=True))[:, 0]
    constant = scores.amax(dim=1) == scores.amin(dim=1)
    return hits & ~constant
