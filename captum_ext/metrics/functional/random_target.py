"""Random target: is the map of one class that of another?"""

from typing import Literal

import torch
from torch import Tensor

from captum_ext.metrics.functional.clips import check_clips
from captum_ext.metrics.functional.explanations import ExplanationFunction, explain
from captum_ext.metrics.functional.map_correlation import Similarity, check_similarity, map_correlation
from captum_ext.metrics.functional.targets import Target, target_classes

Others = Literal["random", "all"]


def random_target(
    explanation_func: ExplanationFunction,
    clips: Tensor,
    target: Target,
    n_classes: int,
    *,
    others: Others = "random",
    similarity: Similarity = "spearman",
    absolute: bool = False,
    seed: int = 0,
) -> Tensor:
    """Similarity of the map of the target to the map of another class; low is better.

    A method that shows the same whatever the class (a detector of edges, of salient objects) has 1.

    With ``others="random"`` each class has one other class, drawn once from the seed and never itself, so
    the figure does not depend on how clips are grouped into batches. ``"all"`` takes the mean over all other
    classes, at n_classes explanations per clip.

    Args:
        explanation_func (Callable): Takes clips and target (N,), returns maps (N, ...).
        clips (Tensor): The model's input.
        target (int, sequence of int or Tensor): The class explained, one for all or one per clip.
        n_classes (int): K, at least 2.
        others (str): ``"random"`` or ``"all"``.
        similarity (str): As for :func:`~captum_ext.metrics.functional.map_correlation`.
        absolute (bool): As there.
        seed (int): Draws the other classes.

    Shape:
        - clips: (N, C, T, H, W)
        - returns: (N,)

    Returns:
        Tensor: Similarities in -1..1, float64. Random maps have 0 in expectation.

    Raises:
        TypeError: If clips or maps are not floating point, or the target is not an integer.
        ValueError: If shapes do not match, something is empty or not finite, or an option is unknown.

    Example:
        >>> clips = torch.rand(2, 1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
        >>> def brightness(clips, target):  # looks at no class
        ...     return clips.sum(1)
        >>> random_target(brightness, clips, target=[0, 2], n_classes=3)
        tensor([1., 1.], dtype=torch.float64)

    References:
        Sixt et al., When Explanations Lie, ICML 2020 (random logit test).
    """
    check_random_target_options(n_classes, others, similarity)
    check_clips(clips)
    classes = target_classes(target, len(clips), clips.device)
    if classes is None:
        raise ValueError("target is missing: give the class explained, one for all or one per clip.")
    if int(classes.max()) >= n_classes:
        raise ValueError(f"target must lie below n_classes = {n_classes}, got {int(classes.max())}.")
    if others == "random":
        shifts = _random_shifts(n_classes, seed).to(clips.device)[classes][None]
    else:
        shifts = torch.arange(1, n_classes, device=clips.device)[:, None]
    maps = explain(explanation_func, clips, classes)
    return torch.stack(
        [
            map_correlation(
                maps, explain(explanation_func, clips, (classes + shift) % n_classes), similarity, absolute
            )
            for shift in shifts
        ]
    ).mean(dim=0)


def check_random_target_options(n_classes: int, others: str, similarity: str) -> None:
    """Refuse options that no clip could make valid."""
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2, got {n_classes}: there is no other class.")
    if others not in ("random", "all"):
        raise ValueError(f"others must be 'random' or 'all', got {others!r}.")
    check_similarity(similarity)


def _random_shifts(n_classes: int, seed: int) -> Tensor:
    """How far the other class of each class is from it, 1 to K - 1."""
    return torch.randint(1, n_classes, (n_classes,), generator=torch.Generator().manual_seed(seed))
