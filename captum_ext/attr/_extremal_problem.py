"""One call of extremal perturbation: inputs that can be perturbed, and a score for what is left of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from captum_ext._compat import BaselineType, TargetType, expand_target, run_forward
from captum_ext.attr._arguments import repeated
from captum_ext.attr._forward import check_scores
from captum_ext.attr._plain import RecurrenceWithoutCudnn
from captum_ext.attr._scores import Scores, check_declared, log_probability
from captum_ext.attr._warning import warn
from captum_ext.excitation.numerics import full_precision
from captum_ext.perturbation import (
    MaskSpace,
    NonFiniteScoreError,
    OptimizedMasks,
    Perturbation,
    Smoothness,
    StepSettings,
    Variant,
    blur_pyramid,
    mean_frame,
    optimize_masks,
    possible_areas,
)

__all__ = ["ExtremalMasks", "Hidden", "MinimumArea", "Problem", "Request"]

Hidden = Literal["blur", "fade", "mean"]


@dataclass(frozen=True, eq=False)
class ExtremalMasks:
    """The masks behind a map of extremal perturbation.

    Args:
        areas (tuple[float, ...]): share of the clip that each mask was asked to keep.
        masks (Tensor): in 0..1.
        volumes (Tensor): share that each mask does keep, its mean.
        probabilities (Tensor): of the target with what each mask keeps; with ``variant="delete"`` with what
            is left without it.
        original_probabilities (Tensor): of the target for the whole clip.
        losses (Tensor): the energy at each iteration; NaN after an early stop.
        rewards (Tensor): what was maximised, log p with default settings, at each iteration.
        seeds (Tensor): what the masks were made of; ``initial_seeds`` of another call go on from them.

    Shape:
        masks (N, A, T, H, W) for A areas, (N, A, H, W) of images; volumes, probabilities (N, A);
        original_probabilities (N,); losses, rewards (N, A, iterations); seeds (N, A, T, h, w) with T = 1 for
        images.
    """

    areas: tuple[float, ...]
    masks: Tensor = field(repr=False)
    volumes: Tensor
    probabilities: Tensor
    original_probabilities: Tensor
    losses: Tensor = field(repr=False)
    rewards: Tensor = field(repr=False)
    seeds: Tensor = field(repr=False)


@dataclass(frozen=True, eq=False)
class MinimumArea:
    """The smallest share of each example that keeps its probability.

    Args:
        areas (Tensor): the smallest areas found; 1 where none below was enough, whether the whole clip is or
            not.
        probabilities (Tensor): of the target with what the masks of these areas keep.
        original_probabilities (Tensor): of the target for the whole clip.
        masks (Tensor): these masks, in 0..1.
        volumes (Tensor): share that each mask does keep, its mean.

    Shape:
        masks (N, T, H, W), or (N, H, W) of images; all others (N,).
    """

    areas: Tensor
    probabilities: Tensor
    original_probabilities: Tensor
    masks: Tensor = field(repr=False)
    volumes: Tensor


@dataclass(frozen=True)
class Request:
    """The arguments of a call that both classes and both of their methods take."""

    inputs: tuple[Tensor, ...]
    baselines: BaselineType
    target: TargetType
    additional_forward_args: object
    variant: Variant
    perturbation: Hidden
    scores: Scores
    settings: StepSettings
    smoothness: Smoothness | None
    dt: int
    perturbations_per_eval: int
    show_progress: bool
    generator: torch.Generator | None


# By which share of itself a mask may miss its area before it is said.
_MISSED = 0.5


class Problem:
    """One call: inputs that can be perturbed, and a score for what is left of them."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        request: Request,
        x: Tensor,
        axes: str,
        extra: tuple[object, ...] | None,
    ) -> None:
        self.request = request
        self.forward_func = forward_func
        self.extra = extra
        self.x = x
        self.is_image = x.dim() == 4
        clip = x.unsqueeze(2) if self.is_image else x
        axes = "NCTHW" if self.is_image else axes
        n_frames, height, width = (clip.shape[axes.index(axis)] for axis in "THW")
        self.size = (n_frames, height, width)
        self.short_side = min(height, width)
        self.exact = torch.promote_types(x.dtype, torch.float32)
        self._autocast = _ambient_autocast(x.device)
        self._reached = False
        with full_precision(x.device), torch.no_grad():
            levels = _levels(clip.to(self.exact), axes.index("T"), request, self.short_side)
            self.perturbation = Perturbation(levels, axes.index("C"))
            output = self._call(x.clone(), 1)
            check_declared(output, request.target, request.scores, len(x))
            self.original = log_probability(output, request.target, request.scores, len(x), True).exp()
            self.target = _on_device(request.target, x.device)

    def solve(self, areas: Sequence[float], initial_seeds: Tensor | None) -> ExtremalMasks:
        """Optimise the masks of all areas, some at a time."""
        request, n = self.request, len(self.x)
        some = request.perturbations_per_eval
        if initial_seeds is not None and not isinstance(initial_seeds, Tensor):
            raise TypeError(f"initial_seeds must be a tensor, got {type(initial_seeds).__name__}")
        if initial_seeds is not None and initial_seeds.shape[1:2] != (len(areas),):
            raise ValueError(
                f"initial_seeds must have one entry on axis 1 for each of the {len(areas)} areas, got the "
                f"shape {tuple(initial_seeds.shape)}"
            )
        groups = [areas[start : start + some] for start in range(0, len(areas), some)]
        found = []
        total = len(groups) * request.settings.n_iter
        with tqdm(total=total, unit="it", disable=not request.show_progress) as progress:
            for group, start in zip(groups, range(0, len(areas), some), strict=True):
                progress.set_description("area " + ", ".join(f"{area:g}" for area in group))
                seeds = None if initial_seeds is None else initial_seeds[:, start : start + some]
                found.append(self.optimize([[area] * n for area in group], seeds, progress))
        joined = self._joined(areas, found)
        _warn_of_failures(joined)
        return joined

    def smallest(self, threshold: float, relative: bool, tolerance: float) -> MinimumArea:
        """Bisection of the area of each example, each step from the best seeds so far."""
        request, n = self.request, len(self.x)
        thresholds = threshold * self.original if relative else torch.full_like(self.original, threshold)
        low, high = (torch.full((n,), end, device="cpu", dtype=torch.float64) for end in (0, 1))
        lowest, highest = possible_areas(self.size, request.settings, request.smoothness)
        probabilities, seeds = self.original.clone(), None
        masks = self.x.new_ones(n, *self.size, dtype=self.exact)
        n_steps = math.ceil(-math.log2(tolerance))
        with tqdm(
            total=n_steps * request.settings.n_iter, unit="it", disable=not request.show_progress
        ) as progress:
            for step in range(n_steps):
                progress.set_description(f"bisection {step + 1}/{n_steps}")
                middle = ((low + high) / 2).clamp(lowest, highest)
                found = self.optimize([middle.tolist()], seeds, progress)
                volumes = found.masks[0].mean((1, 2, 3)).cpu()
                # A mask that shows more than its area proves nothing about the area.
                kept = found.probabilities[0] >= thresholds
                kept &= (volumes <= (1 + _MISSED) * middle).to(kept.device)
                rows = kept.view(-1, 1, 1, 1)
                masks = torch.where(rows, found.masks[0], masks)
                probabilities = torch.where(kept, found.probabilities[0], probabilities)
                best = found.seeds[0] if seeds is None else torch.where(rows, found.seeds[0], seeds[:, 0])
                seeds = best.unsqueeze(1)
                high = torch.where(kept.cpu(), middle, high)
                low = torch.where(kept.cpu(), low, middle)
                _warn_if_flat(found.rewards.transpose(0, 1))
        return MinimumArea(
            areas=high.to(self.original),
            probabilities=probabilities,
            original_probabilities=self.original,
            masks=masks.squeeze(1) if self.is_image else masks,
            volumes=masks.mean((1, 2, 3)),
        )

    def optimize(
        self, areas: Sequence[Sequence[float]], initial_seeds: Tensor | None, progress: tqdm[Any]
    ) -> OptimizedMasks:
        """Optimise masks whose areas (A x N) may differ by example."""
        request, like = self.request, self.x.new_empty(0, dtype=self.exact)
        with full_precision(self.x.device):
            space = MaskSpace(self.size, areas, request.settings, request.smoothness, request.dt, like)
            shape = (len(self.x), len(areas), *space.seeds_shape)
            seeds = self._first_seeds(shape, initial_seeds).transpose(0, 1)
            done = 0

            def on_iteration(probabilities: Tensor) -> None:
                nonlocal done
                done += 1
                if not self._reached:
                    raise _not_followed()
                progress.update()
                # To show the probability is to wait for the device.
                if request.show_progress and (done % 10 == 0 or done == request.settings.n_iter):
                    progress.set_postfix_str(f"kept probability {float(probabilities.mean()):.3f}")

            try:
                result = optimize_masks(
                    self._log_probability, self.perturbation, space, seeds, request.variant, on_iteration
                )
            except NonFiniteScoreError as error:
                raise ValueError(
                    f"the score of example {error.example}, or its gradient, became NaN or infinite at "
                    f"iteration {error.iteration} with the area {areas[error.area][error.example]:g}; check "
                    "the model for overflow or divisions by zero on blurred inputs"
                ) from None
        progress.update(request.settings.n_iter - done)
        return result

    def _first_seeds(self, shape: tuple[int, ...], initial_seeds: Tensor | None) -> Tensor:
        request = self.request
        if initial_seeds is not None:
            if tuple(initial_seeds.shape) != shape:
                raise ValueError(
                    "initial_seeds must have the axes N, A, T, h, w, with "
                    f"{(shape[0], *shape[2:])} for all but A, got {tuple(initial_seeds.shape)}"
                )
            if not bool(((initial_seeds >= 0) & (initial_seeds <= 1)).all()):
                raise ValueError("initial_seeds must lie in 0..1")
            return initial_seeds.detach().to(self.x.device, self.exact)
        seeds = torch.full(shape, request.settings.initial_seed, dtype=self.exact, device=self.x.device)
        if request.generator is not None:
            # Area by area, so that perturbations_per_eval does not change who gets which numbers.
            for area in seeds.unbind(1):
                drawn = torch.rand(area.shape, generator=request.generator, device=request.generator.device)
                area *= 1 - 0.05 * drawn.to(area)
        return seeds

    def _log_probability(self, perturbed: Tensor, kept: bool) -> Tensor:
        """Of perturbed inputs (A, N, ...), (A, N)."""
        n_areas, n = perturbed.shape[:2]
        if torch.is_grad_enabled() and not self._reached:
            # A model that detaches its inputs still has a gradient, that of its weights.
            perturbed.register_hook(self._note_gradient)  # type: ignore[no-untyped-call]
        rows = perturbed.flatten(0, 1).to(self.x.dtype)
        output = self._call(rows.squeeze(2) if self.is_image else rows, n_areas)
        target = expand_target(self.target, n_areas)
        log_p = log_probability(output, target, self.request.scores, n_areas * n, kept)
        if torch.is_grad_enabled() and not log_p.requires_grad:
            raise _not_followed()
        return log_p.view(n_areas, n)

    def _note_gradient(self, _gradient: Tensor) -> None:
        self._reached = True

    def _call(self, rows: Tensor, times: int) -> Tensor:
        def forward(*args: object) -> Tensor:
            return check_scores(self.forward_func(*args))

        cudnn = RecurrenceWithoutCudnn() if rows.device.type == "cuda" else nullcontext()
        with self._autocast(), cudnn:
            output: Tensor = run_forward(forward, rows, None, repeated(self.extra, times))
        return output

    def _joined(self, areas: Sequence[float], found: Sequence[OptimizedMasks]) -> ExtremalMasks:
        """All areas in one, examples first."""
        longest = max(part.losses.shape[-1] for part in found)

        def joined(name: str) -> Tensor:
            parts = [getattr(part, name) for part in found]
            if name in ("losses", "rewards"):
                parts = [F.pad(part, (0, longest - part.shape[-1]), value=torch.nan) for part in parts]
            return torch.cat(parts).transpose(0, 1).contiguous()

        masks = joined("masks")
        return ExtremalMasks(
            areas=tuple(areas),
            masks=masks.squeeze(2) if self.is_image else masks,
            volumes=masks.mean((2, 3, 4)),
            probabilities=joined("probabilities"),
            original_probabilities=self.original,
            losses=joined("losses"),
            rewards=joined("rewards"),
            seeds=joined("seeds"),
        )


