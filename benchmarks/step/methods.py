"""The methods of the STEP paper's tables, each from a group of clips to maps."""

from __future__ import annotations

import argparse

from torch import Tensor
from torch.nn import functional as F

from benchmarks.action_maps import LAYER
from benchmarks.ebr.methods import Method, recurrent_methods
from benchmarks.step.networks import Network
from benchmarks.suite.batches import Batch
from benchmarks.suite.evaluation import Explained
from captum_ext.attr import Rise, SaliencyTubes, SpatioTemporalExtremalPerturbation, VideoGradCam
from captum_ext.perturbation import Smoothness, StepSettings

__all__ = ["PERTURBATIONS", "every_method", "perturbations", "step_settings"]

PERTURBATIONS: dict[str, tuple[Smoothness | None, int]] = {
    "EP-3D": (None, 1),
    "EP-3D-Evenly": ("evenly", 1),
    "EP-3D (dt = 1)": ("gaussian", 1),
    "EP-3D (dt = 2)": ("gaussian", 2),
    "EP-3D (dt = 3)": ("gaussian", 3),
    "STEP": ("step", 1),
}
"""Name to smoothness and dt."""


def every_method(network: Network, arguments: argparse.Namespace) -> dict[str, Method]:
    """All methods that can explain a network, by name."""
    return {
        **_layer_methods(network),
        "RISE": _rise(network, arguments.masks, arguments.seed),
        **perturbations(network, arguments),
    }


def _layer_methods(network: Network) -> dict[str, Method]:
    """Those that look at the last convolution: Grad-CAM, and SaliencyTubes or EB-R and cEB-R."""
    if network.is_recurrent:
        found = recurrent_methods(network.module)
        return {name: found[name] for name in ("Grad-CAM", "EB-R", "cEB-R")}
    grad_cam, tubes = VideoGradCam(network.module, LAYER), SaliencyTubes(network.module, LAYER)
    return {
        "Grad-CAM": lambda batch: Explained.of(
            _in_frames(
                grad_cam.attribute(batch.clips, target=network.target(batch), relu_attributions=True), batch
            )
        ),
        "SaliencyTubes": lambda batch: Explained.of(
            tubes.attribute(batch.clips, target=network.target(batch), return_input_shape=False).squeeze(1)
        ),
    }


def _rise(network: Network, n_masks: int, seed: int) -> Method:
    """RISE; the masks of a group of clips follow from the seed and the group's number alone."""
    explainer = Rise(network.module)

    def explain(batch: Batch) -> Explained:
        maps = explainer.attribute(
            batch.clips,
            target=network.target(batch),
            n_masks=n_masks,
            grid=(4, 5, 5),
            softmax=True,
            seed=batch.random_seed(seed),
            perturbations_per_eval=4,
            return_input_shape=False,
        )
        return Explained.of(maps.squeeze(1))

    return explain


def step_settings(arguments: argparse.Namespace) -> StepSettings:
    """Ours, with the iterations that the run wants."""
    return StepSettings(n_iter=arguments.iterations, plateau=arguments.plateau)


def perturbations(network: Network, arguments: argparse.Namespace) -> dict[str, Method]:
    """All of :data:`PERTURBATIONS`, which also say what their masks are like (means over areas).

    Values:
        kept: probability of the class with what a mask shows.
        original: probability of the class for the whole clip.
        change: mean absolute difference of neighbouring frames of a mask, as a share of the mask's mean.
        iterations: share of the iterations until a mask stopped.
    """
    explainer, settings = SpatioTemporalExtremalPerturbation(network.module), step_settings(arguments)

    def perturbation(smoothness: Smoothness | None, dt: int) -> Method:
        def explain(batch: Batch) -> Explained:
            maps, found = explainer.attribute(
                batch.clips,
                target=network.target(batch),
                areas=arguments.areas,
                smoothness=smoothness,
                dt=dt,
                settings=settings,
                perturbations_per_eval=len(arguments.areas),
                return_input_shape=False,
                return_masks=True,
            )
            change = found.masks.diff(dim=2).abs().mean((2, 3, 4)) / found.volumes
            return Explained.of(
                maps.squeeze(1),
                kept=found.probabilities.mean(1),
                original=found.original_probabilities,
                change=change.mean(1),
                iterations=(~found.losses.isnan()).double().mean((1, 2)),
            )

        return explain

    return {name: perturbation(smoothness, dt) for name, (smoothness, dt) in PERTURBATIONS.items()}


def _in_frames(maps: Tensor, batch: Batch) -> Tensor:
    """Maps (N, 1, T', h, w) with one map per frame, (N, T, h, w)."""
    size = (batch.clips.shape[2], *maps.shape[3:])
    return F.interpolate(maps, size=size, mode="trilinear", align_corners=False).squeeze(1)
