"""Clips of untrimmed videos: their frames and their spans count the same frames, at any rate."""

from dataclasses import replace
from fractions import Fraction

import av
import pytest
import torch

from benchmarks.suite.data_sets import ambiguous_spans, untrimmed_videos
from benchmarks.suite.untrimmed import UntrimmedClips
from captum_ext.data import IMAGENET, ActionClip, ClipTransform, Span

T, H, W = 12, 32, 48
TIMES_MS = [0, 100, 200, 300, 400, 500, 1500, 2500, 3500, 4500, 4600, 4700]


def write_variable_rate(path):
    """Frame t has the grey level 20 t and appears at ``TIMES_MS[t]``."""
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = H, W, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for t, at in enumerate(TIMES_MS):
            picture = torch.full((H, W, 3), 20 * t, dtype=torch.uint8).numpy()
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.fixture
def video(tmp_path):
    return ActionClip(
        video_id="v",
        path=str(write_variable_rate(tmp_path / "v.mp4")),
        label="dive",
        label_index=0,
        fps=T / 4.8,
        n_frames=T,
        width=W,
        height=H,
        boxes=(None,) * T,
        spans=(Span("dive", 4, 7),),
    )


def frame_numbers(clip):
    """Which frame each picture is, from its grey level; clip is (3, T, H, W), normalised."""
    mean, std = (torch.tensor(values).view(3, 1, 1, 1) for values in IMAGENET)
    return ((clip * std + mean).mean((0, 2, 3)) * 255 / 20).round().int().tolist()


def test_frames_of_a_clip_are_those_that_its_spans_count_at_a_variable_rate(video):
    source = UntrimmedClips([video], ["dive"], ClipTransform((H, W), *IMAGENET), window=5)
    items = [source.item(index) for index in range(3)]
    assert [int(item.extra["start"]) for item in items] == [0, 5, 7]
    assert [frame_numbers(item.clip) for item in items] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
        [7, 8, 9, 10, 11],
    ]
    assert [item.spans.tolist() for item in items] == [[[4, 5]], [[0, 2]], []]


def test_a_video_shorter_than_the_window_is_filled_up_with_its_last_frame(video):
    source = UntrimmedClips([video], ["dive"], ClipTransform((H, W), *IMAGENET), window=15)
    assert frame_numbers(source.item(0).clip) == [*range(T), T - 1, T - 1, T - 1]


def test_a_file_of_another_length_than_its_record_is_refused(video):
    longer = replace(video, n_frames=T + 1, boxes=(None,) * (T + 1))
    source = UntrimmedClips([longer], ["dive"], ClipTransform((H, W), *IMAGENET), window=5)
    with pytest.raises(ValueError, match="has 12 frames, its record 13"):
        source.item(0)


def test_actions_and_ambiguous_intervals_go_by_the_times_of_the_file(tmp_path):
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation" / "detclasslist.txt").write_text("26 Diving\n")
    (tmp_path / "annotation" / "Diving_test.txt").write_text("video_test_0000004  0.2 0.5\n")
    (tmp_path / "annotation" / "Ambiguous_test.txt").write_text("video_test_0000004  1.5 4.6\n")
    write_variable_rate(tmp_path / "video_test_0000004.mp4")
    videos = untrimmed_videos(tmp_path, ("Diving",))
    assert videos[0].spans == (Span("Diving", 2, 5),)
    assert ambiguous_spans(tmp_path, videos) == {"video_test_0000004": [[6, 10]]}
