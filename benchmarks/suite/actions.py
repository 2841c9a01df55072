"""Clips and trained models of the tables about actions, made once and kept."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.clip_cnn import clip_cnn_of, train_clip_cnn
from benchmarks.demo.training import trained_pair
from benchmarks.suite.data_sets import annotations_digest, trimmed_clips
from benchmarks.suite.errors import RunError
from benchmarks.suite.preparation import prepared
from captum_ext.data import (
    IMAGENET,
    ActionClip,
    ClipDataset,
    ClipTransform,
    Piece,
    concatenate_actions,
    generate_actions,
    join_actions,
    load_manifest,
    save_manifest,
)
from captum_ext.models import load_checkpoint, save_checkpoint

__all__ = ["N_FRAMES", "Actions"]

N_FRAMES = 16
"""Frames of a clip that the models are trained on."""

_TRANSFORM = ClipTransform(64, *IMAGENET)
_LONG = 128


@dataclass(frozen=True)
class Actions:
    """Trimmed clips of actions, and models that know them.

    Args:
        arguments (argparse.Namespace): options of the run.
    """

    arguments: argparse.Namespace

    @property
    def about(self) -> str:
        """Which clips, for every table."""
        if self.arguments.data_root is None:
            return "Generated actions (moving shapes, 64 x 64 pixels), stored as mp4 files and read back."
        return f"Clips under {self.arguments.data_root.name}."

    @property
    def settings(self) -> dict[str, object]:
        """What decides which clips and models these are."""
        a = self.arguments
        return {
            "data_root": a.data_root and str(a.data_root.resolve()),
            "annotations": a.data_root and annotations_digest(a.data_root),
            "checkpoint": a.checkpoint and str(a.checkpoint.resolve()),
            "train": a.train,
            "test": a.test,
            "epochs": a.epochs,
            "seed": a.seed,
        }

    def clips(self, split: str, n_frames: int = N_FRAMES) -> list[ActionClip]:
        """The clips of a split, "train" or "test"; generated ones have ``n_frames`` frames."""
        a = self.arguments
        if a.data_root is not None:
            root = a.data_root.resolve()

            def find(folder: Path) -> None:
                save_manifest(folder / "clips.json", trimmed_clips(root, split))

            wanted = {"root": str(root), "annotations": annotations_digest(root), "split": split}
            found = prepared(a.prepared, f"{root.name}-{split}", wanted, find)
            clips = load_manifest(found / "clips.json")
            if a.checkpoint is not None:
                _check_labels(clips, self.labels, a.checkpoint)
            return clips
        per_class = a.train if split == "train" else a.test
        drawn = {"split": split, "per_class": per_class, "seed": a.seed, "n_frames": n_frames}

        def build(folder: Path) -> None:
            generate_actions(folder, per_class, split=split, seed=a.seed, n_frames=n_frames)

        return load_manifest(prepared(a.prepared, "actions", drawn, build) / f"{split}.json")

    def limited(self, clips: Sequence[ActionClip]) -> list[ActionClip]:
        """The first of them, as many as the run wants."""
        return list(clips[: self.arguments.limit])

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of the models' scores."""
        if self.arguments.checkpoint is not None:
            return load_checkpoint(self.arguments.checkpoint).labels
        known = {clip.label_index: clip.label for clip in self.clips("train")}
        return tuple(known.get(index, f"class {index}") for index in range(max(known) + 1))

    @cached_property
    def transform(self) -> ClipTransform:
        """To the models' input."""
        if self.arguments.checkpoint is None:
            return _TRANSFORM
        return load_checkpoint(self.arguments.checkpoint).transform or _TRANSFORM

    def cnn_lstm(self) -> nn.Module:
        """The CNN-LSTM that is explained: the given one, or one trained on the training clips."""
        if self.arguments.checkpoint is not None:
            return load_checkpoint(self.arguments.checkpoint).model
        return load_checkpoint(self._trained() / "cnn_lstm.pt").model

    def frame_cnn(self) -> nn.Module | None:
        """The CNN of single frames that the CNN-LSTM began with; None beside a given checkpoint."""
        if self.arguments.checkpoint is not None:
            return None
        return load_checkpoint(self._trained() / "frame_cnn.pt").model

    def clip_cnn(self) -> nn.Module:
        """A small 3-D CNN trained on the training clips."""

        def build(folder: Path) -> None:
            clips, labels = self._training()
            model = clip_cnn_of(int(labels.max()) + 1)
            train_clip_cnn(model, clips, labels, self.arguments.epochs, self.arguments.seed)
            torch.save(model.state_dict(), folder / "clip_cnn.pt")

        folder = prepared(self.arguments.prepared, "clip-cnn", self.settings | {"test": None}, build)
        state = torch.load(folder / "clip_cnn.pt", weights_only=True)
        model = clip_cnn_of(len(state["classifier.bias"]))
        model.load_state_dict(state)
        return model.eval()

    def concatenated(self, pattern: str, gt_frames: int | None = None) -> list[ActionClip]:
        """Each held-out clip beside one of another class, spread over 16 frames."""
        sources, seed = self.clips("test"), self.arguments.seed

        def join(folder: Path) -> list[ActionClip]:
            return concatenate_actions(sources, folder, pattern, N_FRAMES, gt_frames, seed=seed)

        return self._joined("concatenated", {"pattern": pattern, "gt_frames": gt_frames}, join)

    def inserted(self, gt_frames: int) -> list[ActionClip]:
        """A clip of ``gt_frames`` frames at a random place of one of another class, 128 frames in all."""
        generated, seed = self.arguments.data_root is None, self.arguments.seed
        sources = self.clips("test", n_frames=_LONG if generated else N_FRAMES)

        def join(folder: Path) -> list[ActionClip]:
            if generated:
                return _insert(sources, folder, gt_frames, seed)
            return concatenate_actions(sources, folder, "rand+GT+rand", _LONG, gt_frames, seed=seed)

        return self._joined("inserted", {"gt_frames": gt_frames}, join)

    def _joined(
        self, name: str, wanted: dict[str, object], join: Callable[[Path], list[ActionClip]]
    ) -> list[ActionClip]:
        def build(folder: Path) -> None:
            try:
                clips = join(folder)
            except ValueError as error:
                raise RunError(f"held-out clips cannot be joined: {error}") from error
            save_manifest(folder / "clips.json", clips)

        known = {key: self.settings[key] for key in ("data_root", "annotations", "test", "seed")}
        return load_manifest(prepared(self.arguments.prepared, name, known | wanted, build) / "clips.json")

    def _trained(self) -> Path:
        def build(folder: Path) -> None:
            clips, labels = self._training()
            frame_cnn, cnn_lstm = trained_pair(clips, labels, self.arguments.epochs, self.arguments.seed)
            built_with = {"num_classes": len(self.labels)}
            for name, model, arguments in (
                ("frame_cnn", frame_cnn, built_with),
                ("cnn_lstm", cnn_lstm, built_with | {"output": "steps"}),
            ):
                save_checkpoint(
                    folder / f"{name}.pt",
                    model,
                    arguments=arguments,
                    labels=self.labels,
                    transform=_TRANSFORM,
                )

        return prepared(self.arguments.prepared, "cnn-lstm", self.settings | {"test": None}, build)

    def _training(self) -> tuple[Tensor, Tensor]:
        torch.manual_seed(self.arguments.seed)
        dataset = ClipDataset(self.clips("train"), _TRANSFORM, n_frames=N_FRAMES)
        items = [dataset[i] for i in range(len(dataset))]
        return torch.stack([x for x, _ in items]), torch.tensor([k for _, k in items])


