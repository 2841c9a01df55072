"""Kinetics: one action per trimmed clip, from csv files or from folders named after the classes."""

import os
from collections.abc import Sequence
from pathlib import Path

from captum_ext.data.annotations._faults import AnnotationError, Faults, OnError, number, text
from captum_ext.data.annotations._text import read_table
from captum_ext.data.annotations._videos import video_files
from captum_ext.data.annotations.records import AnnotatedAction, AnnotatedVideo
from captum_ext.data.records import ActionClip, Span
from captum_ext.data.video import probe_video

__all__ = ["clips_of_class_folders", "read_kinetics"]


def read_kinetics(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    subset: str | None = None,
    on_error: OnError = "raise",
) -> list[AnnotatedVideo]:
    """Read ``kinetics_train.csv``: ``label, youtube_id, time_start, time_end, split`` and further columns.

    ``time_start`` and ``time_end`` are in **seconds** of the YouTube video. Here a video is the trimmed clip,
    which download tools name ``<youtube_id>_<start, 6 digits>_<end, 6 digits>``: so that is the video id, the
    clip lasts ``time_end - time_start`` seconds, and its action fills it. Downloaded files are often shorter:
    join them by ``clips_of_videos(..., overrun="cut")``. Labels keep the csv's spelling
    ("air drumming").

    Args:
        path (str or os.PathLike): the file. The file of the test set has no labels and cannot be read.
        classes (sequence of str, optional): the labels by index. Default: those that occur in the file, in
            alphabetical order
        subset (str, optional): return the rows of this split alone. Default: None, all
        on_error (str): "raise" at the first faulty row or "skip" faulty rows with one warning.
            Default: "raise"

    Returns:
        list of AnnotatedVideo: in the order of the file.

    Raises:
        AnnotationError: if a column is missing, an end is not after its start, a start is negative or not
            whole, a label is not in ``classes``, or a clip appears twice.
        ValueError: if ``on_error`` is another word.
        FileNotFoundError: if there is no such file.

    References:
        Kay et al., The Kinetics human action video dataset, arXiv 1705.06950, 2017.
    """
    file = Path(path)
    videos: dict[str, AnnotatedVideo] = {}
    with Faults(file, on_error) as faults:
        rows = list(read_table(file, faults, ("label", "youtube_id", "time_start", "time_end", "split")))
        labels = tuple(sorted({row["label"] for _, row in rows} - {""}) if classes is None else classes)
        for line_number, row in rows:
            with faults.at(f"line {line_number}"):
                if subset is not None and row["split"] != subset:
                    continue
                video = _video(row, labels)
                if video.video_id in videos:
                    raise ValueError(f"the clip {video.video_id!r} appears twice")
                videos[video.video_id] = video
    return list(videos.values())


def clips_of_class_folders(
    root: str | os.PathLike[str], classes: Sequence[str] | None = None, on_error: OnError = "raise"
) -> list[ActionClip]:
    """Take the folders of a data set as its labels: ``root/<class>/<any name>.mp4``.

    The layout of Kinetics, UCF101 and HMDB51. Every clip is its label from the first frame to the last; there
    are no boxes. Files are opened to learn their length and size.

    Args:
        root (str or os.PathLike): the folder with a folder for each class.
        classes (sequence of str, optional): the labels by index; a folder of another name is an error.
            Default: the names of the folders, in alphabetical order
        on_error (str): "raise" at the first unreadable video or "skip" unreadable videos with one warning.
            Default: "raise"

    Returns:
        list of ActionClip: by class, then by name; the ``video_id`` is ``<class>/<name>`` without suffix.

    Raises:
        AnnotationError: if a folder is not a class, or a video cannot be read.
        ValueError: if ``on_error`` is another word.
        FileNotFoundError: if there is no such folder, or no video in it.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile, torch
        >>> from captum_ext.data import write_video
        >>> with tempfile.TemporaryDirectory() as root:
        ...     (Path(root) / "archery").mkdir()
        ...     write_video(f"{root}/archery/a.mp4", torch.zeros(3, 3, 32, 48, dtype=torch.uint8), fps=8)
        ...     (clip,) = clips_of_class_folders(root)
        >>> clip.label, clip.spans
        ('archery', (Span(label='archery', start_frame=0, end_frame=3),))
    """
    folder = Path(root)
    files = [(file.parent.name, file) for file in video_files(folder) if file.parent.parent == folder]
    if not files:
        raise FileNotFoundError(f"{folder} has no folders with videos in them")
    labels = tuple(sorted({label for label, _ in files}) if classes is None else classes)
    unknown = sorted({label for label, _ in files} - set(labels))
    if unknown:
        raise AnnotationError(f"{folder}: folder {unknown[0]!r} is not one of the {len(labels)} classes")
    clips = []
    with Faults(folder, on_error) as faults:
        for label, file in sorted(files):
            with faults.at(f"{label}/{file.name}"):
                info = probe_video(file)
                H, W = info.frame_size
                clips.append(
                    ActionClip(
                        video_id=f"{label}/{file.stem}",
                        path=str(file),
                        label=label,
                        label_index=labels.index(label),
                        fps=info.fps,
                        n_frames=info.n_frames,
                        width=W,
                        height=H,
                        boxes=(None,) * info.n_frames,
                        spans=(Span(label, 0, info.n_frames),),
                    )
                )
    return clips


def _video(row: dict[str, str], labels: Sequence[str]) -> AnnotatedVideo:
    label = text(row["label"], "label")
    if label not in labels:
        raise ValueError(f"class {label!r} is unknown")
    start, end = number(row["time_start"], "time_start"), number(row["time_end"], "time_end")
    if start < 0 or start != int(start) or end != int(end):
        raise ValueError(f"time_start and time_end must be whole seconds from 0, not {start} and {end}")
    if end <= start:
        raise ValueError(f"time_end {end} is not after time_start {start}")
    action = AnnotatedAction(label, labels.index(label), 0.0, end - start)
    return AnnotatedVideo(
        video_id=f"{text(row['youtube_id'], 'youtube_id')}_{int(start):06d}_{int(end):06d}",
        duration_s=end - start,
        subset=row["split"] or None,
        actions=(action,),
    )
