"""Annotations and real video files make clips that a dataset reads."""

from dataclasses import replace

import pytest
import torch

from captum_ext.data import (
    ActionClip,
    ClipDataset,
    ClipTransform,
    concatenate_actions,
    load_manifest,
    probe_video,
    read_video,
    save_manifest,
    write_video,
)
from captum_ext.data.annotations import (
    AnnotatedAction,
    AnnotatedVideo,
    AnnotationError,
    clips_of_videos,
    frame_spans,
    padded_boxes,
)
from captum_ext.metrics.functional import spatial_pointing_game

pytest.importorskip("av", reason="PyAV writes and reads the videos")

T, H, W, FPS = 10, 32, 48, 5
TRANSFORM = ClipTransform((16, 24), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
SMALL, LARGE, LAST = (2.0, 4.0, 6.0, 8.0), (10.0, 10.0, 30.0, 30.0), (40.0, 24.0, 48.0, 32.0)
DIVE = AnnotatedAction("dive", 1, 0.4, 1.0)
TUBE = AnnotatedAction(
    "run", 0, 1 / 25, 4 / 25, start_frame=1, end_frame=4, boxes={1: (SMALL, LARGE), 2: (SMALL,), 3: (LAST,)}
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "Run").mkdir()
    for name in ("a", "Run/b", "v_c"):
        write_video(folder / f"{name}.mp4", torch.zeros(T, 3, H, W, dtype=torch.uint8), fps=FPS)
    return folder


def one(root, *actions, video_id="a", **more):
    options = {key: more.pop(key) for key in ("overrun", "on_error") if key in more}
    return clips_of_videos([AnnotatedVideo(video_id, actions=actions, **more)], root, **options)


def test_convention_seconds_become_frames_by_the_files_own_times(root):
    (clip,) = one(root, DIVE)
    assert clip.spans == (("dive", 2, 5),)  # 0.4 s is frame 2 at 5 frames a second, 1.0 s frame 5, excluded
    assert (clip.label, clip.label_index, clip.n_frames, clip.fps) == ("dive", 1, T, FPS)
    assert (clip.height, clip.width) == (H, W)


def test_convention_counted_frames_need_no_frame_rate(root):
    (clip,) = one(root, TUBE, frame_size=(H, W), fps=25.0)
    assert clip.spans == (("run", 1, 4),)
    assert clip.boxes[:4] == (None, LARGE, SMALL, LAST)
    assert clip.other_boxes[:4] == ((), (SMALL,), (), ())
    assert clip.boxes_in(1) == (LARGE, SMALL)


def test_convention_boxes_are_scaled_from_the_annotated_frame_to_the_files(root):
    (clip,) = one(root, TUBE, frame_size=(2 * H, 3 * W))
    assert clip.boxes[3] == pytest.approx((40 / 3, 12.0, 16.0, 16.0))


def test_convention_boxes_at_another_rate_go_to_the_frame_on_display(root):
    # 60 a second: annotated frame 30 is at 0.5 s, when frame 2 (0.4 to 0.6 s) is shown.
    action = AnnotatedAction("bag", 4, 0.4, 1.0, boxes={24: (SMALL,), 30: (LARGE,), 36: (LAST,)})
    (clip,) = one(root, action, frame_size=(H, W), fps=60.0)
    assert [t for t in range(T) if clip.boxes[t]] == [2, 3]
    assert clip.boxes_in(2) == (LARGE, SMALL)
    assert clip.boxes_in(3) == (LAST,)


def test_boxes_behind_the_file_are_cut_with_their_action(root):
    # The file lasts 2 s; frame 117 of 60 a second is inside, frame 126 is behind it.
    action = AnnotatedAction("bag", 4, 1.6, 2.4, boxes={117: (SMALL,), 126: (LARGE,)})
    (clip,) = one(root, action, frame_size=(H, W), fps=60.0, overrun="cut")
    assert [clip.boxes_in(t) for t in range(7, T)] == [(), (), (SMALL,)]


def test_a_video_of_several_labels_gives_a_clip_for_each_with_all_spans(root):
    ambiguous = AnnotatedAction("Ambiguous", None, 0.0, 2.0, ambiguous=True)
    first, second = one(root, DIVE, TUBE, ambiguous, replace(DIVE, start_s=1.2, end_s=1.6), frame_size=(H, W))
    assert [first.video_id, second.video_id] == ["a#run", "a#dive"]
    assert first.spans == second.spans == (("run", 1, 4), ("dive", 2, 5), ("dive", 6, 8))
    assert second.boxes == (None,) * T
    assert one(root, ambiguous) == []
    assert one(root) == []


@pytest.mark.parametrize("video_id", ["a", "Run/b", "b", "c", "v_c"])
def test_files_are_found_by_path_by_name_and_with_v_in_front(video_id, root):
    (clip,) = one(root, DIVE, video_id=video_id)
    assert clip.path.endswith(f"{video_id.rpartition('/')[2]}.mp4")


LATE = AnnotatedAction("dive", 1, 1.5, 2.5)
BEYOND = AnnotatedAction("dive", 1, 2.2, 2.5)
LATE_TUBE = replace(TUBE, start_frame=8, end_frame=11, boxes={8: (SMALL,), 9: (LAST,), 10: (LARGE,)})


@pytest.mark.parametrize("action", [LATE, BEYOND, LATE_TUBE])
def test_an_action_behind_the_file_is_an_error_that_names_the_video(action, root):
    with pytest.raises(AnnotationError, match=r"video 'a': .*ends behind the (video|file).*overrun says"):
        one(root, action)


def test_an_action_behind_the_file_can_be_cut(root):
    assert one(root, LATE, overrun="cut")[0].spans == (("dive", 8, 10),)
    assert one(root, BEYOND, overrun="cut") == []
    (clip,) = one(root, LATE_TUBE, frame_size=(H, W), overrun="cut")
    assert clip.spans == (("run", 8, 10),)
    assert clip.boxes[8:] == (SMALL, LAST)
    with pytest.raises(ValueError, match='overrun must be "raise" or "cut"'):
        one(root, LATE, overrun="keep")


@pytest.mark.parametrize(
    ("action", "video_id", "reason"),
    [
        (DIVE, "nothing", "there is no video of this name below"),
        (DIVE, "../a", "there is no video of this name below"),
        (replace(DIVE, start_s=0.41, end_s=0.45), "a", "'dive' is so short that no frame of"),
        (replace(DIVE, label_index=None), "a", "label 'dive' has no index"),
        (replace(DIVE, boxes={0: (SMALL,)}), "a", "boxes of frames without a frame rate"),
    ],
)
def test_what_does_not_fit_is_an_error_or_skipped(action, video_id, reason, root):
    with pytest.raises(AnnotationError, match=f"video '{video_id}': .*{reason}"):
        one(root, action, video_id=video_id)
    with pytest.warns(UserWarning, match=r"1 faulty record\(s\) left out"):
        assert one(root, action, video_id=video_id, on_error="skip") == []


def test_unreadable_and_doubled_files_are_errors(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"cut")
    with pytest.raises(AnnotationError, match=r"video 'a': .*cannot be decoded"):
        one(tmp_path, DIVE)
    (tmp_path / "a.avi").write_bytes(b"cut")
    with pytest.raises(AnnotationError, match="more than one file has this name"):
        one(tmp_path, DIVE)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        one(tmp_path / "nothing", DIVE)


def test_a_dataset_gives_all_boxes_and_the_frames_of_the_label(root):
    clips = one(root, TUBE, DIVE, frame_size=(H, W))
    dataset = ClipDataset(clips, TRANSFORM, n_frames=5)  # frames 1, 3, 5, 7, 9
    assert dataset.frames(0).shape == (5, 3, 16, 24)
    half = torch.tensor([LARGE, SMALL, LAST], dtype=torch.float64) / 2
    boxes = dataset.padded_boxes(0)
    assert boxes.shape == (5, 2, 4)
    assert torch.equal(boxes[0], half[:2])
    assert torch.equal(boxes[1, 0], half[2])
    assert bool(boxes[1, 1].isnan().all() & boxes[2:].isnan().all())
    assert dataset.inside(0).tolist() == [True, True, False, False, False]
    assert dataset.inside(1).tolist() == [False, True, False, False, False]
    assert dataset.padded_boxes(1).shape == (5, 1, 4)
    # A point in the smaller box is a hit only if all boxes reached the metric.
    maps = torch.zeros(1, 5, 16, 24)
    maps[0, :, 3, 2] = 1
    assert spatial_pointing_game(maps, boxes[None], (16, 24), 0).hits[0].tolist()[0] is True


def test_all_boxes_survive_the_manifest_and_concatenation(root, tmp_path):
    clips = [*one(root, TUBE, frame_size=(H, W)), *one(root, DIVE, video_id="Run/b")]
    save_manifest(tmp_path / "clips.json", clips)
    loaded = load_manifest(tmp_path / "clips.json")
    assert [replace(clip, path="") for clip in loaded] == [replace(clip, path="") for clip in clips]
    joined, other = concatenate_actions(clips, tmp_path, "GT+rand", n_frames=20)
    assert joined.boxes_in(1) == (LARGE, SMALL)
    assert joined.boxes[10:] == (None,) * 10
    assert other.boxes_in(11) == (LARGE, SMALL)


def test_windows_of_a_long_video_work_without_a_dataset(root):
    window = read_video(root / "a.mp4", None, start=0.6, end=1.4)  # frames 3 to 6
    video = AnnotatedVideo("a", frame_size=(H, W), actions=(DIVE, TUBE))
    assert frame_spans(video, "dive", window.timestamps, window.indices).tolist() == [[0, 2]]
    assert frame_spans(video, "run", window.timestamps, window.indices).tolist() == [[0, 1]]
    assert padded_boxes(video, "run", window.indices)[0].tolist() == [list(LAST)]


def test_other_boxes_are_one_entry_per_frame_inside_the_frame():
    arguments = ("a", "a.mp4", "run", 0, 5.0, 2, W, H, (None, SMALL), ())
    assert ActionClip(*arguments, other_boxes=((), (LAST,))).boxes_in(1) == (SMALL, LAST)
    with pytest.raises(ValueError, match="other_boxes of 1 frames for 2"):
        ActionClip(*arguments, other_boxes=((LAST,),))
    with pytest.raises(ValueError, match=r"frame 0: box .* is empty or outside"):
        ActionClip(*arguments, other_boxes=(((0, 0, W + 1, 1),), ()))


def test_probing_tells_what_reading_everything_tells(root):
    info, clip = probe_video(root / "a.mp4"), read_video(root / "a.mp4", None)
    assert info.n_frames == len(clip.frames)
    assert info.frame_size == tuple(clip.frames.shape[2:])
    assert torch.equal(info.timestamps, clip.timestamps)
    assert (info.fps, info.duration_s) == (clip.fps, T / FPS)
    with pytest.raises(FileNotFoundError):
        probe_video(root / "nothing.mp4")
