"""Synthetic captioned clips: who moves how beside what, and where each word's object is in every frame."""

import colorsys
import dataclasses
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_ext.data._manifest import read_manifest, write_manifest
from captum_ext.data.records import Box
from captum_ext.data.shapes import coverage
from captum_ext.data.synthetic import (
    _PATHS,
    DISTRACTORS,
    MOTIONS,
    SHAPES,
    Array,
    _box,
    _check_names,
    _paint,
    check_frames,
)
from captum_ext.data.textures import drifting_noise
from captum_ext.data.video import write_video

__all__ = [
    "WORD_KINDS",
    "CaptionedClip",
    "GroundedWord",
    "RenderedCaption",
    "SyntheticCaptions",
    "generate_captions",
    "load_captions",
    "save_captions",
]

WORD_KINDS = ("subject", "motion", "object")
"""The kinds of words that have a place in the frames, in the order they stand in a caption."""

_FORMAT = "captum_ext captions 1"
_MOTIONS = tuple(motion for motion in MOTIONS if motion != "circle")
_MARGIN_PX = 1.0  # between the two objects, so that no pixel belongs to both


class GroundedWord(NamedTuple):
    """A word of a caption and where what it names is.

    Attributes:
        kind (str): one of :data:`WORD_KINDS`. A motion is where its subject is.
        step (int): the word's position in the caption, from 0.
        boxes (tuple of Box): one per frame, float ``(x0, y0, x1, y1)`` in pixels, half-open.
    """

    kind: str
    step: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True, eq=False)
class RenderedCaption:
    """A synthetic captioned clip in memory.

    Attributes:
        frames (Tensor): uint8 RGB (T, 3, H, W).
        caption (str): such as "a disc moves left-right beside a ring".
        words (tuple of GroundedWord): those that have a place in the frames.
    """

    frames: Tensor
    caption: str
    words: tuple[GroundedWord, ...]


@dataclass(frozen=True)
class CaptionedClip:
    """A captioned video file with the boxes of its words.

    Attributes:
        video_id (str): unique in its manifest.
        path (str): the video file.
        caption (str): words separated by spaces.
        fps (float): frames per second.
        n_frames (int): T, the number of frames in the file.
        width (int): W in pixels.
        height (int): H in pixels.
        words (tuple of GroundedWord): the words that have a place in the frames.

    Raises:
        ValueError: if a word does not have one box per frame, or stands behind the end of the caption.
    """

    video_id: str
    path: str
    caption: str
    fps: float
    n_frames: int
    width: int
    height: int
    words: tuple[GroundedWord, ...]

    def __post_init__(self) -> None:
        for word in self.words:
            if len(word.boxes) != self.n_frames:
                raise ValueError(
                    f"clip {self.video_id!r}: {len(word.boxes)} boxes of the {word.kind} for "
                    f"{self.n_frames} frames"
                )
            if not 0 <= word.step < len(self.caption.split()):
                raise ValueError(
                    f"clip {self.video_id!r}: the {word.kind} is word {word.step} of {self.caption!r}, "
                    "which does not have so many"
                )


