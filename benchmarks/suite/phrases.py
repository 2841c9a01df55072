"""Noun phrases with their boxes, in generated clips or in the images of Flickr30k Entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from benchmarks.captioning.training import TRANSFORM
from benchmarks.suite.batches import Item
from captum_ext.data import Box, CaptionedClip, read_video
from captum_ext.data.annotations import EntityImage
from captum_ext.metrics.functional import pad_boxes
from captum_ext.models import Vocabulary

__all__ = ["Phrase", "PhraseClips", "phrases_of_clips", "phrases_of_images"]


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of a caption.

    Args:
        phrase_id (str): unique.
        path (Path): the video or image.
        caption (str): words separated by spaces.
        step (int): place of the phrase's last word, its noun, in the caption.
        boxes (Sequence[Sequence[Box]]): for each frame the boxes of what it names, in pixels of the file.
        frame_size (tuple[int, int]): (H, W) of the file.
    """

    phrase_id: str
    path: Path
    caption: str
    step: int
    boxes: Sequence[Sequence[Box]]
    frame_size: tuple[int, int]


@dataclass(frozen=True)
class PhraseClips:
    """One item per phrase; an image is a clip of one frame.

    Args:
        phrases (Sequence[Phrase]): what is pointed at.
        vocabulary (Vocabulary): of all captions.
        length (int): tokens of an encoded caption, the longest one's.
    """

    phrases: Sequence[Phrase]
    vocabulary: Vocabulary
    length: int

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all phrases."""
        return [phrase.phrase_id for phrase in self.phrases]

    def item(self, index: int) -> Item:
        """Decode the clip or image of a phrase; its label is the token of its noun."""
        phrase = self.phrases[index]
        frames = load_frames(phrase.path)
        boxes = [
            [box for box in TRANSFORM.map_boxes(list(of_frame), phrase.frame_size) if box is not None]
            for of_frame in phrase.boxes
        ]
        tokens = self.vocabulary.encode([phrase.caption])[0]
        caption = torch.zeros(self.length, dtype=torch.int64)
        caption[: len(tokens)] = tokens
        return Item(
            clip_id=phrase.phrase_id,
            clip=TRANSFORM(frames),
            label=int(tokens[phrase.step]),
            boxes=pad_boxes([boxes])[0],
            spans=torch.tensor([[0, len(frames)]]),
            extra={"caption": caption, "step": torch.tensor(phrase.step)},
        )


def load_frames(path: Path) -> Tensor:
    """The frames of a video, or an image as one frame, uint8 (T, 3, H, W)."""
    if path.suffix == ".mp4":
        return read_video(path, n_frames=None).frames
    with Image.open(path) as image:
        frame: Tensor = pil_to_tensor(image.convert("RGB"))
    return frame[None]


def phrases_of_clips(clips: Sequence[CaptionedClip]) -> list[Phrase]:
    """Subject and object of every generated clip."""
    return [
        Phrase(
            f"{clip.video_id}/{word.kind}",
            Path(clip.path),
            clip.caption,
            word.step,
            [[box] for box in word.boxes],
            (clip.height, clip.width),
        )
        for clip in clips
        for word in clip.words
        if word.kind in ("subject", "object")
    ]


def phrases_of_images(images: Sequence[EntityImage], folder: Path) -> list[Phrase]:
    """Every phrase that has a box."""
    return [
        Phrase(
            f"{image.image_id}/{c}/{phrase.first_word}",
            folder / f"{image.image_id}.jpg",
            caption.words.lower(),
            phrase.first_word + phrase.n_words - 1,
            [image.boxes[phrase.chain_id]],
            image.frame_size,
        )
        for image in images
        for c, caption in enumerate(image.captions)
        for phrase in caption.phrases
        if phrase.chain_id in image.boxes
    ]
