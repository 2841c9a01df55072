"""Untrimmed videos with several actions, cut into consecutive clips, one item per clip and class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.suite.batches import Item
from captum_ext.data import (
    ActionClip,
    ClipTransform,
    Piece,
    join_actions,
    probe_video,
    read_video,
    save_manifest,
)

__all__ = ["RUN_FRAMES", "UntrimmedClips", "generate_untrimmed"]

_PIECES = 7
RUN_FRAMES = (8, 40)
"""Fewest and most frames of an action in a generated video."""


@dataclass(frozen=True)
class _Place:
    video: int
    start: int
    label: str


class UntrimmedClips:
    """Clips of ``window`` consecutive frames of each video, for each class that the video has.

    The last clip of a video ends with it, so it overlaps the one before where the length is no multiple of
    the window; a video shorter than the window is one clip, filled up with its last frame.

    An item's spans are those of its class in the clip; there may be none.

    Args:
        videos (Sequence[ActionClip]): with a span for every action.
        labels (Sequence[str]): the classes in the order of the model's scores.
        transform (ClipTransform): to the model's input.
        window (int): frames of a clip.
    """

    def __init__(
        self, videos: Sequence[ActionClip], labels: Sequence[str], transform: ClipTransform, window: int
    ) -> None:
        self.videos = videos
        self.labels = labels
        self.transform = transform
        self.window = window
        self._times_of: dict[str, list[float]] = {}
        self.places = [
            _Place(number, start, label)
            for number, video in enumerate(videos)
            for start in _starts(video.n_frames, window)
            for label in sorted({span.label for span in video.spans})
        ]

    @property
    def ids(self) -> Sequence[str]:
        """``VIDEO@START/CLASS`` of every item."""
        return [self._id(place) for place in self.places]

    def item(self, index: int) -> Item:
        """Decode a clip."""
        place = self.places[index]
        video = self.videos[place.video]
        end = min(place.start + self.window, video.n_frames)
        # By the file's own times: at a variable rate, start / fps would be another frame than the spans'.
        times = self._times(video)
        end_s = times[end] if end < video.n_frames else None
        frames = read_video(video.path, None, times[place.start], end_s).frames
        missing = self.window - len(frames)
        frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
        spans = self._spans(place)
        return Item(
            clip_id=self._id(place),
            clip=self.transform(frames),
            label=self.labels.index(place.label),
            boxes=torch.full((self.window, 1, 4), torch.nan, dtype=torch.float64),
            spans=spans,
            extra={
                "video": torch.tensor(place.video),
                "start": torch.tensor(place.start),
            },
        )

    def _times(self, video: ActionClip) -> list[float]:
        """Seconds at which each frame appears, found once for all clips of a video."""
        if video.path not in self._times_of:
            times = probe_video(video.path).timestamps.tolist()
            if len(times) != video.n_frames:
                raise ValueError(f"{video.path} has {len(times)} frames, its record {video.n_frames}")
            self._times_of[video.path] = times
        return self._times_of[video.path]

    def _id(self, place: _Place) -> str:
        return f"{self.videos[place.video].video_id}@{place.start}/{place.label}"

    def _spans(self, place: _Place) -> Tensor:
        """Spans of the class in frames of the clip, (S, 2)."""
        found = [
            [max(s.start_frame - place.start, 0), min(s.end_frame - place.start, self.window)]
            for s in self.videos[place.video].spans
            if s.label == place.label
        ]
        return torch.tensor([span for span in found if span[0] < span[1]], dtype=torch.int64).view(-1, 2)


def _starts(n_frames: int, window: int) -> list[int]:
    starts = list(range(0, max(n_frames - window, 0) + 1, window))
    last = max(n_frames - window, 0)
    return starts if starts[-1] == last else [*starts, last]


def generate_untrimmed(
    sources: Sequence[ActionClip], folder: Path, n_videos: int, window: int, seed: int
) -> list[ActionClip]:
    """Join runs of generated actions to videos whose length is a multiple of the window.

    Each video has seven runs of 8 to 40 frames, each of another class than the one before, so some classes
    happen twice; the last run is longer by what the video lacks of a multiple. Written with a manifest,
    ``clips.json``.
    """
    generator = np.random.default_rng([seed, n_videos])
    videos = []
    for number in range(n_videos):
        pieces: list[Piece] = []
        for _ in range(_PIECES):
            others = [c for c in sources if not pieces or c.label != pieces[-1].clip.label]
            clip = others[generator.integers(len(others))]
            n_frames = int(generator.integers(RUN_FRAMES[0], RUN_FRAMES[1] + 1))
            pieces.append(Piece(clip, int(generator.integers(clip.n_frames - n_frames + 1)), n_frames))
        missing = -sum(piece.n_frames for piece in pieces) % window
        last = pieces[-1]
        pieces[-1] = last._replace(start_frame=0, n_frames=last.n_frames + missing)
        video_id = f"untrimmed_{number:05d}"
        videos.append(join_actions(folder / f"{video_id}.mp4", pieces, video_id, truth=0))
    save_manifest(folder / "clips.json", videos)
    return videos
