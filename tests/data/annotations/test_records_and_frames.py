"""The internal record, and what the metrics take of it: spans of frames and padded boxes."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.data.annotations import (
    AnnotatedAction,
    AnnotatedVideo,
    ObjectBoxes,
    frame_spans,
    padded_boxes,
)
from captum_ext.metrics.functional import frames_inside, pad_boxes

T = 12


def of(*actions, **more):
    return AnnotatedVideo("v", actions=actions, **more)


# Records


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"start_s": 2.0, "end_s": 2.0}, "ends at 2.0 s, not after its start at 2.0 s"),
        ({"start_s": 2.0, "end_s": 1.0}, "ends at 1.0 s, not after"),
        ({"start_s": -0.1, "end_s": 1.0}, "starts at -0.1 s, before the video"),
        ({"start_s": 0.0, "end_s": float("inf")}, "must be finite"),
        ({"start_s": float("nan"), "end_s": 1.0}, "must be finite"),
        ({"start_s": 0, "end_s": 1, "start_frame": 3}, "only one of start_frame and end_frame"),
        ({"start_s": 0, "end_s": 1, "start_frame": 3, "end_frame": 3}, r"frames \[3, 3\) are empty"),
        (
            {"start_s": 0, "end_s": 1, "start_frame": 3, "end_frame": 4, "boxes": {4: ((0, 0, 1, 1),)}},
            r"box in frame 4, outside its frames \[3, 4\)",
        ),
        ({"start_s": 0, "end_s": 1, "boxes": {0: ((5, 0, 5, 1),)}}, r"frame 0: box \(5, 0, 5, 1\)"),
        ({"start_s": 0, "end_s": 1, "boxes": {0: ((0, 0, 1, float("nan")),)}}, "frame 0: box"),
    ],
)
def test_an_action_that_cannot_be_is_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        AnnotatedAction("dive", 0, **arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"duration_s": 0.0}, "duration_s must be above 0, not 0.0"),
        ({"fps": -1.0}, "fps must be above 0"),
        ({"n_frames": 0}, "n_frames must be above 0"),
        ({"frame_size": (0, 5)}, r"frame_size \(H, W\) = \(0, 5\) is empty"),
    ],
)
def test_a_video_that_cannot_be_is_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        AnnotatedVideo("v", **arguments)


@pytest.mark.parametrize("box", [(0, 0, 49, 1), (0, 0, 1, 33), (-1, 0, 1, 1), (0, -1, 1, 1)])
def test_convention_frame_size_is_height_by_width_and_boxes_end_at_it(box):
    edge = AnnotatedAction("dive", 0, 0, 1, boxes={0: ((0, 0, 48, 32),)})
    assert of(edge, frame_size=(32, 48)).actions == (edge,)
    with pytest.raises(ValueError, match="reaches out of the frame"):
        of(AnnotatedAction("dive", 0, 0, 1, boxes={0: (box,)}), frame_size=(32, 48))


def test_objects_before_the_video_are_refused():
    with pytest.raises(ValueError, match="frame -1 is before the video"):
        ObjectBoxes("v", "bag", 1, -1, ())


def test_records_can_be_sent_to_data_loader_workers():
    video = of(AnnotatedAction("dive", 0, 0, 1, boxes={0: ((0, 0, 4, 3),)}), frame_size=(3, 4))
    assert pickle.loads(pickle.dumps(video)) == video  # noqa: S301


# Spans


def test_convention_a_frame_is_inside_if_it_appears_in_the_half_open_interval():
    video = of(AnnotatedAction("dive", 0, 0.2, 0.5))
    # At 10 frames a second: frame 2 appears at 0.2 s, frame 5 at 0.5 s, which is behind the end.
    assert frame_spans(video, "dive", torch.arange(T) / 10, torch.arange(T)).tolist() == [[2, 5]]


def test_ambiguous_actions_have_spans_of_their_own():
    clear, unclear = (
        AnnotatedAction("dive", 0, 0.2, 0.5),
        AnnotatedAction("?", None, 0.6, 0.8, ambiguous=True),
    )
    times = torch.arange(T) / 10
    assert frame_spans(of(unclear, clear), None, times, torch.arange(T)).tolist() == [[2, 5]]
    only = frame_spans(of(unclear, clear), None, times, torch.arange(T), ambiguous=True)
    assert only.tolist() == [[6, 8]]


def test_convention_frames_are_exact_where_the_format_counts_them():
    # 25 frames a second nominally, while the file runs at 30: the frames still are 5 to 9.
    action = AnnotatedAction("dive", 0, 5 / 25, 9 / 25, start_frame=5, end_frame=9)
    assert frame_spans(of(action), "dive", torch.arange(T) / 30, torch.arange(T)).tolist() == [[5, 9]]
    # A sample of every second frame, from frame 4 on: positions of the sample.
    indices = torch.arange(4, 12, 2)
    assert frame_spans(of(action), "dive", indices / 30, indices).tolist() == [[1, 3]]


def test_spans_keep_the_order_of_the_annotation_and_leave_out_what_is_asked_to():
    video = of(
        AnnotatedAction("dive", 0, 0.6, 0.9),
        AnnotatedAction("run", 1, 0.0, 0.3),
        AnnotatedAction("dive", 0, 0.1, 0.2),
        AnnotatedAction("Ambiguous", None, 0.0, 1.0, ambiguous=True),
        AnnotatedAction("dive", 0, 0.31, 0.39),  # between two frames
        AnnotatedAction("dive", 0, 5.0, 6.0),  # behind the sample
    )
    frames = (torch.arange(T) / 10, torch.arange(T))
    assert frame_spans(video, "dive", *frames).tolist() == [[6, 9], [1, 2]]
    assert frame_spans(video, None, *frames).tolist() == [[6, 9], [0, 3], [1, 2]]
    empty = frame_spans(video, "swim", *frames)
    assert (empty.shape, empty.dtype) == ((0, 2), torch.int64)


@settings(max_examples=60, deadline=None)
@given(
    fps=st.sampled_from([10.0, 23.976, 25.0, 30000 / 1001]),
    start=st.integers(0, 20),
    length=st.integers(1, 20),
    on_frame=st.booleans(),
)
def test_spans_are_the_frames_that_a_loop_finds(fps, start, length, on_frame):
    # In units of half a frame, or on frames exactly; published times have rounding of their own.
    unit = 1 / fps if on_frame else 0.5 / fps
    action = AnnotatedAction("dive", 0, start * unit, (start + length) * unit)
    inside = [t for t in range(T) if action.start_s - 1e-7 <= t / fps < action.end_s - 1e-7]
    spans = frame_spans(of(action), "dive", torch.arange(T, dtype=torch.float64) / fps, torch.arange(T))
    if not inside:
        assert spans.shape == (0, 2)
    else:
        assert spans.tolist() == [[inside[0], inside[-1] + 1]]
        mask = frames_inside([spans], T)[0]
        assert mask.nonzero()[:, 0].tolist() == inside


@pytest.mark.parametrize(
    ("timestamps", "indices", "reason"),
    [
        (torch.arange(3) / 10, torch.arange(4), r"must both be \(T,\), not \(3,\) and \(4,\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), r"must both be \(T,\)"),
        (torch.tensor([0.2, 0.1]), torch.tensor([0, 1]), "in order of time"),
        (torch.tensor([0.1, 0.2]), torch.tensor([1, 0]), "in order of time"),
    ],
)
def test_frames_that_are_not_in_order_are_refused(timestamps, indices, reason):
    with pytest.raises(ValueError, match=reason):
        frame_spans(of(AnnotatedAction("dive", 0, 0.0, 1.0)), "dive", timestamps, indices)


# Boxes

A, B, C = (1.0, 2.0, 3.0, 5.0), (0.0, 0.0, 7.0, 2.0), (2.0, 2.0, 4.0, 9.0)


def test_padded_boxes_are_those_of_the_metrics():
    video = of(
        AnnotatedAction("dive", 0, 0, 1, boxes={0: (A,), 2: (A, B)}),
        AnnotatedAction("dive", 0, 0, 1, boxes={2: (C,)}),
        AnnotatedAction("run", 1, 0, 1, boxes={0: (C,)}),
        AnnotatedAction("Ambiguous", None, 0, 1, ambiguous=True, boxes={1: (C,)}),
    )
    found = padded_boxes(video, "dive", torch.tensor([2, 1, 0, 0]))
    expected = pad_boxes([[[A, B, C], [], [A], [A]]])
    assert torch.equal(found.nan_to_num(-1), expected[0].nan_to_num(-1))
    assert found.dtype == expected.dtype
    assert padded_boxes(video, None, [0]).tolist() == [[list(A), list(C)]]
    assert padded_boxes(video, "swim", [0, 1]).shape == (2, 1, 4)