def _check_labels(clips: Sequence[ActionClip], labels: Sequence[str], checkpoint: Path) -> None:
    """Another order of the classes would explain the wrong ones without a word."""
    for clip in clips:
        if clip.label_index >= len(labels) or labels[clip.label_index] != clip.label:
            raise RunError(
                f"class {clip.label_index} is {clip.label!r} in the data set, but the labels of {checkpoint} "
                f"are {list(labels)}; save the checkpoint with the data set's classes in their order."
            )


def _insert(sources: Sequence[ActionClip], folder: Path, gt_frames: int, seed: int) -> list[ActionClip]:
    """Consecutive frames at their own rate: spread over 128 frames of a generated clip, 11 show no motion."""
    generator = np.random.default_rng([seed, gt_frames])
    found = []
    for number, truth in enumerate(sources):
        others = [clip for clip in sources if clip.label != truth.label]
        partner = others[generator.integers(len(others))]
        rand_frames = _LONG - gt_frames
        before, start, rand_start = (
            int(generator.integers(n + 1)) for n in (rand_frames, _LONG - gt_frames, _LONG - rand_frames)
        )
        pieces = [
            Piece(partner, rand_start, before),
            Piece(truth, start, gt_frames),
            Piece(partner, rand_start + before, rand_frames - before),
        ]
        video_id = f"{truth.video_id}/{partner.video_id}"
        found.append(join_actions(folder / f"{number:05d}.mp4", pieces, video_id, truth=1))
    return found
