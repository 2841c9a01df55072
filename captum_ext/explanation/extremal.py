"""STEP and EP-3D of one clip, by a model of clips or of single frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from captum_ext.attr import SpatioTemporalExtremalPerturbation
from captum_ext.attr._scores import Scores
from captum_ext.explanation.forward import output_of
from captum_ext.models.loading import LoadedModel
from captum_ext.perturbation import Smoothness, StepSettings

__all__ = ["AREAS", "SMOOTHNESS", "KeptPart", "kept_parts"]

AREAS = (0.05, 0.1, 0.2)
"""Shares of the clip to keep when the user names none."""

SMOOTHNESS: dict[str, Smoothness | None] = {"step": "step", "ep-3d": None}
"""Methods that optimise masks, and what makes their masks smooth along time."""


@dataclass(frozen=True, eq=False)
class KeptPart:
    """What a mask keeps of a clip.

    Attributes:
        area (float): share of the clip that the mask was asked to keep.
        volume (float): share that it does keep, its mean.
        probability (float): of the class with what the mask shows.
        original_probability (float): of the class for the whole clip.
        mask (Tensor): in 0..1, float32, on the CPU.

    Shape:
        - mask: (T, H, W)
    """

    area: float
    volume: float
    probability: float
    original_probability: float
    mask: Tensor


def kept_parts(
    loaded: LoadedModel,
    clip: Tensor,
    method: str,
    target: int | tuple[int, int],
    scores: Scores,
    areas: Sequence[float],
    iterations: int | None,
    show_progress: bool,
) -> tuple[Tensor, tuple[KeptPart, ...]]:
    """The map (T, H, W) of all areas, and what the mask of each keeps."""
    model = loaded.model if loaded.reads == "clips" else _MeanOfFrames(loaded.model, scores)
    settings = StepSettings() if iterations is None else StepSettings(n_iter=iterations)
    with output_of(loaded.model, "steps"):
        maps, found = SpatioTemporalExtremalPerturbation(model).attribute(
            clip[None],
            target=target,
            areas=areas,
            smoothness=SMOOTHNESS[method],
            scores=scores,
            settings=settings,
            return_input_shape=False,
            return_masks=True,
            show_progress=show_progress,
        )
    parts = tuple(
        KeptPart(area, float(volume), float(probability), float(found.original_probabilities[0]), mask)
        for area, volume, probability, mask in zip(
            found.areas, found.volumes[0], found.probabilities[0], found.masks[0].float().cpu(), strict=True
        )
    )
    return maps[0, 0].float().cpu(), parts


class _MeanOfFrames(nn.Module):
    """A model of single frames as one of clips (N, C, T, H, W): the mean of its probabilities over frames."""

    def __init__(self, model: nn.Module, scores: Scores) -> None:
        super().__init__()
        self.model = model
        self.scores = scores

    def forward(self, clips: Tensor) -> Tensor:
        """The mean probabilities or, where the model returns logits, their logarithms, (N, K)."""
        frames = clips.transpose(1, 2)
        scores: Tensor = self.model(frames.flatten(0, 1))
        scores = scores.view(*frames.shape[:2], -1)
        if self.scores == "probabilities":
            return scores.mean(1)
        return scores.log_softmax(2).logsumexp(1) - math.log(scores.shape[1])
