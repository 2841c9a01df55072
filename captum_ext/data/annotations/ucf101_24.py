"""UCF101-24: boxes and spans of 24 actions, from the corrected annotations of Singh et al."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from captum_ext.data.annotations._faults import AnnotationError, Faults, OnError, member, text, whole
from captum_ext.data.annotations._limits import clip_box
from captum_ext.data.annotations._text import read_lines
from captum_ext.data.annotations._unpickler import load_arrays
from captum_ext.data.annotations.records import AnnotatedAction, AnnotatedVideo
from captum_ext.data.records import Box

__all__ = ["UCF101_24_CLASSES", "read_ucf101_24_mat", "read_ucf101_24_pickle", "read_ucf101_24_split"]

UCF101_24_CLASSES = (
    "Basketball",
    "BasketballDunk",
    "Biking",
    "CliffDiving",
    "CricketBowling",
    "Diving",
    "Fencing",
    "FloorGymnastics",
    "GolfSwing",
    "HorseRiding",
    "IceDancing",
    "LongJump",
    "PoleVault",
    "RopeClimbing",
    "SalsaSpin",
    "SkateBoarding",
    "Skiing",
    "Skijet",
    "SoccerJuggling",
    "Surfing",
    "TennisSwing",
    "TrampolineJumping",
    "VolleyballSpiking",
    "WalkingWithDog",
)
"""The labels of UCF101-24, by label index."""

_FRAME_SIZE = (240, 320)


def read_ucf101_24_mat(
    path: str | os.PathLike[str], fps: float = 25.0, on_error: OnError = "raise"
) -> list[AnnotatedVideo]:
    """Read ``finalAnnots.mat``.

    In the file: ``annot(1, V)`` with ``num_imgs``, ``name`` and ``tubes`` of ``sf``, ``ef``, ``class`` and
    ``boxes``. Frames ``sf`` and ``ef`` count from **1**, ``ef`` **inclusive**; classes from **1**; a box is
    ``x, y, w, h`` in pixels of 320 x 240, ``x`` and ``y`` from **1**, so it covers the columns ``x`` to
    ``x + w - 1``. Integers are of 8 and 16 bits and are widened before anything is added.

    Boxes that reach over the border are clipped to the frame; an empty box, or one wholly outside, is an
    error, and so are a number of boxes other than the number of frames, a frame beyond ``num_imgs``, an
    unknown class, a class other than the folder in the name, and a name that appears twice.

    Args:
        path (str or os.PathLike): the file.
        fps (float): frames per second, for ``start_s`` and ``end_s``; frames are exact without it.
            Default: 25.0, UCF101's nominal rate
        on_error (str): "raise" at the first faulty video or "skip" faulty videos with one warning.
            Default: "raise"

    Returns:
        list of AnnotatedVideo: frames from 0, half-open; boxes float ``(x0, y0, x1, y1)``, half-open; one
        action per tube. The same as of :func:`read_ucf101_24_pickle` for the same tubes.

    Raises:
        AnnotationError: if the file is not of this form, or a video is faulty.
        ValueError: if ``fps`` is not above 0.
        ValueError: if ``on_error`` is another word.
        FileNotFoundError: if there is no such file.
        ImportError: if SciPy is not installed.

    References:
        Singh et al., Online real-time multiple spatiotemporal action localisation and prediction, ICCV 2017.
    """
    file = Path(path)
    _check_fps(fps)
    entries = np.atleast_1d(_load_mat(file))
    if entries.dtype.names is None or not {"num_imgs", "name", "tubes"} <= set(entries.dtype.names):
        raise AnnotationError(f"{file}: 'annot' is not a struct with num_imgs, name and tubes")
    videos: dict[str, AnnotatedVideo] = {}
    with Faults(file, on_error) as faults:
        for position, entry in enumerate(entries, start=1):
            name = str(entry["name"])
            with faults.at(f"annot({position}) {name!r}"):
                if name in videos:
                    raise ValueError("the name appears twice")
                tubes = np.atleast_1d(entry["tubes"])
                actions = [_from_mat(tube, fps) for tube in tubes] if tubes.size else []
                videos[name] = _video(name, _whole(entry["num_imgs"]), fps, actions, None)
    return list(videos.values())


def read_ucf101_24_pickle(
    path: str | os.PathLike[str], fps: float = 25.0, on_error: OnError = "raise"
) -> list[AnnotatedVideo]:
    """Read ``pyannot.pkl`` or ``pyannot_with_class_names.pkl``, without executing it.

    In the file: from ``"Basketball/v_Basketball_g01_c01"`` to ``numf``, ``label`` and ``annotations`` of
    ``sf``, ``ef``, ``label`` and ``boxes``; the second file wraps this as ``db``, beside ``trainvideos`` and
    ``classes``. Frames ``sf`` and ``ef`` count from **0**, ``ef`` **exclusive**; labels from **0**; a box is
    ``x, y, w, h`` in pixels of 320 x 240, ``x`` and ``y`` from **1**, so it covers the columns ``x`` to
    ``x + w - 1``. Integers are of 8 and 16 bits and are widened before anything is added.

    A pickle can ask to run any function. This reader admits numpy arrays of numbers and strings and plain
    containers, and refuses everything else by its name.

    Boxes that reach over the border are clipped to the frame; an empty box, or one wholly outside, is an
    error, and so are a number of boxes other than the number of frames, a frame beyond ``numf``, an unknown
    label, and a label other than the folder in the name.

    Args:
        path (str or os.PathLike): the file.
        fps (float): frames per second, for ``start_s`` and ``end_s``; frames are exact without it.
            Default: 25.0, UCF101's nominal rate
        on_error (str): "raise" at the first faulty video or "skip" faulty videos with one warning.
            Default: "raise"

    Returns:
        list of AnnotatedVideo: as :func:`read_ucf101_24_mat`; the file with class names gives the subsets
        "train" and "test" too.

    Raises:
        AnnotationError: if the file is not of this form, asks for anything but arrays, or a video is faulty.
        ValueError: if ``fps`` is not above 0.
        ValueError: if ``on_error`` is another word.
        FileNotFoundError: if there is no such file.
    """
    file = Path(path)
    _check_fps(fps)
    content = load_arrays(file)
    if not isinstance(content, dict):
        raise AnnotationError(f"{file}: holds a {type(content).__name__}, not a dictionary of videos")
    train: frozenset[str] | None = None
    if "db" in content:
        _check_classes(file, content.get("classes"))
        train = frozenset(map(str, content.get("trainvideos", ())))
        content = content["db"]
    videos = []
    with Faults(file, on_error) as faults:
        for name, entry in content.items():
            with faults.at(repr(str(name))):
                subset = None if train is None else "train" if name in train else "test"
                actions = [_from_pickle(tube, fps) for tube in member(entry, "annotations")]
                n_frames = _whole(member(entry, "numf"))
                videos.append(_video(text(name, "the name"), n_frames, fps, actions, subset))
    return videos


def read_ucf101_24_split(path: str | os.PathLike[str]) -> list[str]:
    """Read the names in ``testlist01.txt`` or ``trainlist01.txt``.

    One name a line, with or without ``.avi``, and with or without a class number behind it, as UCF101's own
    lists have it.

    Args:
        path (str or os.PathLike): the file.

    Returns:
        list of str: video ids such as ``"Basketball/v_Basketball_g01_c01"``.

    Raises:
        AnnotationError: if a line is not such a name, or a name appears twice.
        FileNotFoundError: if there is no such file.
    """
    file = Path(path)
    names: list[str] = []
    seen: dict[str, int] = {}
    with Faults(file, "raise") as faults:
        for line_number, line in read_lines(file):
            with faults.at(f"line {line_number}"):
                name = line.split()[0].removesuffix(".avi")
                if name.count("/") != 1:
                    raise ValueError(f"{line!r} is not Class/video")
                if name in seen:
                    raise ValueError(f"{name!r} is in line {seen[name]} already")
                seen[name] = line_number
                names.append(name)
    return names


def _check_fps(fps: float) -> None:
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be above 0 frames per second, not {fps}")


def _load_mat(file: Path) -> npt.NDArray[Any]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError('reading .mat files needs SciPy: pip install "captum-ext[bench]"') from error
    if not file.is_file():
        raise FileNotFoundError(f"there is no file at {file}")
    try:
        content = loadmat(file, squeeze_me=True)
    except Exception as error:
        # SciPy raises many kinds for a damaged file, and NotImplementedError for HDF5.
        raise AnnotationError(f"{file}: not a MATLAB file up to version 7: {error}") from error
    if "annot" not in content:
        raise AnnotationError(f"{file}: has no variable 'annot'")
    return np.asarray(content["annot"])


def _from_mat(tube: Any, fps: float) -> AnnotatedAction:
    names = tube.dtype.names or ()
    if not {"sf", "ef", "class", "boxes"} <= set(names):
        raise ValueError(f"a tube has fields {', '.join(names)}, not sf, ef, class and boxes")
    start, end = _whole(tube["sf"]) - 1, _whole(tube["ef"])
    return _action(_whole(tube["class"]) - 1, start, end, tube["boxes"], fps)


def _from_pickle(tube: Any, fps: float) -> AnnotatedAction:
    start, end = _whole(member(tube, "sf")), _whole(member(tube, "ef"))
    return _action(_whole(member(tube, "label")), start, end, member(tube, "boxes"), fps)


def _action(label_index: int, start: int, end: int, boxes: Any, fps: float) -> AnnotatedAction:
    """A tube with frames from 0, ``end`` exclusive, and boxes still as in the files."""
    if not 0 <= label_index < len(UCF101_24_CLASSES):
        raise ValueError(f"class {label_index} (from 0) is not one of {len(UCF101_24_CLASSES)}")
    table = np.asarray(boxes).reshape(-1, 4)
    if len(table) != end - start:
        raise ValueError(f"{len(table)} boxes for the {end - start} frames [{start}, {end})")
    return AnnotatedAction(
        label=UCF101_24_CLASSES[label_index],
        label_index=label_index,
        start_s=start / fps,
        end_s=end / fps,
        start_frame=start,
        end_frame=end,
        boxes=_boxes(table, start),
    )


def _boxes(table: npt.NDArray[Any], start: int) -> dict[int, tuple[Box, ...]]:
    boxes: dict[int, tuple[Box, ...]] = {}
    # Widened first: in uint8, 200 + 100 is 44.
    for x, y, w, h in table.astype(np.float64).tolist():
        frame = start + len(boxes)
        try:
            boxes[frame] = (clip_box((x - 1, y - 1, x - 1 + w, y - 1 + h), _FRAME_SIZE),)
        except ValueError as error:
            raise ValueError(f"frame {frame}: {error}") from error
    return boxes


def _video(
    name: str, n_frames: int, fps: float, actions: Sequence[AnnotatedAction], subset: str | None
) -> AnnotatedVideo:
    folder = name.partition("/")[0]
    for action in actions:
        if action.end_frame is not None and action.end_frame > n_frames:
            raise ValueError(f"a tube ends behind frame {action.end_frame - 1}; the video has {n_frames}")
        if action.label != folder:
            raise ValueError(f"a tube of class {action.label!r} in a video of {folder!r}")
    return AnnotatedVideo(
        video_id=name,
        duration_s=n_frames / fps,
        fps=fps,
        n_frames=n_frames,
        frame_size=_FRAME_SIZE,
        subset=subset,
        actions=tuple(actions),
    )


def _whole(value: Any) -> int:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise ValueError(f"expected one number, found {value!r:.60}")
    return whole(array.item(), "a count")


def _check_classes(file: Path, classes: Any) -> None:
    if not isinstance(classes, (list, tuple)) or tuple(map(str, classes)) != UCF101_24_CLASSES:
        raise AnnotationError(f"{file}: its 'classes' are not the 24 of UCF101-24 in alphabetical order")
