"""Deletion and insertion: how the score falls or rises as a map's most relevant parts go or come."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ext._maps import check_maps
from captum_ext.metrics.functional.clips import check_clips
from captum_ext.metrics.functional.hidden_clips import (
    Baseline,
    check_baseline,
    frozen_clips,
    hidden_clips,
)
from captum_ext.metrics.functional.model_scores import (
    ForwardFunction,
    Score,
    check_score,
    evaluation,
    target_scores,
)
from captum_ext.metrics.functional.targets import Target, target_classes

Unit = Literal["voxel", "frame"]
Order = Literal["most_relevant_first", "least_relevant_first"]

_VOXEL_STEPS = 50


def deletion_curve(
    forward_func: ForwardFunction,
    clips: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    unit: Unit = "voxel",
    baseline: Baseline = "blur",
    steps: int | None = None,
    order: Order = "most_relevant_first",
    score: Score = "probability",
    steps_per_eval: int = 1,
) -> Tensor:
    r"""Score of the target as more and more of each clip is deleted in the order of its map.

    .. math:: c_s = f(x \text{ without its } \mathrm{round}(s\,n / S) \text{ first units}),
              \quad s = 0, \dots, S

    A unit is a voxel, a pixel (t, y, x) with all its channels, or a frame. Voxels are ranked by the map,
    resized to the clip trilinearly, so that methods with maps of any resolution are ranked alike. Frames are
    ranked by :math:`S_t`, the sum of the map over the frame, resized to T linearly. Units of equal value go
    in the order t, y, x, under both orders. The ends are exact: at s = 0 the clip itself, at s = S the
    baseline alone.

    Baselines, what is seen where something is deleted:

    =================  ===============================================================================
    ``"zero"``         0 in the model's own, normalised input
    ``"blur"``         the frame blurred by a Gaussian, sigma a tenth of its shorter side
    ``"mean_frame"``   the mean over the clip's frames
    ``"freeze"``       frames only: a copy of the nearest frame left, the earlier of two; where none is
                       left, the frame T // 2 throughout
    a tensor           any that expands to the clips, such as (C, 1, 1, 1) for a colour
    =================  ===============================================================================

    Args:
        forward_func (Callable): Takes clips, returns scores (N, K), or (N,). A module must be in evaluation
            mode. It is called (steps + 1) / steps_per_eval times, without gradients.
        clips (Tensor): The model's input, layout NCTHW.
        maps (Tensor): Saliency per frame with channels summed, at most as large as the clip along each axis.
        target (int, sequence of int or Tensor, optional): The class whose score counts, one for all or one
            per clip. Left out if ``forward_func`` returns (N,).
        unit (str): ``"voxel"`` or ``"frame"``.
        baseline (str or Tensor): See above.
        steps (int, optional): S, at most the number of units n. Default: n = T for frames, 50 for voxels.
        order (str): ``"most_relevant_first"`` (MoRF) or ``"least_relevant_first"`` (LeRF).
        score (str): ``"probability"``, the softmax over K, or ``"logit"``, the output as it comes.
        steps_per_eval (int): Steps in one call of ``forward_func``; it then sees N times as many clips.

    Shape:
        - clips: (N, C, T, H, W)
        - maps: (N, t, h, w), t <= T, h <= H, w <= W
        - returns: (N, S + 1)

    Returns:
        Tensor: The scores, float64.

    Raises:
        TypeError: If clips, maps or scores are not floating point, or the target is not an integer.
        ValueError: If shapes do not match, something is empty or not finite, an option is unknown, a module
            is in training mode or the model draws random numbers.

    Example:
        >>> clips = torch.tensor([4.0, 2.0, 1.0]).view(1, 1, 3, 1, 1)
        >>> def total(clips):
        ...     return clips.sum((1, 2, 3, 4))
        >>> deletion_curve(total, clips, clips[:, 0], unit="frame", baseline="zero", score="logit")
        tensor([[7., 3., 1., 0.]], dtype=torch.float64)

    References:
        Samek et al., Evaluating the visualization of what a deep neural network has learned, TNNLS 28, 2017;
        Petsiuk et al., RISE, BMVC 2018, section 4.1; for frames, Mänttäri et al., Interpreting video
        features, ACCV 2020 (freeze).
    """
    return _curve(
        forward_func, clips, maps, target, unit, baseline, steps, order, score, steps_per_eval, insert=False
    )


def insertion_curve(
    forward_func: ForwardFunction,
    clips: Tensor,
    maps: Tensor,
    target: Target = None,
    *,
    unit: Unit = "voxel",
    baseline: Baseline = "blur",
    steps: int | None = None,
    order: Order = "most_relevant_first",
    score: Score = "probability",
    steps_per_eval: int = 1,
) -> Tensor:
    r"""Score of the target as more and more of each clip is shown, in the order of its map.

    .. math:: c_s = f(\text{baseline with the } \mathrm{round}(s\,n / S) \text{ first units of } x),
              \quad s = 0, \dots, S

    The mirror of :func:`deletion_curve`, where units, baselines and arguments are described: at s = 0 the
    baseline alone, at s = S the clip itself.

    Args:
        forward_func (Callable): Takes clips, returns scores (N, K), or (N,).
        clips (Tensor): The model's input, layout NCTHW.
        maps (Tensor): Saliency per frame with channels summed, at most as large as the clip along each axis.
        target (int, sequence of int or Tensor, optional): The class whose score counts.
        unit (str): ``"voxel"`` or ``"frame"``.
        baseline (str or Tensor): What is seen before anything is inserted.
        steps (int, optional): S. Default: T for frames, 50 for voxels.
        order (str): ``"most_relevant_first"`` or ``"least_relevant_first"``.
        score (str): ``"probability"`` or ``"logit"``.
        steps_per_eval (int): Steps in one call of ``forward_func``.

    Shape:
        - clips: (N, C, T, H, W)
        - maps: (N, t, h, w), t <= T, h <= H, w <= W
        - returns: (N, S + 1)

    Returns:
        Tensor: The scores, float64.

    Raises:
        TypeError: As :func:`deletion_curve`.
        ValueError: As :func:`deletion_curve`.

    Example:
        >>> clips = torch.tensor([4.0, 2.0, 1.0]).view(1, 1, 3, 1, 1)
        >>> def total(clips):
        ...     return clips.sum((1, 2, 3, 4))
        >>> insertion_curve(total, clips, clips[:, 0], unit="frame", baseline="zero", score="logit")
        tensor([[0., 4., 6., 7.]], dtype=torch.float64)

    References:
        Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018.
    """
    return _curve(
        forward_func, clips, maps, target, unit, baseline, steps, order, score, steps_per_eval, insert=True
    )


def check_curve_options(unit: str, baseline: Baseline, steps: int | None, score: str, per_eval: int) -> None:
    """Refuse options that no clip could make valid."""
    if unit not in ("voxel", "frame"):
        raise ValueError(f"unit must be 'voxel' or 'frame', got {unit!r}.")
    check_baseline(baseline, unit)
    check_score(score)
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    if per_eval < 1:
        raise ValueError(f"steps_per_eval must be at least 1, got {per_eval}.")


def _curve(
    forward_func: ForwardFunction,
    clips: Tensor,
    maps: Tensor,
    target: Target,
    unit: Unit,
    baseline: Baseline,
    steps: int | None,
    order: Order,
    score: Score,
    steps_per_eval: int,
    *,
    insert: bool,
) -> Tensor:
    check_curve_options(unit, baseline, steps, score, steps_per_eval)
    if order not in ("most_relevant_first", "least_relevant_first"):
        raise ValueError(f"order must be 'most_relevant_first' or 'least_relevant_first', got {order!r}.")
    check_clips(clips)
    _check_maps_of(clips, maps)
    classes = target_classes(target, len(clips), clips.device)
    ranks = _ranks(maps.detach().to(clips.device), clips.shape, unit, order)
    counts = _counts(ranks.shape[1], steps, unit)
    frozen = isinstance(baseline, str) and baseline == "freeze"
    hidden = clips if frozen else hidden_clips(clips, baseline)
    curve = []
    with evaluation(forward_func):
        for first in range(0, len(counts), steps_per_eval):
            limits = torch.tensor(counts[first : first + steps_per_eval], device=clips.device)[:, None, None]
            shown = ranks < limits if insert else ranks >= limits  # (S, N, units)
            perturbed = frozen_clips(clips, shown) if frozen else _replace(clips, hidden, shown, unit)
            batch = perturbed.flatten(0, 1)
            repeated = None if classes is None else classes.repeat(len(limits))
            scores = target_scores(forward_func(batch), repeated, score, len(batch))
            curve.append(scores.view(len(limits), len(clips)))
    return torch.cat(curve).T.contiguous()


def _check_maps_of(clips: Tensor, maps: Tensor) -> None:
    n_clips, _, n_frames, height, width = clips.shape
    check_maps(maps, (height, width))
    if len(maps) != n_clips or maps.shape[1] > n_frames:
        raise ValueError(
            f"maps (N, t, h, w) must be one per clip with t <= T: clips have N = {n_clips}, T = {n_frames}, "
            f"got {tuple(maps.shape)}."
        )


def _ranks(maps: Tensor, shape: torch.Size, unit: Unit, order: Order) -> Tensor:
    """Place of each unit in the order of deletion, (N, units), from 0."""
    size = shape[2:]
    if unit == "frame":
        relevance = maps.double().sum(dim=(2, 3))
        if relevance.shape[1] != size[0]:
            relevance = _resized(relevance[:, None], size[:1], "linear")
    else:
        relevance = maps if maps.shape[1:] == size else _resized(maps[:, None], size, "trilinear")
    descending = order == "most_relevant_first"
    places = relevance.flatten(1).argsort(dim=1, descending=descending, stable=True)
    return places.argsort(dim=1)


def _resized(maps: Tensor, size: torch.Size, mode: str) -> Tensor:
    """Interpolated, with values that are equal but for rounding made equal, so that they count as ties."""
    maps = maps.double()
    scale = maps.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
    scaled = maps / scale.view(-1, *[1] * (maps.dim() - 1))
    return F.interpolate(scaled, size=tuple(size), mode=mode, align_corners=False).float()


def _counts(n_units: int, steps: int | None, unit: Unit) -> list[int]:
    """Units that are taken at each step, from none to all."""
    if steps is None:
        steps = n_units if unit == "frame" else min(_VOXEL_STEPS, n_units)
    if steps > n_units:
        raise ValueError(f"steps must be at most the number of {unit}s, {n_units}, got {steps}.")
    return [(2 * step * n_units + steps) // (2 * steps) for step in range(steps + 1)]


def _replace(clips: Tensor, hidden: Tensor, shown: Tensor, unit: Unit) -> Tensor:
    """(S, N, C, T, H, W)."""
    _, _, n_frames, height, width = clips.shape
    size = (n_frames, height, width) if unit == "voxel" else (n_frames, 1, 1)
    return torch.where(shown.view(*shown.shape[:2], 1, *size), clips, hidden)