def _on_device(target: TargetType, device: torch.device) -> TargetType:
    """A checked target in a form that Captum selects by without waiting for the device."""
    if isinstance(target, Tensor):
        return int(target.item()) if target.numel() == 1 else target.to(device)
    if isinstance(target, list) and len(target) == 1:
        return target[0]
    if isinstance(target, list) and isinstance(target[0], int):
        return torch.tensor(target, device=device)
    return target


def _not_followed() -> ValueError:
    return ValueError(
        "the model's output does not depend on its inputs in a way torch can follow (a part of it runs under "
        "no_grad, through NumPy, detaches its result, or is constant), so masks cannot be optimised; Rise "
        "needs no gradients"
    )


def _levels(clip: Tensor, time_axis: int, request: Request, short_side: int) -> list[Tensor]:
    """From the hidden clip to the clip itself."""
    if request.baselines is not None:
        given = request.baselines if isinstance(request.baselines, tuple) else (request.baselines,)
        if len(given) != 1 or not isinstance(given[0], Real | Tensor):
            raise TypeError(f"baselines must be a number or a tensor, got {request.baselines!r}")
        (baseline,) = given
        if isinstance(baseline, Tensor):
            baseline = baseline.detach()
            if baseline.dim() == 4 and request.inputs[0].dim() == 4:
                baseline = baseline.unsqueeze(2)
        hidden = torch.as_tensor(baseline, dtype=clip.dtype, device=clip.device)
        try:
            return [hidden.expand_as(clip), clip]
        except RuntimeError:
            raise ValueError(
                f"baselines of shape {tuple(hidden.shape)} do not fit inputs of shape "
                f"{tuple(request.inputs[0].shape)}; give a number or a tensor of that shape"
            ) from None
    if request.perturbation == "fade":
        return [torch.zeros_like(clip), clip]
    if request.perturbation == "mean":
        return [mean_frame(clip, time_axis), clip]
    settings = request.settings
    max_blur = settings.max_blur or short_side * 20 / 112
    return blur_pyramid(clip, settings.n_levels, max_blur, settings.blur_renormalized)


