"""The synthetic detection clips of Bargal et al. 2018, section 5.2, from any labelled clips."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captum_ext.data.records import ActionClip, Box, Span, save_manifest
from captum_ext.data.transforms import IMAGENET, ClipTransform
from captum_ext.data.video import read_video, write_video

PATTERNS = ("rand+GT", "GT+rand", "rand+GT+rand")
"""The orders of ground truth (GT) and partner (rand)."""


def concatenate_actions(
    clips: Sequence[ActionClip],
    root: str | os.PathLike[str],
    pattern: str,
    n_frames: int = 16,
    gt_frames: int | None = None,
    seed: int = 0,
) -> list[ActionClip]:
    """Put every clip beside a clip of another class, and remember which frames are whose.

    Section 5.2 of "Excitation Backprop for RNNs" (Bargal et al., CVPR 2018): "rand+GT" and "GT+rand" in
    16-frame clips with the boundary at the midpoint, "rand+GT+rand" in 128-frame clips with 11, 41 or 65
    frames of GT inserted at a random position into one partner video. Each clip is the ground truth once,
    with a partner drawn from the clips of other labels; each source is sampled uniformly over its whole
    length to the number of frames it contributes. Insertion offsets are uniform over
    ``0 ... n_frames - gt_frames``, as in the chance rates usually given for this protocol, so GT may also
    come first or last.

    A partner of another frame size is scaled and centre-cropped to that of the ground truth. The files are
    ``root/rand-GT-rand_11of128_00000.mp4`` and so on; the manifest, ``root/rand-GT-rand_11of128.json``, is
    written last. Files of an earlier run with the same names are replaced.

    Args:
        clips (sequence of ActionClip): sources, of two labels or more. Their whole length counts as their
            label.
        root (str or os.PathLike): folder, made if necessary.
        pattern (str): "rand+GT", "GT+rand" or "rand+GT+rand".
        n_frames (int): frames of each result. Default: 16
        gt_frames (int, optional): frames of the ground truth, 1 to ``n_frames - 1``; required for
            "rand+GT+rand". Default: half of ``n_frames`` (which then must be even)
        seed (int): of partners and offsets. Default: 0

    Returns:
        list of ActionClip: one per clip in ``clips``, with the ground truth's label, frame rate and frame
        size, a span for each part and the boxes of both sources. The ``video_id`` is
        ``PATTERN/GT's video_id/partner's video_id``.

    Raises:
        ValueError: if an argument is out of range, a clip has no partner of another label, or a file has
            another frame size or length than its record.
        VideoReadError: if a source cannot be read.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile
        >>> from captum_ext.data import generate_actions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clips = generate_actions(folder, n_per_class=1, shapes=("disc",))
        ...     pairs = concatenate_actions(clips, folder, "rand+GT")
        >>> pairs[0].label, [tuple(span) for span in pairs[0].spans]
        ('disc left-right', [('disc up-down', 0, 8), ('disc left-right', 8, 16)])
    """
    gt_frames = _check_lengths(pattern, n_frames, gt_frames)
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{pattern.replace('+', '-')}_{gt_frames}of{n_frames}"
    manifest = folder / f"{stem}.json"
    manifest.unlink(missing_ok=True)  # it must not describe files that are being replaced
    generator = np.random.default_rng(seed)
    results = []
    for number, truth in enumerate(clips):
        partner = _draw_partner(clips, truth, generator)
        rand_frames = n_frames - gt_frames
        before = {
            "rand+GT": rand_frames,
            "GT+rand": 0,
            "rand+GT+rand": int(generator.integers(rand_frames + 1)),
        }[pattern]
        size = (truth.height, truth.width)
        gt_pictures, gt_boxes, gt_others = _sample(truth, gt_frames, size)
        rand_pictures, rand_boxes, rand_others = _sample(partner, rand_frames, size)
        others = rand_others[:before] + gt_others + rand_others[before:]
        pictures = torch.cat([rand_pictures[:before], gt_pictures, rand_pictures[before:]])
        path = folder / f"{stem}_{number:05d}.mp4"
        write_video(path, pictures, truth.fps)
        parts = (
            Span(partner.label, 0, before),
            Span(truth.label, before, before + gt_frames),
            Span(partner.label, before + gt_frames, n_frames),
        )
        results.append(
            ActionClip(
                video_id=f"{pattern}/{truth.video_id}/{partner.video_id}",
                path=str(path),
                label=truth.label,
                label_index=truth.label_index,
                fps=truth.fps,
                n_frames=n_frames,
                width=truth.width,
                height=truth.height,
                boxes=rand_boxes[:before] + gt_boxes + rand_boxes[before:],
                spans=tuple(span for span in parts if span.start_frame < span.end_frame),
                other_boxes=others if any(others) else (),
            )
        )
    save_manifest(manifest, results)
    return results


def _check_lengths(pattern: str, n_frames: int, gt_frames: int | None) -> int:
    """The number of ground-truth frames."""
    if pattern not in PATTERNS:
        raise ValueError(f"pattern must be one of {PATTERNS}, not {pattern!r}")
    if gt_frames is None:
        if pattern == "rand+GT+rand":
            raise ValueError('gt_frames is required for "rand+GT+rand" (the paper: 11, 41 or 65 of 128)')
        if n_frames % 2:
            raise ValueError(f"n_frames={n_frames} has no midpoint: give an even number, or gt_frames")
        gt_frames = n_frames // 2
    if not 1 <= gt_frames < n_frames:
        raise ValueError(f"gt_frames={gt_frames} must be at least 1 and below n_frames={n_frames}")
    return gt_frames


def _draw_partner(
    clips: Sequence[ActionClip], truth: ActionClip, generator: np.random.Generator
) -> ActionClip:
    others = [clip for clip in clips if clip.label != truth.label]
    if not others:
        raise ValueError(f"clip {truth.video_id!r} has no partner: every clip is labelled {truth.label!r}")
    return others[generator.integers(len(others))]


def _sample(
    clip: ActionClip, n_frames: int, frame_size: tuple[int, int]
) -> tuple[Tensor, tuple[Box | None, ...], tuple[tuple[Box, ...], ...]]:
    """Frames spread over the whole clip, their boxes and other boxes, in a frame of ``frame_size`` (H, W)."""
    video = read_video(clip.path, n_frames)
    if video.frames.shape[2:] != (clip.height, clip.width) or int(video.indices.max()) >= clip.n_frames:
        raise ValueError(
            f"{clip.path} has {int(video.indices.max()) + 1} or more frames of (H, W) "
            f"{tuple(video.frames.shape[2:])}; its record says {clip.n_frames} of {(clip.height, clip.width)}"
        )
    positions = video.indices.tolist()
    boxes = [clip.boxes[position] for position in positions]
    others = [clip.other_boxes[position] if clip.other_boxes else () for position in positions]
    source = (clip.height, clip.width)
    fit = ClipTransform(frame_size, *IMAGENET)  # only its geometry is used
    return (
        fit.crop(video.frames),
        fit.map_boxes(boxes, source),
        tuple(tuple(box for box in fit.map_boxes(frame, source) if box is not None) for frame in others),
    )
