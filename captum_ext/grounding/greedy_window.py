"""When, if the length is unknown: grow a window from the best frame until the evidence turns negative."""

import torch
from torch import Tensor

from captum_ext._series import check_series


def greedy_window(scores: Tensor) -> Tensor:
    """Find each clip's window around its best frame, bounded by the nearest negative frames.

    The anchor is the frame with the highest score, the earliest on ties. The window grows from it in both
    directions until the first frame with a strictly negative score, which is left out; a score of zero does
    not stop it, nor does it cross the clip's ends. If every score is negative the window is the anchor
    alone. Scores that are never negative (Excitation Backprop without contrast) give the whole clip: use
    :func:`~captum_ext.grounding.known_length_window` for those.

    Args:
        scores (Tensor): One score per frame, as from :func:`~captum_ext.grounding.frame_scores`.

    Shape:
        - scores: (N, T)
        - returns: (N, 2)

    Returns:
        Tensor: Half-open windows ``[start, end)`` in frames, int64, never empty.

    Raises:
        TypeError: If the scores are not a floating-point tensor.
        ValueError: If they are not of shape (N, T), hold no clip or no frame, or are not finite.

    Example:
        >>> greedy_window(torch.tensor([[-1.0, 0.5, 0.0, 2.0, 1.0, -3.0, 1.5]]))
        tensor([[1, 5]])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 4.1. The paper leaves open ties, zeros
        and clips without a positive frame; the rules above settle them.
    """
    check_series(scores)
    return _greedy_window(scores)


def _greedy_window(scores: Tensor) -> Tensor:
    n_frames = scores.shape[1]
    frame = torch.arange(n_frames, device=scores.device)
    anchor = scores.argmax(dim=1, keepdim=True)
    negative = scores < 0
    # The window lies between the last negative frame before the anchor and the first one behind it.
    start = torch.where(negative & (frame < anchor), frame + 1, 0).amax(dim=1)
    end = torch.where(negative & (frame > anchor), frame, n_frames).amin(dim=1)
    return torch.stack([start, end], dim=1)
