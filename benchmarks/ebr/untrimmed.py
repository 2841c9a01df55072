"""The untrimmed videos of Tables 3 and 4, with the evidence of every frame of every clip."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.ebr.methods import probability, recurrent_methods
from benchmarks.suite.actions import Actions
from benchmarks.suite.batches import Batch
from benchmarks.suite.data_sets import ambiguous_spans, untrimmed_videos
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained, Measures
from benchmarks.suite.options import add_run_options
from benchmarks.suite.preparation import prepared
from benchmarks.suite.untrimmed import RUN_FRAMES, UntrimmedClips, generate_untrimmed
from captum_ext.data import ActionClip, load_manifest

__all__ = ["PROBABILITY", "Series", "Untrimmed", "add_untrimmed_options"]

PROBABILITY = "peak probability"
_GENERATED_WINDOW, _PAPER_WINDOW = 32, 128
_SOURCE_FRAMES = 128


def add_untrimmed_options(parser: argparse.ArgumentParser) -> None:
    """Options of both tables."""
    add_run_options(parser, group=8)
    parser.set_defaults(test=10)
    parser.add_argument("--videos", type=int, default=24, help="generated untrimmed videos")
    parser.add_argument(
        "--window", type=int, help="frames of a clip (default: 32 for generated videos, else 128)"
    )


@dataclass(frozen=True)
class Untrimmed:
    """Untrimmed videos cut into clips, and how the CNN-LSTM sees them.

    Args:
        arguments (argparse.Namespace): options of the run.
    """

    arguments: argparse.Namespace

    @cached_property
    def actions(self) -> Actions:
        """The trimmed clips and models that belong to the videos."""
        return Actions(self.arguments)

    @property
    def window(self) -> int:
        """Frames of a clip."""
        generated = self.arguments.data_root is None
        return int(self.arguments.window or (_GENERATED_WINDOW if generated else _PAPER_WINDOW))

    @property
    def settings(self) -> dict[str, object]:
        """What decides the figures."""
        return self.actions.settings | {"videos": self.arguments.videos, "window": self.window}

    @property
    def about(self) -> str:
        """Which videos these are."""
        if self.arguments.data_root is None:
            return (
                "Generated untrimmed videos: seven runs of 8 to 40 frames of moving shapes each (the last up "
                f"to {self.window - 1} more; 64 x 64 pixels), stored as mp4 files and read back."
            )
        return f"Videos under {self.arguments.data_root.name}."

    @cached_property
    def videos(self) -> list[ActionClip]:
        """The videos with a span for every action."""
        if self.arguments.data_root is not None:
            return self.actions.limited(untrimmed_videos(self.arguments.data_root, self.labels))
        # Long enough for the last run of a video, which is up to a window longer than the others.
        sources = self.actions.clips("test", n_frames=max(_SOURCE_FRAMES, RUN_FRAMES[1] + self.window))

        def build(folder: Path) -> None:
            generate_untrimmed(sources, folder, self.arguments.videos, self.window, seed=self.arguments.seed)

        folder = prepared(self.arguments.prepared, "untrimmed", self.settings, build)
        return self.actions.limited(load_manifest(folder / "clips.json"))

    @cached_property
    def ambiguous(self) -> dict[str, list[list[int]]]:
        """Spans that belong to no class, half-open in frames, by the id of the video."""
        root = self.arguments.data_root
        return {} if root is None else ambiguous_spans(root, self.videos)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of the model's scores."""
        return self.actions.labels

    @cached_property
    def source(self) -> UntrimmedClips:
        """One item per clip and class of its video."""
        return UntrimmedClips(self.videos, self.labels, self.actions.transform, self.window)

    def experiment(self, with_methods: bool) -> Experiment:
        """The evidence of each frame by every method; the tables make windows and points of it."""
        if not with_methods:
            return Experiment(self.source, {}, _measure)
        model = self.actions.cnn_lstm()
        methods = recurrent_methods(model) | {PROBABILITY: probability(model)}
        wanted = {name: methods[name] for name in (PROBABILITY, "EB-R", "cEB-R", "Grad-CAM")}
        return Experiment(self.source, wanted, _measure, models=[model])

    def spans_of(self, video: int, label: int) -> Tensor:
        """All actions of a class in a video, half-open in its frames, (S, 2)."""
        name = self.labels[label]
        spans = [[s.start_frame, s.end_frame] for s in self.videos[video].spans if s.label == name]
        return torch.tensor(spans)


@dataclass(frozen=True, eq=False)
class Series:
    """The evidence of every item by one method.

    Args:
        scores (Tensor): (N, T).
        videos (Tensor): number of the video, (N,).
        starts (Tensor): first frame of the clip in it, (N,).
        labels (Tensor): class that is explained, (N,).
    """

    scores: Tensor
    videos: Tensor
    starts: Tensor
    labels: Tensor

    @classmethod
    def of(cls, evaluated: Evaluated, method: str) -> Series:
        """What the method said of all items."""
        numbers = [evaluated.values(method, name).long() for name in ("video", "start", "label")]
        return cls(evaluated.rows(method, "scores"), *numbers)


def _measure(batch: Batch, explained: Explained) -> Measures:
    return {
        "scores": explained.scores,
        "label": batch.labels,
        "video": batch.extra["video"],
        "start": batch.extra["start"],
    }
