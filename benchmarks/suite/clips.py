"""The clips that a table is about: generated ones, or those of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.suite.batches import ClipSource, Item
from captum_ext.data import ActionClip, ClipDataset, ClipTransform

__all__ = ["ActionClips", "Parts", "runs"]


@dataclass(frozen=True)
class ActionClips:
    """Clips of one action each, or with other actions around it.

    Args:
        clips (Sequence[ActionClip]): their class is the one that is explained.
        transform (ClipTransform): to the model's input.
        n_frames (int): frames spread over each clip.
    """

    clips: Sequence[ActionClip]
    transform: ClipTransform
    n_frames: int

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all clips."""
        return [clip.video_id for clip in self.clips]

    def item(self, index: int) -> Item:
        """Decode a clip; of its boxes only those of its own action count."""
        clip = self.clips[index]
        # Frames and boxes come from one decoding.
        dataset = ClipDataset([clip], self.transform, self.n_frames, cache=True)
        inputs, label = dataset[0]
        inside = dataset.inside(0)
        if not bool(inside.any()):
            raise ValueError(
                f"none of the {self.n_frames} frames shows the clip's own action, {clip.label!r}"
            )
        boxes = dataset.padded_boxes(0)
        boxes[~inside] = torch.nan
        return Item(clip.video_id, inputs, label, boxes, runs(inside))


def runs(inside: Tensor) -> Tensor:
    """The half-open spans of True, (T,) to (S, 2)."""
    padded = F.pad(inside.byte(), (1, 1)).int().diff()
    return torch.stack([(padded == 1).nonzero()[:, 0], (padded == -1).nonzero()[:, 0]], dim=1)


class Parts:
    """The clips of several sources, each under the name of its part.

    Args:
        parts (dict[str, ClipSource]): name to clips.
    """

    def __init__(self, parts: dict[str, ClipSource]) -> None:
        self.parts = parts
        self.places = [(name, i) for name, source in parts.items() for i in range(len(source.ids))]

    @property
    def ids(self) -> Sequence[str]:
        """``PART:ID`` of every clip."""
        return [f"{name}:{i}" for name, source in self.parts.items() for i in source.ids]

    def item(self, index: int) -> Item:
        """Decode a clip."""
        name, place = self.places[index]
        item = self.parts[name].item(place)
        return Item(f"{name}:{item.clip_id}", item.clip, item.label, item.boxes, item.spans, item.extra)
