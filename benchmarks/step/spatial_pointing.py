"""S-PT: is the highest point of a frame's map on the object?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from benchmarks.suite.batches import Batch
from benchmarks.suite.evaluation import Evaluated, Explained, Measures
from benchmarks.tables import Cell
from captum_ext.metrics.functional import (
    spatial_pointing_center,
    spatial_pointing_chance,
    spatial_pointing_game,
)

__all__ = ["CENTRE", "RANDOM", "SpatialPointing"]

RANDOM, CENTRE = "random point (exact)", "centre"
_PAPER_RADIUS, _PAPER_SIZE = 7.0, 112


@dataclass(frozen=True)
class SpatialPointing:
    """The game on frames of one size; frames without a box do not count.

    Args:
        size (tuple[int, int]): (H, W) of the frames in pixels.
    """

    size: tuple[int, int]

    @property
    def radius(self) -> float:
        """The paper's 7 pixels on frames of 112 x 112, for these frames."""
        return _PAPER_RADIUS * min(self.size) / _PAPER_SIZE

    def measure(self, batch: Batch, explained: Explained) -> Measures:
        """Hits and frames of each clip."""
        assert explained.maps is not None  # noqa: S101 - every method here says where
        found = spatial_pointing_game(explained.maps.cpu(), batch.boxes, self.size, self.radius)
        return _counts(found.hits, found.valid)

    def baselines(self, batch: Batch) -> Mapping[str, Measures]:
        """Expected hits of a random point, and those of the frame's centre."""
        center = spatial_pointing_center(batch.boxes, self.size, self.radius)
        chance = spatial_pointing_chance(batch.boxes, self.size, self.radius).nan_to_num(0.0)
        return {RANDOM: _counts(chance, center.valid), CENTRE: _counts(center.hits, center.valid)}

    def rate(self, evaluated: Evaluated, cell: str) -> Cell:
        """Share of the frames that are hits."""
        found = Cell.ratio(evaluated.values(cell, "hits"), evaluated.values(cell, "frames"))
        return Cell(found.value, found.n) if cell == RANDOM else found

    def caption(self, evaluated: Evaluated) -> str:
        """What was counted, and what a hit is."""
        frames = evaluated.values(CENTRE, "frames")
        return (
            f"{len(frames)} clips rand+GT+rand, the {int(frames.sum())} frames of the class's own action; a "
            f"hit is a point less than {self.radius:g} pixels from the box on {self.size[0]} x "
            f"{self.size[1]} frames; 95 % bootstrap intervals over clips."
        )


def _counts(hits: Tensor, valid: Tensor) -> Measures:
    return {"hits": (hits.double() * valid).sum(1), "frames": valid.sum(1)}