@dataclass(frozen=True)
class SyntheticCaptions:
    """An endless, seeded list of clips in which one shape moves beside another that stands still.

    Clip ``i`` has caption ``i % len(captions)`` and depends on nothing but these settings and ``i``. The
    subject moves as in :class:`~captum_ext.data.SyntheticActions`; the object keeps off its way, so the boxes
    of the two never meet. Radius and hue of both are drawn per clip from the same ranges, so only the shape
    tells which noun is whose. The background is the grey noise of the actions, still or drifting.

    Args:
        subjects (tuple of str): of "square", "disc", "triangle". Default: all
        motions (tuple of str): of "left-right", "up-down", "diagonal" (a circle leaves no room beside it).
            Default: ("left-right", "up-down")
        objects (tuple of str): of "cross", "ring". Default: both
        size (int or tuple[int, int]): (H, W) in pixels, or the side of a square; even, at least 32.
            Default: 64
        n_frames (int): T, at least 1. Default: 12
        fps (float): frames per second. Default: 8.0
        seed (int): at least 0. Default: 0
        split (str): another name gives other clips from the same seed. Default: "train"

    Raises:
        ValueError: if a word is unknown or repeated, or a number is out of range.

    Example::

        >>> clips = SyntheticCaptions(size=(48, 64), n_frames=10)
        >>> len(clips.captions), clips.captions[3]
        (12, 'a square moves up-down beside a ring')
        >>> clip = clips.render(3)
        >>> clip.frames.shape, [(word.kind, clip.caption.split()[word.step]) for word in clip.words]
        (torch.Size([10, 3, 48, 64]), [('subject', 'square'), ('motion', 'up-down'), ('object', 'ring')])
    """

    subjects: tuple[str, ...] = SHAPES
    motions: tuple[str, ...] = ("left-right", "up-down")
    objects: tuple[str, ...] = DISTRACTORS
    size: int | tuple[int, int] = 64
    n_frames: int = 12
    fps: float = 8.0
    seed: int = 0
    split: str = "train"

    def __post_init__(self) -> None:
        _check_names("subjects", self.subjects, SHAPES)
        _check_names("motions", self.motions, _MOTIONS)
        _check_names("objects", self.objects, DISTRACTORS)
        check_frames(self.frame_size, self.n_frames, self.fps, self.seed)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def captions(self) -> tuple[str, ...]:
        """Every caption there is, the object changing fastest."""
        return tuple(
            f"a {subject} moves {motion} beside a {object_}"
            for subject in self.subjects
            for motion in self.motions
            for object_ in self.objects
        )

    def render(self, index: int, without: Literal["subject", "object"] | None = None) -> RenderedCaption:
        """Draw clip ``index``.

        Args:
            index (int): which clip, at least 0.
            without (str, optional): ``"subject"`` or ``"object"`` leaves out that shape and nothing else: the
                same clip without the evidence for a word, for negative controls. Default: None

        Returns:
            RenderedCaption: the frames, their caption, and where its words are or would be.

        Raises:
            ValueError: for another ``without``.
        """
        if without not in (None, "subject", "object"):
            raise ValueError(f"without must be 'subject', 'object' or None, not {without!r}")
        caption = self.captions[index % len(self.captions)]
        _, subject, _, motion, _, _, object_ = caption.split()
        generator = np.random.default_rng([self.seed, zlib.crc32(f"captions {self.split}".encode()), index])
        frames = self._background(generator)
        H, W = self.frame_size
        radius = generator.uniform(0.11, 0.15) * min(H, W)
        cycles = generator.uniform() + np.arange(self.n_frames) / self.fps / generator.uniform(1.0, 1.75)
        x, y = _PATHS[motion](cycles, generator.uniform())
        path = np.stack([radius + x * (W - 2 * radius), radius + y * (H - 2 * radius)], axis=1)
        still, still_radius = self._place_beside(path, radius, generator)
        colours = [_pale(generator), _pale(generator)]
        for frame, (cx, cy) in zip(frames, path.tolist(), strict=True):
            if without != "object":
                _paint(frame, coverage(object_, still, still_radius, (H, W)), colours[1])
            if without != "subject":
                _paint(frame, coverage(subject, (cx, cy), radius, (H, W)), colours[0])
        moving = tuple(_box(cx, cy, radius, (H, W)) for cx, cy in path.tolist())
        standing = (_box(*still, still_radius, (H, W)),) * self.n_frames
        pixels = torch.from_numpy(np.rint(frames.clip(0, 1) * 255).astype(np.uint8))
        return RenderedCaption(
            frames=pixels.permute(0, 3, 1, 2).contiguous(),
            caption=caption,
            words=tuple(
                GroundedWord(kind, step, boxes)
                for kind, step, boxes in zip(WORD_KINDS, (1, 3, 6), (moving, moving, standing), strict=True)
            ),
        )

    def _background(self, generator: np.random.Generator) -> Array:
        """Dark grey noise (T, H, W, 3) with values in [0, 1]."""
        H, W = self.frame_size
        velocity = generator.uniform(-0.5, 0.5, size=2) * (generator.uniform() < 0.5)
        noise = drifting_noise(
            generator, self.n_frames, (H, W), band=(4.0, min(H, W) / 2), velocity=(velocity[0], velocity[1])
        )
        grey = generator.uniform(0.2, 0.35) + 0.07 * noise
        return np.asarray(grey[..., None] * generator.uniform(0.85, 1.0, size=3))

    def _place_beside(
        self, path: Array, radius: float, generator: np.random.Generator
    ) -> tuple[tuple[float, float], float]:
        """A centre and radius whose box meets none of the boxes along the path."""
        H, W = self.frame_size
        # Every path leaves such a place: a band along a border, or a corner.
        while True:
            own = generator.uniform(0.11, 0.15) * min(H, W)
            x, y = generator.uniform((own, own), (W - own, H - own)).tolist()
            apart = abs(path - (x, y)).max(axis=1)  # boxes meet where both axes are nearer than the radii
            if apart.min() >= radius + own + _MARGIN_PX:
                return (x, y), own


