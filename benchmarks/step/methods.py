"""The methods of the STEP paper's tables, each from clips and classes to maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from captum_ext.attr import (
    RecurrentExcitationBackprop,
    Rise,
    SaliencyTubes,
    SpatioTemporalExtremalPerturbation,
    VideoGradCam,
)
from captum_ext.models import FrameCNNLSTM
from captum_ext.perturbation import Smoothness, StepSettings

__all__ = ["PERTURBATIONS", "Explain", "Perturbed", "methods"]

Explain = Callable[[Tensor, Tensor], Tensor]
_LAYER = "features"

PERTURBATIONS: dict[str, tuple[Smoothness | None, int]] = {
    "EP-3D": (None, 1),
    "EP-3D-Evenly": ("evenly", 1),
    "EP-3D (dt = 1)": ("gaussian", 1),
    "EP-3D (dt = 2)": ("gaussian", 2),
    "EP-3D (dt = 3)": ("gaussian", 3),
    "STEP": ("step", 1),
}
"""Name to smoothness and dt."""


@dataclass
class Perturbed:
    """Explains by extremal perturbation, and keeps what its masks were like.

    Args:
        explainer (SpatioTemporalExtremalPerturbation): of the model.
        target (Callable): from classes to Captum's target.
        name (str): of :data:`PERTURBATIONS`.
        areas (Sequence[float]): whose masks make up the map.
        settings (StepSettings): of the optimisation.
        kept (list[Tensor]): probabilities that the masks keep, mean over areas, (N,) per batch.
        roughness (list[Tensor]): how much of a mask changes from frame to frame, (N,) per batch.
        iterations (list[Tensor]): until a mask stopped, (N,) per batch.
    """

    explainer: SpatioTemporalExtremalPerturbation
    target: Callable[[Tensor], list[int] | list[tuple[int, int]]]
    name: str
    areas: Sequence[float]
    settings: StepSettings
    kept: list[Tensor] = field(default_factory=list)
    roughness: list[Tensor] = field(default_factory=list)
    iterations: list[Tensor] = field(default_factory=list)

    def __call__(self, clips: Tensor, classes: Tensor) -> Tensor:
        """Maps (N, T, H, W)."""
        smoothness, dt = PERTURBATIONS[self.name]
        maps, found = self.explainer.attribute(
            clips,
            target=self.target(classes),
            areas=self.areas,
            smoothness=smoothness,
            dt=dt,
            settings=self.settings,
            perturbations_per_eval=len(self.areas),
            return_input_shape=False,
            return_masks=True,
        )
        self.kept.append(found.probabilities.mean(1))
        # Mean change over a step of time, as a share of what is kept.
        change = found.masks.diff(dim=2).abs().mean((2, 3, 4)) / found.volumes
        self.roughness.append(change.mean(1))
        self.iterations.append((~found.losses.isnan()).sum(2).double().mean(1))
        squeezed: Tensor = maps.squeeze(1)
        return squeezed


def methods(
    model: nn.Module, n_frames: int, areas: Sequence[float], settings: StepSettings, n_masks: int
) -> dict[str, Explain]:
    """Methods by name, for a 3-D CNN, or for the last time step of a CNN-LSTM."""
    recurrent = isinstance(model, FrameCNNLSTM)

    def target(classes: Tensor) -> list[tuple[int, int]] | list[int]:
        numbers = [int(k) for k in classes]
        return [(n_frames - 1, k) for k in numbers] if recurrent else numbers

    grad_cam, rise = VideoGradCam(model, _LAYER), Rise(model)
    found: dict[str, Explain] = {
        "Grad-CAM": lambda x, k: _in_frames(
            grad_cam.attribute(x, target=target(k), relu_attributions=True), n_frames
        ),
        "Rise": lambda x, k: rise.attribute(
            x,
            target=target(k),
            n_masks=n_masks,
            grid=(4, 5, 5),
            softmax=True,
            perturbations_per_eval=4,
            return_input_shape=False,
        ).squeeze(1),
    }
    if recurrent:
        eb_r = RecurrentExcitationBackprop(model, _LAYER)

        def recurrent_eb(contrastive: bool) -> Explain:
            return lambda x, k: eb_r.attribute(
                x, target=target(k), contrastive=contrastive, sum_channels=True
            ).squeeze(1)

        found |= {"EB-R": recurrent_eb(False), "cEB-R": recurrent_eb(True)}
    else:
        tubes = SaliencyTubes(model, _LAYER)
        found["SaliencyTubes"] = lambda x, k: tubes.attribute(
            x, target=target(k), return_input_shape=False
        ).squeeze(1)
    explainer = SpatioTemporalExtremalPerturbation(model)
    for name in PERTURBATIONS:
        found[name] = Perturbed(explainer, target, name, areas, settings)
    return found


def _in_frames(maps: Tensor, n_frames: int) -> Tensor:
    """Maps (N, 1, T', h, w) with one map per frame, (N, T, h, w)."""
    if maps.shape[2] != n_frames:
        size = (n_frames, *maps.shape[3:])
        maps = F.interpolate(maps, size=size, mode="trilinear", align_corners=False)
    return maps.squeeze(1)
