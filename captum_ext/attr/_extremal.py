"""What the extremal perturbation classes share: the call, its checks, and the map from its masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor, nn

from captum_ext._compat import run_forward
from captum_ext.attr._base import check_map
from captum_ext.attr._extremal_problem import ExtremalMasks, MinimumArea, Problem, Request
from captum_ext.attr._forward import (
    check_running_statistics,
    no_running_statistics,
    private_arguments,
)
from captum_ext.attr._random_numbers import no_random_numbers
from captum_ext.attr._video import Layout, VideoAttribution, check_integers
from captum_ext.attr._warning import warn
from captum_ext.excitation.numerics import full_precision
from captum_ext.perturbation import StepSettings, gaussian_blur

__all__ = ["ExtremalAttribution"]


class ExtremalAttribution(VideoAttribution, PerturbationAttribution):
    """Base of the extremal perturbation classes."""

    def __init__(self, forward_func: Callable[..., Any], layout: Layout = "NCTHW") -> None:
        if not callable(forward_func):
            raise TypeError(f"forward_func must be callable, got {type(forward_func).__name__}")
        PerturbationAttribution.__init__(self, forward_func)
        self.set_layout(layout)

    def _explain(
        self,
        request: Request,
        areas: float | Sequence[float],
        initial_seeds: Tensor | None,
        return_input_shape: bool,
    ) -> tuple[Tensor, ExtremalMasks]:
        """The map and the masks it is made of."""
        areas = _checked_areas(areas)
        with self._problem(request) as problem:
            masks = problem.solve(areas, initial_seeds)
            with full_precision(problem.x.device):
                summed = _map(masks.masks, problem.short_side)
            maps = self.spread(summed, problem.x, return_input_shape)
            return check_map(maps, problem.x.dtype), masks

    def _minimum_area(
        self, request: Request, threshold: float, relative: bool, tolerance: float
    ) -> MinimumArea:
        """The smallest area of each example that keeps its probability."""
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
        if not 0 < tolerance < 1:
            raise ValueError(f"tolerance must lie between 0 and 1, got {tolerance}")
        with self._problem(request) as problem:
            return problem.smallest(threshold, relative, tolerance)

    @contextmanager
    def _problem(self, request: Request) -> Iterator[Problem]:
        """The checked call, with gradients on and nothing of the caller's used up."""
        _check_request(request)
        x = self._checked_input(request.inputs)
        if isinstance(self.forward_func, nn.Module):
            check_running_statistics(self.forward_func)
        with torch.inference_mode(False), torch.enable_grad():
            extra = private_arguments(request.additional_forward_args)

            def again() -> object:
                return run_forward(self.forward_func, x.detach().clone(), None, extra)

            with no_running_statistics():
                # Whether the model draws random numbers is known after its first call.
                with no_random_numbers(x.device, again):
                    problem = Problem(self.forward_func, request, x.detach(), self.layout, extra)
                with no_random_numbers(x.device, again):
                    yield problem

    def _checked_input(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self.check_images_or_clips(inputs)


def _map(masks: Tensor, short_side: int) -> Tensor:
    """The sum over areas, blurred frame by frame, as a share of the clip's maximum."""
    total = gaussian_blur(masks.sum(1), short_side * 10 / 112)
    highest = total.flatten(1).amax(1).clamp(min=torch.finfo(total.dtype).tiny)
    return total / highest.view(-1, *[1] * (total.dim() - 1))


def _checked_areas(areas: float | Sequence[float]) -> tuple[float, ...]:
    if isinstance(areas, bool | str) or not isinstance(areas, Real | Iterable):
        raise TypeError(f"areas must be numbers, got {areas!r}")
    given = (float(areas),) if isinstance(areas, Real) else tuple(areas)
    if not given:
        raise ValueError("areas is empty; give at least one share of the clip, such as 0.1")
    for area in given:
        if isinstance(area, bool) or not isinstance(area, Real):
            raise TypeError(f"areas must be numbers, got {area!r}")
        if not 0 < area < 1:
            raise ValueError(f"areas are shares of the clip between 0 and 1, got {area}")
    return tuple(map(float, given))


def _check_request(request: Request) -> None:
    check_integers(perturbations_per_eval=request.perturbations_per_eval, dt=request.dt)
    if request.perturbations_per_eval < 1:
        raise ValueError(f"perturbations_per_eval must be at least 1, got {request.perturbations_per_eval}")
    if request.dt < 1:
        raise ValueError(f"dt must be at least 1, got {request.dt}")
    if not isinstance(request.settings, StepSettings):
        raise TypeError(f"settings must be StepSettings, got {type(request.settings).__name__}")
    if request.smoothness == "step" and request.settings.smoothness_begins >= request.settings.n_iter:
        warn(
            f"STEP's loss begins at iteration {request.settings.smoothness_begins} of "
            f"{request.settings.n_iter}, so it never counts and this is EP-3D; take more iterations or a "
            "lower smoothness_start"
        )
    choices = {
        "variant": ("preserve", "delete", "dual"),
        "perturbation": ("blur", "fade", "mean"),
        "scores": ("logits", "probabilities"),
        "smoothness": ("step", "evenly", "gaussian", None),
    }
    for name, known in choices.items():
        value = getattr(request, name)
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
