"""MSR-VTT: twenty sentences for each of ten thousand short clips."""

import os
from pathlib import Path
from typing import Any

from captum_ext.data.annotations._faults import AnnotationError, Faults, OnError, member, number, text, whole
from captum_ext.data.annotations._text import read_json
from captum_ext.data.annotations.records import CaptionedVideo

__all__ = ["read_msr_vtt"]


def read_msr_vtt(
    path: str | os.PathLike[str], subset: str | None = None, on_error: OnError = "raise"
) -> list[CaptionedVideo]:
    """Read ``train_val_videodatainfo.json`` or ``test_videodatainfo.json``.

    In the file: ``videos`` with ``video_id``, ``category``, ``url``, ``"start time"``, ``"end time"`` and
    ``split``; ``sentences`` with ``sen_id``, ``video_id`` and ``caption``. The two times are in **seconds**
    of the YouTube video; the clips ``video0.mp4`` and so on are already cut, so their own time begins at 0.

    Args:
        path (str or os.PathLike): the file.
        subset (str, optional): return the videos of this split alone: "train", "validate" or "test".
            Default: None, all
        on_error (str): "raise" at the first faulty video or sentence, or "skip" them with one warning.
            Default: "raise"

    Returns:
        list of CaptionedVideo: videos and captions in the order of the file.

    Raises:
        AnnotationError: if the file is not of this form, an end is not after its start, a video or sentence
            id appears twice, or a sentence is of an unknown video.
        ValueError: if ``on_error`` is another word.
        FileNotFoundError: if there is no such file.

    References:
        Xu et al., MSR-VTT: a large video description dataset for bridging video and language, CVPR 2016.
    """
    file = Path(path)
    content = read_json(file)
    for name in ("videos", "sentences"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise AnnotationError(f"{file}: has no list {name!r}")
    videos: dict[str, dict[str, Any]] = {}
    captions: dict[str, list[str]] = {}
    sentence_ids: set[int] = set()
    with Faults(file, on_error) as faults:
        for position, entry in enumerate(content["videos"]):
            with faults.at(f"videos/{position}"):
                video_id = text(member(entry, "video_id"), "video_id")
                if video_id in videos:
                    raise ValueError(f"the video {video_id!r} appears twice")
                videos[video_id] = _source(entry)
                captions[video_id] = []
        for position, entry in enumerate(content["sentences"]):
            with faults.at(f"sentences/{position}"):
                video_id = text(member(entry, "video_id"), "video_id")
                if video_id not in videos:
                    raise ValueError(f"the video {video_id!r} is not among 'videos'")
                sentence_id = whole(member(entry, "sen_id"), "sen_id")
                if sentence_id in sentence_ids:
                    raise ValueError(f"the sen_id {sentence_id} appears twice")
                captions[video_id].append(text(member(entry, "caption"), "caption"))
                sentence_ids.add(sentence_id)
    return [
        CaptionedVideo(video_id, tuple(captions[video_id]), **source)
        for video_id, source in videos.items()
        if subset is None or source["subset"] == subset
    ]


def _source(entry: Any) -> dict[str, Any]:
    start = number(member(entry, "start time"), "start time")
    end = number(member(entry, "end time"), "end time")
    if not 0 <= start < end:
        raise ValueError(f"start time {start} is negative, or end time {end} is not after it")
    return {
        "subset": text(member(entry, "split"), "split"),
        "category": whole(entry["category"], "category") if "category" in entry else None,
        "url": text(entry["url"], "url") if "url" in entry else None,
        "source_start_s": start,
        "source_end_s": end,
    }