def generate_captions(
    root: str | os.PathLike[str],
    n_clips: int,
    *,
    split: str = "train",
    seed: int = 0,
    size: int | tuple[int, int] = 64,
    n_frames: int = 12,
    fps: float = 8.0,
) -> list[CaptionedClip]:
    """Write clips of :class:`SyntheticCaptions` as mp4 files, with their manifest.

    The files are ``root/SPLIT_00000.mp4`` and on; the manifest ``root/SPLIT.json`` is written last, so where
    it exists, its clips do. Files of an earlier run with the same names are replaced.

    Args:
        root (str or os.PathLike): folder, made if necessary.
        n_clips (int): at least 1; the captions take turns.
        split (str): see :class:`SyntheticCaptions`, like all that follow. Default: "train"
        seed (int): Default: 0
        size (int or tuple[int, int]): (H, W) in pixels. Default: 64
        n_frames (int): Default: 12
        fps (float): frames per second. Default: 8.0

    Returns:
        list of CaptionedClip: the clips.

    Raises:
        ValueError: if an argument is out of range.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clips = generate_captions(folder, 2)
        >>> clips[1].caption, clips[1].words[0].kind
        ('a square moves left-right beside a ring', 'subject')
    """
    if n_clips < 1:
        raise ValueError(f"n_clips must be at least 1, not {n_clips}")
    if not split or Path(split).name != split:
        raise ValueError(f"split names files, so it must not be empty or hold a separator: {split!r}")
    synthetic = SyntheticCaptions(size=size, n_frames=n_frames, fps=fps, seed=seed, split=split)
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / f"{split}.json"
    manifest.unlink(missing_ok=True)  # it must not describe files that are being replaced
    H, W = synthetic.frame_size
    clips = []
    for index in range(n_clips):
        rendered = synthetic.render(index)
        video_id = f"{split}_{index:05d}"
        path = folder / f"{video_id}.mp4"
        write_video(path, rendered.frames, fps)
        clips.append(
            CaptionedClip(video_id, str(path), rendered.caption, fps, n_frames, W, H, rendered.words)
        )
    save_captions(manifest, clips)
    return clips


def save_captions(path: str | os.PathLike[str], clips: Iterable[CaptionedClip]) -> None:
    """Write captioned clips as a JSON file, whole or not at all.

    Paths of videos are stored relative to the manifest's folder, so the folder can be moved.

    Args:
        path (str or os.PathLike): the JSON file; replaced if it exists.
        clips (iterable of CaptionedClip): the clips.

    Raises:
        FileNotFoundError: if the manifest's folder does not exist.
    """
    write_manifest(
        path,
        _FORMAT,
        ({**dataclasses.asdict(clip), "words": [word._asdict() for word in clip.words]} for clip in clips),
    )


def load_captions(path: str | os.PathLike[str]) -> list[CaptionedClip]:
    """Read the clips that :func:`save_captions` wrote.

    Args:
        path (str or os.PathLike): the JSON file.

    Returns:
        list of CaptionedClip: in the order they were saved, with paths that can be opened from here.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not such a manifest.
    """
    return read_manifest(path, _FORMAT, "captioned clips", _clip_from_record)


def _clip_from_record(record: dict[str, Any]) -> CaptionedClip:
    words = tuple(
        GroundedWord(word["kind"], word["step"], tuple(_as_box(box) for box in word["boxes"]))
        for word in record["words"]
    )
    return CaptionedClip(**{**record, "words": words})


def _as_box(box: list[float]) -> Box:
    x0, y0, x1, y1 = map(float, box)
    return x0, y0, x1, y1


def _pale(generator: np.random.Generator) -> Array:
    """A colour brighter than any background, in every hue."""
    return np.array(colorsys.hsv_to_rgb(generator.uniform(), generator.uniform(0.3, 0.6), 0.95))
