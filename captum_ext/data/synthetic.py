"""Synthetic actions: a class is a shape and the way it moves, and where and when it is, is known exactly."""

import colorsys
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_ext.data.records import ActionClip, Box, Span, save_manifest
from captum_ext.data.shapes import coverage
from captum_ext.data.textures import drifting_noise
from captum_ext.data.video import write_video

Array = npt.NDArray[np.float64]

SHAPES = ("square", "disc", "triangle")
"""The shapes a class can have."""

DISTRACTORS = ("cross", "ring")
"""The shapes of distractors; no class has one."""


def _there_and_back(cycles: Array) -> Array:
    """A triangle wave between 0 and 1: every position is visited equally long."""
    return 1 - abs(2 * (cycles % 1) - 1)


# From cycles (T,) and a constant in [0, 1] to the path (x, y), each in [0, 1] of the room to move.
_PATHS: dict[str, Callable[[Array, float], tuple[Array, Array]]] = {
    "left-right": lambda c, rest: (_there_and_back(c), np.full_like(c, rest)),
    "up-down": lambda c, rest: (np.full_like(c, rest), _there_and_back(c)),
    "diagonal": lambda c, rest: (_there_and_back(c), _there_and_back(c)),
    "circle": lambda c, rest: (0.5 + 0.5 * np.cos(2 * np.pi * c), 0.5 + 0.5 * np.sin(2 * np.pi * c)),
}

MOTIONS = tuple(_PATHS)
"""The motions a class can have."""


def check_frames(size: tuple[int, int], n_frames: int, fps: float, seed: int) -> None:
    """Raise unless clips can have frames of this size and number."""
    if min(size) < 32 or any(side % 2 for side in size):
        raise ValueError(f"size must be even and at least 32 pixels, not {size}")
    if n_frames < 1 or not fps > 0 or seed < 0:
        raise ValueError(
            f"n_frames={n_frames} must be at least 1, fps={fps} above 0 and seed={seed} at least 0"
        )


@dataclass(frozen=True, eq=False)
class RenderedAction:
    """A synthetic clip in memory.

    Attributes:
        frames (Tensor): uint8 RGB (T, 3, H, W).
        boxes (tuple of Box): the shape's bounding box in each frame, float ``(x0, y0, x1, y1)`` in pixels,
            half-open, from the geometry.
        label (str): the class, such as "disc left-right".
        label_index (int): its position in :attr:`SyntheticActions.labels`.
    """

    frames: Tensor
    boxes: tuple[Box, ...]
    label: str
    label_index: int


