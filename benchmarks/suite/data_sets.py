"""Real clips under ``--data-root``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.suite.errors import RunError
from captum_ext.data import ActionClip, load_manifest, probe_video
from captum_ext.data.annotations import (
    AnnotatedVideo,
    AnnotationError,
    clips_of_videos,
    frame_spans,
    read_thumos14,
    read_ucf101_24_mat,
    read_ucf101_24_pickle,
    read_ucf101_24_split,
)

__all__ = ["ambiguous_spans", "annotations_digest", "trimmed_clips", "untrimmed_videos"]

_ANNOTATIONS = ("*.json", "*.pkl", "*.mat", "*.txt", "annotation/*.txt")
_PICKLES = ("pyannot_with_class_names.pkl", "pyannot.pkl")


def annotations_digest(root: Path) -> str:
    """What the annotations at the top of a data set say, in 12 letters.

    Part of what decides the figures: after a change, neither clips nor models nor results that belong to the
    annotations as they were may be taken for those of the new ones.
    """
    digest = hashlib.sha256()
    for file in sorted(file for pattern in _ANNOTATIONS for file in root.glob(pattern) if file.is_file()):
        digest.update(
            hashlib.sha256(f"{file.relative_to(root)}".encode() + b"\0" + file.read_bytes()).digest()
        )
    return digest.hexdigest()[:12]


def trimmed_clips(root: Path, split: str) -> list[ActionClip]:
    """The clips of a split, "train" or "test", in the order of their ids.

    What is looked for, in this order: ``train.json`` and ``test.json``, as
    :func:`captum_ext.data.save_manifest` writes them; UCF101-24, that is ``pyannot_with_class_names.pkl``,
    ``pyannot.pkl`` or ``finalAnnots.mat`` with ``testlist01.txt`` (what is not in the list is for training)
    and the videos anywhere below.

    Raises:
        FileNotFoundError: if there is none of them.
        RunError: if an annotation or a video is faulty.
    """
    if (root / f"{split}.json").exists():
        return load_manifest(root / f"{split}.json")
    try:
        annotations = _ucf101_24(root)
        test = set(read_ucf101_24_split(root / "testlist01.txt"))
        wanted = [video for video in annotations if (video.video_id in test) == (split == "test")]
        clips = clips_of_videos(wanted, root)
    except AnnotationError as error:
        raise RunError(str(error)) from error
    # Sorted names would put all clips of a class together, and --limit would see one class only.
    return _classes_take_turns(clips)


def untrimmed_videos(root: Path, labels: tuple[str, ...]) -> list[ActionClip]:
    """The test videos of THUMOS14 with a span for every action: folder ``annotation``, videos anywhere below.

    Also ``untrimmed.json``, as :func:`captum_ext.data.save_manifest` writes it.

    Args:
        root (Path): the data set.
        labels (tuple of str): the classes that the model knows.

    Raises:
        FileNotFoundError: if there is neither.
        RunError: if the model does not know a class, or an annotation or a video is faulty.
    """
    if (root / "untrimmed.json").exists():
        videos = load_manifest(root / "untrimmed.json")
    elif (root / "annotation").is_dir():
        try:
            # Some actions end behind their video, see read_thumos14.
            per_class = clips_of_videos(read_thumos14(root / "annotation", "test"), root, overrun="cut")
        except AnnotationError as error:
            raise RunError(str(error)) from error
        videos = list(
            {clip.path: replace(clip, boxes=(None,) * clip.n_frames) for clip in per_class}.values()
        )
        videos = [replace(clip, video_id=clip.video_id.partition("#")[0]) for clip in videos]
    else:
        raise FileNotFoundError(
            f"{root} holds no untrimmed videos that this benchmark knows: neither untrimmed.json nor "
            "THUMOS14's folder annotation (see docs/benchmarks.md)."
        )
    unknown = sorted({span.label for clip in videos for span in clip.spans} - set(labels))
    if unknown:
        raise RunError(
            f"the model does not know the classes {unknown}; give a --checkpoint whose labels hold them. It "
            f"knows {list(labels)}."
        )
    return videos


def ambiguous_spans(root: Path, videos: Sequence[ActionClip]) -> dict[str, list[list[int]]]:
    """What THUMOS14 calls ambiguous, half-open in frames, by the id of the video."""
    if (root / "untrimmed.json").exists() or not (root / "annotation").is_dir():
        return {}
    paths = {video.video_id: video.path for video in videos}
    found: dict[str, list[list[int]]] = {}
    for annotated in read_thumos14(root / "annotation", "test"):
        if annotated.video_id in paths and any(action.ambiguous for action in annotated.actions):
            times = probe_video(paths[annotated.video_id]).timestamps
            spans = frame_spans(annotated, None, times, torch.arange(len(times)), ambiguous=True)
            found[annotated.video_id] = spans.tolist()
    return found


def _ucf101_24(root: Path) -> list[AnnotatedVideo]:
    for name in _PICKLES:
        if (root / name).exists():
            return read_ucf101_24_pickle(root / name)
    if (root / "finalAnnots.mat").exists():
        return read_ucf101_24_mat(root / "finalAnnots.mat")
    raise FileNotFoundError(
        f"{root} holds no clips that this benchmark knows: neither test.json nor UCF101-24's "
        f"{', '.join(_PICKLES)} or finalAnnots.mat (see docs/benchmarks.md)."
    )


def _classes_take_turns(clips: list[ActionClip]) -> list[ActionClip]:
    turns: dict[str, int] = {}
    order = []
    for clip in clips:
        turns[clip.label] = turns.get(clip.label, -1) + 1
        order.append((turns[clip.label], clip.label_index))
    return [clip for _, clip in sorted(zip(order, clips, strict=True), key=lambda pair: pair[0])]
