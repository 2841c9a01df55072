"""The clips that a table is about: generated ones, or those of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.suite.batches import ClipSource, Item
from captum_ext.data import ActionClip, ClipDataset, ClipTransform
from captum_ext.metrics.functional import frames_inside, pad_boxes

__all__ = ["ActionClips", "Parts"]


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
        dataset = ClipDataset([clip], self.transform, n_frames=self.n_frames, cache=True)
        inputs, label = dataset[0]
        spans = torch.tensor([[s.start_frame, s.end_frame] for s in clip.spans if s.label == clip.label])
        if not len(spans):
            raise ValueError(f"clip {clip.video_id!r} has no span of its own action, {clip.label!r}")
        if self.n_frames != clip.n_frames:
            spans = _sampled(spans, clip.n_frames, self.n_frames)
        boxes = pad_boxes([[[] if box is None else [box] for box in dataset.boxes(0)]])
        outside = ~frames_inside([spans], self.n_frames)[0]
        boxes[0, outside] = torch.nan
        return Item(clip.video_id, inputs, label, boxes[0], spans)


def _sampled(spans: torch.Tensor, n_frames: int, n_sampled: int) -> torch.Tensor:
    """Spans among ``n_sampled`` frames spread over ``n_frames``; each keeps one frame at least.

    Frame j of the sample is the one at the centre of its segment, ``(j + 1/2) n_frames / n_sampled``.
    """
    # The first j whose centre is not before the end: ceil(end n_sampled / n_frames - 1/2).
    scaled = -((n_frames - 2 * spans * n_sampled) // (2 * n_frames))
    start = scaled[:, 0].clamp(max=n_sampled - 1)
    return torch.stack([start, torch.maximum(scaled[:, 1], start + 1)], dim=1)


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
