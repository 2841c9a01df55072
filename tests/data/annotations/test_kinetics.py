"""Kinetics: trimmed clips by csv or by folder."""

from pathlib import Path

import pytest
import torch

from captum_ext.data import ClipDataset, ClipTransform, write_video
from captum_ext.data.annotations import (
    AnnotatedAction,
    AnnotatedVideo,
    AnnotationError,
    clips_of_class_folders,
    clips_of_videos,
    read_kinetics,
)

HEAD = "label,youtube_id,time_start,time_end,split,is_cc\n"
ROWS = 'testifying,---QUuC4vJs,84,94,validate,0\n"air drumming",_dbcJuKJQNs,4,14,train,0\n'


def write(folder, text):
    path = folder / "kinetics.csv"
    path.write_bytes(text.encode())
    return path


def test_convention_a_clip_is_named_by_its_place_and_its_own_time_begins_at_0(tmp_path):
    first, second = read_kinetics(write(tmp_path, HEAD + ROWS))
    assert first == AnnotatedVideo(
        "---QUuC4vJs_000084_000094",
        duration_s=10.0,
        subset="validate",
        actions=(AnnotatedAction("testifying", 1, 0.0, 10.0),),
    )
    assert second.video_id == "_dbcJuKJQNs_000004_000014"
    assert second.actions[0].label_index == 0


def test_a_split_is_chosen_and_labels_are_indexed_over_the_file_or_as_given(tmp_path):
    path = write(tmp_path, "\ufeff" + (HEAD + ROWS).replace("\n", "\r\n\r\n"))
    (video,) = read_kinetics(path, subset="validate")
    assert video.actions[0].label_index == 1
    (video,) = read_kinetics(path, classes=["testifying", "air drumming"], subset="validate")
    assert video.actions[0].label_index == 0


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("testifying,a,10,10,train,0", "time_end 10.0 is not after time_start 10.0"),
        ("testifying,a,-1,9,train,0", "whole seconds from 0"),
        ("testifying,a,0.5,9,train,0", "whole seconds from 0"),
        ("testifying,---QUuC4vJs,84,94,train,0", "the clip '---QUuC4vJs_000084_000094' appears twice"),
        ("swimming,a,0,9,train,0", "class 'swimming' is unknown"),
        (",a,0,9,train,0", "label must be a text"),
    ],
)
def test_a_faulty_row_is_an_error_with_file_line_and_reason(row, reason, tmp_path):
    path = write(tmp_path, HEAD + ROWS + row)
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_kinetics(path, classes=["testifying", "air drumming"])
    assert str(caught.value).startswith(f"{path}, line 4: ")


def test_the_test_file_without_labels_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="line 1: expected columns label"):
        read_kinetics(write(tmp_path, "youtube_id,time_start,time_end,split\n"))


# Files: decoded in earnest, so they need PyAV.

pytest.importorskip("av", reason="PyAV writes and reads the videos")


def video(path, n_frames=5, fps=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, torch.zeros(n_frames, 3, 32, 48, dtype=torch.uint8), fps=fps)


def test_folders_are_labels(tmp_path):
    video(tmp_path / "archery" / "b.mp4", n_frames=5)
    video(tmp_path / "archery" / "a.mp4", n_frames=4)
    video(tmp_path / "zumba" / "c.mp4", n_frames=3)
    (tmp_path / "archery" / "readme.txt").write_text("not a video")
    clips = clips_of_class_folders(tmp_path)
    assert [(c.video_id, c.label_index, c.n_frames) for c in clips] == [
        ("archery/a", 0, 4),
        ("archery/b", 0, 5),
        ("zumba/c", 1, 3),
    ]
    assert clips[0].spans == (("archery", 0, 4),)
    assert (clips[0].height, clips[0].width, clips[0].fps) == (32, 48, 10.0)
    transform = ClipTransform((16, 24), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    clip, label = ClipDataset(clips, transform, n_frames=2)[2]
    assert (clip.shape, label) == ((3, 2, 16, 24), 1)
    with pytest.raises(AnnotationError, match="folder 'zumba' is not one of the 1 classes"):
        clips_of_class_folders(tmp_path, classes=["archery"])


def test_an_unreadable_video_is_named_or_skipped(tmp_path):
    video(tmp_path / "archery" / "a.mp4")
    (tmp_path / "archery" / "b.mp4").write_bytes(b"cut")
    with pytest.raises(AnnotationError, match=r"archery/b\.mp4: .*cannot be decoded"):
        clips_of_class_folders(tmp_path)
    with pytest.warns(UserWarning, match=r"1 faulty record\(s\) left out"):
        clips = clips_of_class_folders(tmp_path, on_error="skip")
    assert [clip.video_id for clip in clips] == ["archery/a"]


def test_an_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folders with videos"):
        clips_of_class_folders(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        clips_of_class_folders(tmp_path / "nothing")


def test_the_csv_finds_its_files_in_class_folders(tmp_path):
    annotations = read_kinetics(write(tmp_path, HEAD + "testifying,---QUuC4vJs,84,85,validate,0\n"))
    video(tmp_path / "val" / "testifying" / "---QUuC4vJs_000084_000085.mp4", n_frames=10)
    (clip,) = clips_of_videos(annotations, tmp_path)
    assert Path(clip.path).parent.name == "testifying"
    assert clip.spans == (("testifying", 0, 10),)
