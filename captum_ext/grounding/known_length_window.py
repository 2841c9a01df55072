"""When, if the length is known: the window of that length that holds the largest sum."""

import torch
from torch import Tensor

from captum_ext._series import check_series


def known_length_window(scores: Tensor, length: int | Tensor) -> Tensor:
    """Find each clip's run of ``length`` consecutive frames with the largest sum of scores.

    On ties the earliest window wins. Sums are differences of one cumulative sum in float64, so windows that
    tie exactly do so here too as long as that sum is exact: for scores of +1/-1, and for float32 or half
    precision scores of similar magnitude.

    Args:
        scores (Tensor): One score per frame, as from :func:`~captum_ext.grounding.frame_scores`.
        length (int or Tensor): Length of the window in frames, 1 to T: one for all clips, or one per clip.

    Shape:
        - scores: (N, T)
        - length: a number, or (N,)
        - returns: (N, 2)

    Returns:
        Tensor: Half-open windows ``[start, end)`` in frames, int64.

    Raises:
        TypeError: If the scores are not floating point or the length is not whole.
        ValueError: If shapes are wrong, a length is outside 1..T, or scores are missing or not finite.

    Example:
        >>> scores = torch.tensor([[0.0, 3.0, -1.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
        >>> known_length_window(scores, 2)
        tensor([[3, 5],
                [0, 2]])
        >>> known_length_window(scores, torch.tensor([1, 5]))
        tensor([[1, 2],
                [0, 5]])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 5.2 ("the highest consecutive sum").
    """
    check_series(scores)
    return _known_length_window(scores, _length_per_clip(length, scores))


def _length_per_clip(length: int | Tensor, scores: Tensor) -> Tensor:
    n_clips, n_frames = scores.shape
    lengths = torch.as_tensor(length, device=scores.device)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"length must be a whole number of frames, got {lengths.dtype}.")
    if lengths.dim() > 1 or (lengths.dim() == 1 and lengths.shape[0] != n_clips):
        raise ValueError(
            f"length must be one number or one per clip (N = {n_clips}), got shape {tuple(lengths.shape)}."
        )
    outside = (lengths < 1) | (lengths > n_frames)
    if bool(outside.any()):
        raise ValueError(
            f"length must lie in 1..{n_frames} (T, the clip's frames), got {int(lengths[outside][0])}."
        )
    return lengths.long().expand(n_clips)


def _known_length_window(scores: Tensor, length: Tensor) -> Tensor:
    n_frames = scores.shape[1]
    before = torch.nn.functional.pad(scores.double().cumsum(dim=1), (1, 0))  # before[:, t]: sum of scores[:t]
    start = torch.arange(n_frames, device=scores.device)
    end = start + length[:, None]
    total = before.gather(1, end.clamp(max=n_frames)) - before[:, :-1]
    total = total.masked_fill(end > n_frames, -torch.inf)
    best = total.argmax(dim=1)
    return torch.stack([best, best + length], dim=1)