@dataclass(frozen=True)
class SyntheticActions:
    """An endless, seeded list of clips in which one shape performs one motion.

    Clip ``i`` has class ``i % len(labels)`` and depends on nothing but these settings and ``i``. The shape
    goes to and fro with a period of 1 to 1.75 s, starting anywhere in it, so half of a clip still shows the
    motion. "left-right" and "up-down" visit every position of the frame equally often, so no single frame
    tells them apart: the shape is seen in a frame, the motion only in time. Radius and hue are drawn per
    clip, for all classes alike. Behind the shape are grey noise, still or drifting, and one or two small
    grey distractors (crosses, rings), still or trembling.

    Args:
        shapes (tuple of str): of "square", "disc", "triangle". Default: all
        motions (tuple of str): of "left-right", "up-down", "diagonal", "circle".
            Default: ("left-right", "up-down")
        size (int or tuple[int, int]): (H, W) in pixels, or the side of a square; even, at least 32.
            Default: 64
        n_frames (int): T, at least 1. Default: 16
        fps (float): frames per second. Default: 8.0
        seed (int): at least 0. Default: 0
        split (str): another name gives other clips from the same seed. Default: "train"

    Raises:
        ValueError: if a shape or motion is unknown or repeated, or a number is out of range.

    Example::

        >>> actions = SyntheticActions(shapes=("disc", "square"), size=(48, 64), n_frames=10)
        >>> actions.labels
        ('disc left-right', 'disc up-down', 'square left-right', 'square up-down')
        >>> clip = actions.render(5)
        >>> clip.label, clip.frames.shape, len(clip.boxes)
        ('disc up-down', torch.Size([10, 3, 48, 64]), 10)
    """

    shapes: tuple[str, ...] = SHAPES
    motions: tuple[str, ...] = ("left-right", "up-down")
    size: int | tuple[int, int] = 64
    n_frames: int = 16
    fps: float = 8.0
    seed: int = 0
    split: str = "train"

    def __post_init__(self) -> None:
        _check_names("shapes", self.shapes, SHAPES)
        _check_names("motions", self.motions, MOTIONS)
        check_frames(self.frame_size, self.n_frames, self.fps, self.seed)

    @property
    def frame_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, "shape motion", in the order of ``label_index``."""
        return tuple(f"{shape} {motion}" for shape in self.shapes for motion in self.motions)

    def render(self, index: int, with_object: bool = True) -> RenderedAction:
        """Draw clip ``index``.

        Args:
            index (int): which clip, at least 0.
            with_object (bool): False leaves out the acting shape and nothing else: the same clip without
                its evidence, for negative controls. Default: True

        Returns:
            RenderedAction: the frames, with the boxes the shape has or would have.
        """
        label_index = index % len(self.labels)
        shape = self.shapes[label_index // len(self.motions)]
        motion = self.motions[label_index % len(self.motions)]
        generator = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), index])
        frames = self._background(generator)
        self._draw_distractors(frames, generator)

        H, W = self.frame_size
        radius = generator.uniform(0.13, 0.18) * min(H, W)
        # Pale enough to be brighter than any background in every hue.
        colour = np.array(colorsys.hsv_to_rgb(generator.uniform(), generator.uniform(0.3, 0.6), 0.95))
        cycles = generator.uniform() + np.arange(self.n_frames) / self.fps / generator.uniform(1.0, 1.75)
        x, y = _PATHS[motion](cycles, generator.uniform())
        centres = np.stack([radius + x * (W - 2 * radius), radius + y * (H - 2 * radius)], axis=1).tolist()
        if with_object:
            for frame, (cx, cy) in zip(frames, centres, strict=True):
                _paint(frame, coverage(shape, (cx, cy), radius, (H, W)), colour)
        pixels = torch.from_numpy(np.rint(frames.clip(0, 1) * 255).astype(np.uint8))
        return RenderedAction(
            frames=pixels.permute(0, 3, 1, 2).contiguous(),
            boxes=tuple(_box(cx, cy, radius, (H, W)) for cx, cy in centres),
            label=self.labels[label_index],
            label_index=label_index,
        )

    def _background(self, generator: np.random.Generator) -> Array:
        """Dark grey noise (T, H, W, 3) with values in [0, 1]."""
        H, W = self.frame_size
        drifts = generator.uniform() < 0.5
        velocity = generator.uniform(-0.5, 0.5, size=2) * drifts
        noise = drifting_noise(
            generator, self.n_frames, (H, W), band=(4.0, min(H, W) / 2), velocity=(velocity[0], velocity[1])
        )
        tint = generator.uniform(0.85, 1.0, size=3)
        grey = generator.uniform(0.2, 0.35) + 0.07 * noise
        return np.asarray(grey[..., None] * tint)

    def _draw_distractors(self, frames: Array, generator: np.random.Generator) -> None:
        H, W = self.frame_size
        for _ in range(generator.integers(1, 3)):
            shape = DISTRACTORS[generator.integers(len(DISTRACTORS))]
            radius = generator.uniform(0.06, 0.09) * min(H, W)
            grey = np.full(3, generator.uniform(0.6, 0.9))
            centre = generator.uniform((radius, radius), (W - radius, H - radius))
            tremble_px = 0.015 * min(H, W) * (generator.uniform() < 0.5)
            for frame, shift in zip(frames, generator.normal(size=(self.n_frames, 2)), strict=True):
                x, y = centre + tremble_px * shift
                _paint(frame, coverage(shape, (x, y), radius, (H, W)), grey)


def generate_actions(
    root: str | os.PathLike[str],
    n_per_class: int,
    *,
    split: str = "train",
    seed: int = 0,
    size: int | tuple[int, int] = 64,
    n_frames: int = 16,
    fps: float = 8.0,
    shapes: tuple[str, ...] = SHAPES,
    motions: tuple[str, ...] = ("left-right", "up-down"),
) -> list[ActionClip]:
    """Write clips of :class:`SyntheticActions` as mp4 files, with their manifest.

    The files are ``root/SPLIT_00000.mp4`` and on; the manifest ``root/SPLIT.json`` is written last, so where
    it exists, its clips do. Files of an earlier run with the same names are replaced.

    Args:
        root (str or os.PathLike): folder, made if necessary.
        n_per_class (int): clips of each class, at least 1.
        split (str): see :class:`SyntheticActions`, like all that follow. Default: "train"
        seed (int): Default: 0
        size (int or tuple[int, int]): (H, W) in pixels. Default: 64
        n_frames (int): Default: 16
        fps (float): frames per second. Default: 8.0
        shapes (tuple of str): Default: all
        motions (tuple of str): Default: ("left-right", "up-down")

    Returns:
        list of ActionClip: ``n_per_class`` clips of each class, the classes taking turns.

    Raises:
        ValueError: if an argument is out of range.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clips = generate_actions(folder, n_per_class=2, shapes=("disc", "square"))
        >>> len(clips), clips[1].label, clips[1].spans
        (8, 'disc up-down', (Span(label='disc up-down', start_frame=0, end_frame=16),))
    """
    if n_per_class < 1:
        raise ValueError(f"n_per_class must be at least 1, not {n_per_class}")
    if not split or Path(split).name != split:
        raise ValueError(f"split names files, so it must not be empty or hold a separator: {split!r}")
    actions = SyntheticActions(shapes, motions, size, n_frames, fps, seed, split)
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / f"{split}.json"
    manifest.unlink(missing_ok=True)  # it must not describe files that are being replaced
    H, W = actions.frame_size
    clips = []
    for index in range(n_per_class * len(actions.labels)):
        rendered = actions.render(index)
        video_id = f"{split}_{index:05d}"
        path = folder / f"{video_id}.mp4"
        write_video(path, rendered.frames, fps)
        clips.append(
            ActionClip(
                video_id=video_id,
                path=str(path),
                label=rendered.label,
                label_index=rendered.label_index,
                fps=fps,
                n_frames=n_frames,
                width=W,
                height=H,
                boxes=rendered.boxes,
                spans=(Span(rendered.label, 0, n_frames),),
            )
        )
    save_manifest(manifest, clips)
    return clips


def _check_names(what: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    if not names or len(set(names)) < len(names) or not set(names) <= set(known):
        raise ValueError(f"{what} must be one or more different names out of {known}, not {names}")


def _paint(frame: Array, cover: Array, colour: Array) -> None:
    frame += cover[..., None] * (colour - frame)


def _box(cx: float, cy: float, radius: float, frame_size: tuple[int, int]) -> Box:
    H, W = frame_size
    # At the end of its path the shape touches the border; rounding must not carry the box across it.
    return (max(cx - radius, 0.0), max(cy - radius, 0.0), min(cx + radius, W), min(cy + radius, H))
