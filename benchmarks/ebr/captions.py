"""The captions of Table 5 and a captioner trained on them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.captioning.training import TRANSFORM, train_captioner
from benchmarks.suite.data_sets import annotations_digest
from benchmarks.suite.phrases import Phrase, PhraseClips, load_frames, phrases_of_clips, phrases_of_images
from benchmarks.suite.preparation import prepared
from captum_ext.data import generate_captions, load_captions
from captum_ext.data.annotations import read_flickr30k_entities
from captum_ext.models import CNNLSTMCaptioner, Vocabulary

__all__ = ["Captions"]

_IMAGES = "flickr30k-images"
_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Captions:
    """Captioned clips or images.

    Args:
        arguments (argparse.Namespace): options of the run.
    """

    arguments: argparse.Namespace

    @property
    def about(self) -> str:
        """Which captions these are."""
        if self.arguments.data_root is None:
            return "Generated clips with captions (moving shapes), stored as mp4 files and read back."
        return f"Flickr30k Entities under {self.arguments.data_root.name}."

    @property
    def settings(self) -> dict[str, object]:
        """What decides which captions and captioner these are."""
        a = self.arguments
        return {
            "data_root": a.data_root and str(a.data_root.resolve()),
            "annotations": a.data_root and annotations_digest(a.data_root),
            "train": a.train,
            "test": a.test,
            "epochs": a.epochs,
            "seed": a.seed,
        }

    @property
    def source(self) -> PhraseClips:
        """The held-out phrases."""
        phrases = self._phrases["test"][: self.arguments.limit]
        length = 1 + max(len(caption.split()) for caption in self._captions)
        return PhraseClips(phrases, self._vocabulary, length)

    def captioner(self) -> CNNLSTMCaptioner:
        """Trained on the training captions."""

        def build(folder: Path) -> None:
            # Of the phrases of one caption one is enough.
            captioned = {(phrase.path, phrase.caption) for phrase in self._phrases["train"]}
            paths, captions = zip(*sorted(captioned), strict=True)
            # An image has several captions and is held once.
            places = {path: place for place, path in enumerate(dict.fromkeys(paths))}
            clips = torch.stack([TRANSFORM(load_frames(path)) for path in places])
            clip_of = torch.tensor([places[path] for path in paths])
            tokens = self._vocabulary.encode(captions)
            a = self.arguments
            model = train_captioner(self._vocabulary, clips, tokens, a.epochs, a.seed, clip_of=clip_of)
            torch.save(model.state_dict(), folder / "captioner.pt")

        folder = prepared(self.arguments.prepared, "captioner", self.settings, build)
        model = CNNLSTMCaptioner(len(self._vocabulary))
        model.load_state_dict(torch.load(folder / "captioner.pt", weights_only=True))
        return model.eval()

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self._captions)

    @property
    def _captions(self) -> list[str]:
        return [phrase.caption for split in _SPLITS for phrase in self._phrases[split]]

    @cached_property
    def _phrases(self) -> dict[str, list[Phrase]]:
        return {split: self._read(split) for split in _SPLITS}

    def _read(self, split: str) -> list[Phrase]:
        a = self.arguments
        if a.data_root is not None:
            images = read_flickr30k_entities(a.data_root, a.data_root / f"{split}.txt")
            return phrases_of_images(images, a.data_root / _IMAGES)
        n_clips = a.train if split == "train" else a.test

        def build(folder: Path) -> None:
            generate_captions(folder, n_clips, split=split, seed=a.seed)

        wanted = {"split": split, "n_clips": n_clips, "seed": a.seed}
        folder = prepared(a.prepared, "captions", wanted, build)
        return phrases_of_clips(load_captions(folder / f"{split}.json"))
