"""Answers that look at no saliency map: what every grounding result is compared with."""

import torch
from torch import Tensor

from captum_ext._series import check_series


def center_window(n_frames: int, length: int | Tensor) -> Tensor:
    """Place a window of known length in the middle of the clip.

    If it cannot be exactly in the middle, it lies half a frame early: ``start = (n_frames - length) // 2``.

    Args:
        n_frames (int): Frames in the clip, T.
        length (int or Tensor): Length of the window in frames, 1 to T.

    Shape:
        - length: a number, or (...)
        - returns: (2,), or (..., 2): one window per length, on its device

    Returns:
        Tensor: Half-open windows ``[start, end)`` in frames, int64.

    Raises:
        TypeError: If a length is not whole.
        ValueError: If a length is outside 1..T.

    Example:
        >>> center_window(128, 41)
        tensor([43, 84])
        >>> center_window(7, torch.tensor([3, 7]))
        tensor([[2, 5],
                [0, 7]])
    """
    lengths = torch.as_tensor(length)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"length must be a whole number of frames, got {lengths.dtype}.")
    outside = (lengths < 1) | (lengths > n_frames)
    if bool(outside.any()):
        raise ValueError(
            f"length must lie in 1..{n_frames} (n_frames), got {int(lengths[outside].flatten()[0])}."
        )
    start = (n_frames - lengths.long()) // 2
    return torch.stack([start, start + lengths.long()], dim=-1)


def whole_clip_window(n_frames: int) -> Tensor:
    """Answer with the whole clip, ``[0, n_frames)``.

    It scores 100 % at an IoU threshold of 0.5 wherever the action fills half the clip or more.

    Args:
        n_frames (int): Frames in the clip, T, at least 1.

    Shape:
        - returns: (2,)

    Returns:
        Tensor: The half-open window ``[0, n_frames)``, int64; ``.expand(N, 2)`` gives one per clip.

    Raises:
        ValueError: If there are no frames.

    Example:
        >>> whole_clip_window(128)
        tensor([  0, 128])
    """
    if n_frames < 1:
        raise ValueError(f"n_frames must be at least 1, got {n_frames}.")
    return torch.tensor([0, n_frames])


def threshold_scores(probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """Turn the class's probability at each frame into a score: +1 at or above the threshold, -1 below it.

    The paper's baseline for windows of known and unknown length. Such scores tie massively, so the baseline
    depends on how ties are settled: here and in the window functions, the earliest wins.

    Args:
        probabilities (Tensor): Probability of the class at each frame, 0 to 1.
        threshold (float): The threshold, 0 to 1.

    Shape:
        - probabilities: (N, T)
        - returns: (N, T)

    Returns:
        Tensor: +1 or -1 per frame, in the dtype of the probabilities.

    Raises:
        TypeError: If the probabilities are not a floating-point tensor.
        ValueError: If they are not of shape (N, T), are empty, not finite, or they or the threshold lie
            outside 0..1.

    Example:
        >>> threshold_scores(torch.tensor([[0.2, 0.5, 0.9]]))
        tensor([[-1.,  1.,  1.]])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 5.2 (baselines).
    """
    check_series(probabilities, "probabilities")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in 0..1, got {threshold}.")
    outside = (probabilities < 0) | (probabilities > 1)
    if bool(outside.any()):
        raise ValueError(
            f"probabilities must lie in 0..1, got {probabilities[outside][0].item()}; "
            "pass the softmax of the logits, not the logits."
        )
    return torch.where(probabilities >= threshold, 1.0, -1.0).to(probabilities.dtype)
