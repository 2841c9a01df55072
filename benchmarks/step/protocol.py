"""Clips in which the class fills a part of the time, explained for both networks (Tables 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.ebr.methods import Method
from benchmarks.step.networks import NAMES, Network, networks
from benchmarks.suite.actions import N_FRAMES, Actions
from benchmarks.suite.batches import Batch, ClipSource
from benchmarks.suite.clips import ActionClips
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained, Measures
from benchmarks.suite.spatial_pointing import SpatialPointing

__all__ = [
    "GT_FRAMES",
    "cell_of",
    "experiment_of",
    "joined_clips",
    "networks_in",
    "pointing_caption",
    "pointing_on",
]

_PAPER_RADIUS, _PAPER_SIZE = 7.0, 112

GT_FRAMES = 6
"""Frames of the class in a clip of 16."""


def joined_clips(actions: Actions) -> ActionClips:
    """Clips rand+GT+rand: six frames of the class at a random place of a clip of another class."""
    clips = actions.limited(actions.concatenated("rand+GT+rand", GT_FRAMES))
    return ActionClips(clips, actions.transform, N_FRAMES)


def cell_of(network: str, method: str) -> str:
    """The cell of a method on a network."""
    return f"{network}: {method}"


def experiment_of(
    actions: Actions,
    source: ClipSource,
    methods: Callable[[Network], Mapping[str, Method]],
    measure: Callable[[Batch, Explained], Measures],
    baselines: Callable[[Batch], Mapping[str, Measures]],
) -> Callable[[bool], Experiment]:
    """Every method on every network that it can explain.

    Returns:
        Callable: from whether methods are needed to the experiment, for a study.
    """

    def experiment(with_methods: bool) -> Experiment:
        explained = networks(actions) if with_methods else []
        cells = {
            cell_of(network.name, name): method
            for network in explained
            for name, method in methods(network).items()
        }
        return Experiment(source, cells, measure, baselines, [network.module for network in explained])

    return experiment


def networks_in(evaluated: Evaluated) -> list[str]:
    """The networks that were explained."""
    return [name for name in NAMES if any(cell.startswith(f"{name}: ") for cell in evaluated.cells())]


def pointing_on(size: tuple[int, int]) -> SpatialPointing:
    """S-PT: the paper's 7 pixels on frames of 112 x 112, for frames of this size (H, W)."""
    return SpatialPointing(size, _PAPER_RADIUS * min(size) / _PAPER_SIZE)


def pointing_caption(pointing: SpatialPointing, evaluated: Evaluated) -> str:
    """What was counted, and what a hit is."""
    n_clips, n_frames = pointing.counted(evaluated)
    height, width = pointing.size
    return (
        f"{n_clips} clips rand+GT+rand, the {n_frames} frames of the class's own action; a hit is a point "
        f"less than {pointing.radius:g} pixels from the box on {height} x {width} frames; 95 % bootstrap "
        "intervals over clips."
    )