def _ambient_autocast(device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """The caller's autocast, for the model's calls: our own arithmetic keeps its precision."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext
    dtype = torch.get_autocast_dtype(device.type)
    return lambda: torch.autocast(device.type, dtype=dtype)


def _warn_of_failures(masks: ExtremalMasks) -> None:
    """Say what the numbers in the result say, since few will look there."""
    _warn_if_flat(masks.rewards)
    asked = torch.tensor(masks.areas, dtype=masks.volumes.dtype, device=masks.volumes.device)
    missed = (masks.volumes - asked).abs() > _MISSED * asked
    if bool(missed.any()):
        n, a = missed.nonzero()[0].tolist()
        warn(
            f"the mask of example {n} keeps {float(masks.volumes[n, a]):.3g} of the clip instead of "
            f"{masks.areas[a]:g} ({int(missed.sum())} of {missed.numel()} masks miss their area); take more "
            "iterations (n_iter), a greater area_weight, or an area that smooth masks can have"
        )


def _warn_if_flat(rewards: Tensor) -> None:
    """Warn if no mask made a difference to a score; rewards (N, A, iterations)."""
    flat = (rewards == rewards[..., :1]).logical_or(rewards.isnan()).all(2)
    if rewards.shape[2] > 1 and bool(flat.any()):
        n = int(flat.nonzero()[0, 0])
        warn(
            f"the score of example {n} stayed the same whatever the mask showed ({int(flat.sum())} of "
            f"{flat.numel()} masks), so such a mask shows the losses of area and shape and no evidence; is "
            "the model's score constant or saturated, or the input without features?"
        )
