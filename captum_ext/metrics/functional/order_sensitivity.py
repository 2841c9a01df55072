"""Order sensitivity: does a map over time depend on the order of the frames, as the output may?"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from captum_ext.metrics.functional.clips import check_clips
from captum_ext.metrics.functional.explanations import ExplanationFunction, explain
from captum_ext.metrics.functional.map_correlation import Similarity, check_similarity, map_correlation
from captum_ext.metrics.functional.model_scores import (
    ForwardFunction,
    Score,
    check_score,
    evaluation,
    target_scores,
)
from captum_ext.metrics.functional.targets import Target, target_classes

FrameOrder = Literal["shuffle", "reverse"]


@dataclass(frozen=True, eq=False)
class OrderChange:
    """What another order of the frames changes, clip by clip.

    Attributes:
        maps (Tensor): One minus the correlation of the frames' scores before and after, 0..2, float64, (N,).
        output (Tensor): Absolute change of the target's score, float64, (N,).
    """

    maps: Tensor
    output: Tensor


def order_sensitivity(
    forward_func: ForwardFunction,
    explanation_func: ExplanationFunction,
    clips: Tensor,
    target: Target = None,
    *,
    order: FrameOrder = "shuffle",
    similarity: Similarity = "spearman",
    score: Score = "probability",
    seed: int = 0,
) -> OrderChange:
    r"""How much the scores of the frames change when the frames are shown in another order.

    Frame t of the reordered clip is frame :math:`\pi(t)` of the clip. With :math:`S_t` the sum of the map
    over a frame, S that of the clip and S' that of the reordered clip mapped back to the clip's own frames,

    .. math:: 1 - r(S, S'), \qquad S'_{\pi(t)} = \sum_{y,x} M(x_\pi)_{t,y,x}

    with r Spearman's or Pearson's correlation. A method that looks at each frame by itself has 0. One that
    marks the same *positions* whatever they show, or at random, has 1 on average over orders. Beside it
    stands the change of the output, :math:`|f(x_\pi) - f(x)|`: a map that does not change where the output
    does has missed something, and one that changes where the output does not has invented it.

    Args:
        forward_func (Callable): Takes clips, returns scores (N, K) or (N,). A module must be in evaluation
            mode.
        explanation_func (Callable): Takes clips and target (N,), returns maps (N, T, h, w) or scores per
            frame (N, T).
        clips (Tensor): The model's input, layout NCTHW, T at least 2.
        target (int, sequence of int or Tensor, optional): The class explained.
        order (str): ``"shuffle"``, one random permutation for all clips of T frames that leaves not all in
            place, or ``"reverse"``.
        similarity (str): ``"spearman"`` or ``"pearson"``, as for
            :func:`~captum_ext.metrics.functional.map_correlation`.
        score (str): ``"probability"`` or ``"logit"``.
        seed (int): Draws the permutation.

    Shape:
        - clips: (N, C, T, H, W)
        - result: ``maps`` and ``output`` of shape (N,)

    Returns:
        OrderChange: The two changes of each clip.

    Raises:
        TypeError: If clips, maps or scores are not floating point, or the target is not an integer.
        ValueError: If shapes do not match, T is 1, something is empty or not finite, an option is unknown,
            a module is in training mode or the model draws random numbers.

    Example:
        >>> clips = torch.rand(2, 1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
        >>> def mean_of_frames(clips):
        ...     return clips.mean((1, 2, 3, 4))
        >>> def brightness(clips, target):  # of each frame by itself
        ...     return clips.sum(1)
        >>> change = order_sensitivity(mean_of_frames, brightness, clips, score="logit")
        >>> change.maps
        tensor([0., 0.], dtype=torch.float64)
        >>> bool((change.output < 1e-6).all())
        True
    """
    check_order_options(order, similarity, score)
    check_clips(clips)
    n_frames = clips.shape[2]
    if n_frames == 1:
        raise ValueError("clips must have at least two frames (axis 2, T): one frame has no other order.")
    classes = target_classes(target, len(clips), clips.device)
    permutation = _permutation(n_frames, order, seed).to(clips.device)
    reordered = clips[:, :, permutation]
    with evaluation(forward_func):
        before, after = (
            target_scores(forward_func(x.clone()), classes, score, len(x)) for x in (clips, reordered)
        )
    original, moved = (_frame_scores(explain(explanation_func, x, classes), x) for x in (clips, reordered))
    mapped_back = moved[:, permutation.argsort()]
    return OrderChange(
        maps=1 - map_correlation(original, mapped_back, similarity), output=(after - before).abs()
    )


def check_order_options(order: str, similarity: str, score: str) -> None:
    """Refuse unknown options."""
    if order not in ("shuffle", "reverse"):
        raise ValueError(f"order must be 'shuffle' or 'reverse', got {order!r}.")
    check_similarity(similarity)
    check_score(score)


def _permutation(n_frames: int, order: FrameOrder, seed: int) -> Tensor:
    frames = torch.arange(n_frames)
    if order == "reverse":
        return frames.flip(0)
    generator = torch.Generator().manual_seed(seed)
    permutation = torch.randperm(n_frames, generator=generator)
    while torch.equal(permutation, frames):
        permutation = torch.randperm(n_frames, generator=generator)
    return permutation


def _frame_scores(maps: Tensor, clips: Tensor) -> Tensor:
    n_clips, _, n_frames, _, _ = clips.shape
    if maps.dim() not in (2, 4) or maps.shape[:2] != (n_clips, n_frames):
        raise ValueError(
            f"explanation_func must return maps (N, T, h, w) or scores (N, T) with N = {n_clips}, "
            f"T = {n_frames}, got {tuple(maps.shape)}; sum over channels first."
        )
    return maps.double().flatten(2).sum(dim=2) if maps.dim() == 4 else maps.double()
