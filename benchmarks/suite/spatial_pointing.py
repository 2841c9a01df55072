"""The pointing game in space as cells of a table: is the highest point of a frame's map on the object?"""

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


@dataclass(frozen=True)
class SpatialPointing:
    """The game on frames of one size; frames without a box do not count.

    Args:
        size (tuple[int, int]): (H, W) of the frames in pixels.
        radius (float): a point less than this from a box is a hit, in pixels; 0 asks for one in the box.
    """

    size: tuple[int, int]
    radius: float

    def measure(self, batch: Batch, explained: Explained) -> Measures:
        """Hits and frames of each clip."""
        assert explained.maps is not None  # noqa: S101 - every method here says where
        found = spatial_pointing_game(explained.maps.cpu(), batch.boxes, self.size, self.radius)
        return _counts(found.hits, found.valid, batch)

    def baselines(self, batch: Batch) -> Mapping[str, Measures]:
        """Expected hits of a random point, and those of the frame's centre."""
        center = spatial_pointing_center(batch.boxes, self.size, self.radius)
        chance = spatial_pointing_chance(batch.boxes, self.size, self.radius).nan_to_num(0.0)
        return {
            RANDOM: _counts(chance, center.valid, batch),
            CENTRE: _counts(center.hits, center.valid, batch),
        }

    def rate(self, evaluated: Evaluated, cell: str, by_class: bool = False) -> Cell:
        """Share of the frames that are hits, or the mean of the shares of all classes."""
        labels = evaluated.values(cell, "label") if by_class else None
        found = Cell.ratio(evaluated.values(cell, "hits"), evaluated.values(cell, "frames"), labels)
        return Cell(found.value, found.n) if cell == RANDOM else found

    def counted(self, evaluated: Evaluated) -> tuple[int, int]:
        """Number of clips with a frame that counts, and of such frames."""
        frames = evaluated.values(CENTRE, "frames")
        return int((frames > 0).sum()), int(frames.sum())


def _counts(hits: Tensor, valid: Tensor, batch: Batch) -> Measures:
    return {"hits": (hits.double() * valid).sum(1), "frames": valid.sum(1), "label": batch.labels.cpu()}
