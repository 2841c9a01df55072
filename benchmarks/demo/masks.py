"""STEP and EP-3D on single clips of the demo: small parts of them that keep the class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from captum_ext.attr import ExtremalMasks, SpatioTemporalExtremalPerturbation
from captum_ext.models import FrameCNNLSTM
from captum_ext.perturbation import Smoothness, StepSettings
from captum_ext.visualization import ReportEntry

__all__ = ["Found", "find_masks", "through_masks"]

_AREAS = (0.05, 0.1)
_SMOOTHNESS: dict[str, Smoothness | None] = {"STEP": "step", "EP-3D": None}

Found = Mapping[str, tuple[Tensor, ExtremalMasks]]
"""Method to its map (T, H, W) and the masks that the map is made of."""


def find_masks(model: FrameCNNLSTM, clip: Tensor, label: int, iterations: int) -> Found:
    """Optimise the masks of a clip (3, T, H, W) that keep its class at the last time step."""
    explainer = SpatioTemporalExtremalPerturbation(model)
    found = {}
    for method, smoothness in _SMOOTHNESS.items():
        maps, masks = explainer.attribute(
            clip[None],
            target=(clip.shape[1] - 1, label),
            areas=_AREAS,
            smoothness=smoothness,
            settings=StepSettings(n_iter=iterations),
            return_input_shape=False,
            return_masks=True,
        )
        found[method] = (maps[0, 0], masks)
    return found


def through_masks(entry: ReportEntry, found: Found) -> ReportEntry:
    """The clip of an entry, seen through the masks."""
    maps, kept = {}, {}
    for method, (_, masks) in found.items():
        whole = float(masks.original_probabilities[0])
        for a, area in enumerate(masks.areas):
            name = f"{method}, area {area:g}"
            maps[name] = masks.masks[0, a]
            kept[name] = f"keeps p = {float(masks.probabilities[0, a]):.2g} of {whole:.2g}"
    return replace(
        entry,
        title=f"{entry.title}, seen through masks",
        maps=maps,
        windows={},
        metadata=kept,
        note="Each mask is optimised to keep the class with this share of the clip; the rest is blurred for "
        "the model and darkened here.",
        see_through=True,
    )
