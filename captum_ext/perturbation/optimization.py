"""The loop: seeds move until their masks keep the score with the area they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from captum_ext.perturbation.mask_space import MaskSpace
from captum_ext.perturbation.operators import Perturbation

__all__ = ["LogProbability", "NonFiniteScoreError", "OptimizedMasks", "Variant", "optimize_masks"]

Variant = Literal["preserve", "delete", "dual"]

LogProbability = Callable[[Tensor, bool], Tensor]
"""From perturbed inputs (A, N, ...) to log p of the target, or log (1 - p) where the second argument is
False, both (A, N) in float32 at least."""


class NonFiniteScoreError(ValueError):
    """A score or its gradient became NaN or infinite.

    Args:
        area (int): the area's number.
        example (int): the example's number.
        iteration (int): when.
    """

    def __init__(self, area: int, example: int, iteration: int) -> None:
        super().__init__(area, example, iteration)
        self.area, self.example, self.iteration = area, example, iteration


@dataclass(frozen=True, eq=False)
class OptimizedMasks:
    """What :func:`optimize_masks` found.

    Args:
        seeds (Tensor): the seeds, (A, N, T, h, w).
        masks (Tensor): their masks, (A, N, T, H, W).
        probabilities (Tensor): of the target with what the mask keeps (with what is left without it, where
            masks are deleted), (A, N).
        losses (Tensor): the energy at each iteration, (A, N, iterations); NaN where a mask had stopped.
        rewards (Tensor): what was maximised, at each iteration, (A, N, iterations).
    """

    seeds: Tensor
    masks: Tensor
    probabilities: Tensor
    losses: Tensor
    rewards: Tensor


def optimize_masks(
    log_probability: LogProbability,
    perturbation: Perturbation,
    space: MaskSpace,
    seeds: Tensor,
    variant: Variant,
    on_iteration: Callable[[Tensor], None],
) -> OptimizedMasks:
    r"""Optimise the mask of each area and example by itself.

    .. math:: -\rho \log p(m \otimes x) + \lambda_i L_v(m) + \kappa L_K(m)

    is minimised over the seeds of the mask m. Nothing in the loop waits for the device, unless an early stop
    is asked for.

    Args:
        log_probability (Callable): of the target, for perturbed inputs.
        perturbation (Perturbation): applies masks to the inputs.
        space (MaskSpace): makes masks of seeds, and weighs them.
        seeds (Tensor): where to start, in 0..1.
        variant (str): keep p high with what the mask shows (``"preserve"``), low with what is left without it
            (``"delete"``), or both (``"dual"``).
        on_iteration (Callable): is given the probabilities, (A, N), after each iteration.

    Shape:
        seeds (A, N, T, h, w).

    Raises:
        NonFiniteScoreError: a score or gradient that is NaN or infinite; at once on a CPU, elsewhere at the
            end, since to look costs a wait.

    References:
        Li et al., WACV 2021, eqs. 4, 6, 7.
    """
    settings = space.settings
    seeds = seeds.detach().clone().requires_grad_()
    optimizer = settings.optimizer_of(seeds)
    n_areas, n_examples = seeds.shape[:2]
    losses = seeds.new_full((settings.n_iter, n_areas, n_examples), torch.nan)
    rewards, finite = losses.clone(), torch.ones_like(losses, dtype=torch.bool)
    moving = torch.ones_like(finite[0])
    visible = seeds.new_empty(0)
    for i in range(settings.n_iter):
        masks = space.masks(seeds)
        visible = space.visible(masks)
        reward, shown = _reward(log_probability, perturbation, visible, variant, settings.reward)
        energy = space.losses(masks, i) - settings.reward_weight * reward
        (gradient,) = torch.autograd.grad(energy.sum(), seeds)
        with torch.no_grad():
            losses[i] = torch.where(moving, energy, torch.nan)
            rewards[i] = torch.where(moving, reward, torch.nan)
            finite[i] = gradient.flatten(2).isfinite().all(2) & energy.isfinite()
            if seeds.device.type == "cpu":
                _check(finite[: i + 1])
            before = seeds.detach().clone()
            seeds.grad = gradient.nan_to_num_(0.0, 0.0, 0.0)
            optimizer.step()
            seeds.copy_(torch.where(moving[..., None, None, None], seeds.clamp(0, 1), before))
            window = settings.window_at(i)
            if window is not None:
                moving = moving & ~_flat(losses[: i + 1], window, settings.plateau_tolerance)
        on_iteration(shown)
        if window is not None and not moving.any():
            break
    with torch.no_grad():
        if not settings.last_forward:
            visible = space.visible(space.masks(seeds))
        _, probabilities = _reward(log_probability, perturbation, visible, variant, settings.reward)
        _check(torch.cat([finite, probabilities.isfinite()[None]]))
    return OptimizedMasks(
        seeds.detach(),
        visible.detach().clamp(0, 1),
        probabilities,
        losses[: i + 1].movedim(0, -1),
        rewards[: i + 1].movedim(0, -1),
    )


def _reward(
    log_probability: LogProbability,
    perturbation: Perturbation,
    masks: Tensor,
    variant: Variant,
    form: Literal["log", "probability"],
) -> tuple[Tensor, Tensor]:
    """What is maximised, and the probability with what the variant leaves, both (A, N)."""
    logs = []
    if variant != "delete":
        logs.append(log_probability(perturbation(masks), True))
    if variant != "preserve":
        logs.append(log_probability(perturbation(1 - masks), False))
    rewards = logs if form == "log" else [log.exp() for log in logs]
    first = logs[0].detach()
    shown = -torch.expm1(first) if variant == "delete" else first.exp()
    return torch.stack(rewards).sum(0), shown


def _flat(losses: Tensor, window: int, tolerance: float) -> Tensor:
    """Whether the mean over the last window differs from the one before by less than a share of it."""
    before, recent = losses[-2 * window :].view(2, window, *losses.shape[1:]).mean(1)
    flat: Tensor = (before - recent).abs() <= tolerance * before.abs()
    return flat


def _check(finite: Tensor) -> None:
    """Raise at the first iteration of which a score or gradient is not finite."""
    if not finite.all():
        iteration, area, example = (~finite).nonzero()[0].tolist()
        raise NonFiniteScoreError(area, example, iteration)
