import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.grounding import center_window, temporal_iou, whole_clip_window
from captum_ext.metrics.functional import (
    center_window_chance,
    random_window_chance,
    whole_clip_chance,
    window_accuracy,
)

T = 11
span = st.tuples(st.integers(0, T - 1), st.integers(1, T)).map(lambda s: (s[0], min(T, s[0] + s[1])))
spans = st.lists(span, min_size=1, max_size=5).map(torch.tensor)
threshold = st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0])


def all_offsets(length: int, n_frames: int) -> torch.Tensor:
    start = torch.arange(n_frames - length + 1)
    return torch.stack([start, start + length], dim=1)


@pytest.mark.parametrize(
    ("length", "random", "center", "whole"),
    [(11, 5.8, 5.9, 0.0), (41, 28.3, 30.7, 0.0), (65, 55.9, 67.2, 100.0)],
)
def test_chance_rows_for_128_frames_are_the_known_ones(length, random, center, whole):
    offsets = all_offsets(length, 128)
    chances = (random_window_chance, center_window_chance, whole_clip_chance)
    rows = [100 * chance(offsets, 128).mean().item() for chance in chances]
    assert rows == pytest.approx([random, center, whole], abs=0.05)


@given(spans, spans, threshold)
def test_hits_are_those_with_enough_iou(windows, truth, iou_threshold):
    n = min(len(windows), len(truth))
    hits = window_accuracy(windows[:n], truth[:n], iou_threshold)
    assert hits.tolist() == (temporal_iou(windows[:n], truth[:n]) >= iou_threshold).tolist()


@given(spans, threshold)
def test_random_chance_is_the_mean_over_all_places(truth, iou_threshold):
    chance = random_window_chance(truth, T, iou_threshold)
    for (start, end), value in zip(truth.tolist(), chance.tolist(), strict=True):
        frames = set(range(start, end))
        hits = [
            len(frames & set(range(*place))) / len(frames | set(range(*place))) >= iou_threshold
            for place in all_offsets(end - start, T).tolist()
        ]
        assert value == sum(hits) / len(hits)


@given(spans, threshold)
def test_centre_and_whole_clip_rows_are_the_accuracies_of_those_windows(truth, iou_threshold):
    center = center_window(T, truth[:, 1] - truth[:, 0])
    whole = whole_clip_window(T).expand(len(truth), 2)
    for chance, windows in ((center_window_chance, center), (whole_clip_chance, whole)):
        hits = window_accuracy(windows, truth, iou_threshold)
        assert chance(truth, T, iou_threshold).tolist() == hits.tolist()


def test_an_iou_equal_to_the_threshold_is_a_hit():
    assert 0.28 * 25 > 7  # so a product of threshold and union would miss this one
    assert window_accuracy(torch.tensor([[0, 7]]), torch.tensor([[0, 25]]), 0.28).all()
    assert not window_accuracy(torch.tensor([[0, 7]]), torch.tensor([[0, 26]]), 0.28).any()


def test_convention_windows_are_half_open():
    # As inclusive ends these two would share frame 4 and reach 1/3.
    assert not window_accuracy(torch.tensor([[2, 4]]), torch.tensor([[4, 6]]), 0.01).any()


@pytest.mark.parametrize("iou_threshold", [0, -0.5, 1.5, 50])
def test_a_threshold_outside_its_range_is_refused(iou_threshold):
    truth = torch.tensor([[0, 3]])
    for call in (
        lambda: window_accuracy(truth, truth, iou_threshold),
        lambda: random_window_chance(truth, T, iou_threshold),
        lambda: center_window_chance(truth, T, iou_threshold),
        lambda: whole_clip_chance(truth, T, iou_threshold),
    ):
        with pytest.raises(ValueError, match="iou_threshold"):
            call()


@pytest.mark.parametrize(
    ("windows", "error", "message"),
    [
        (torch.tensor([[0, 3]]), ValueError, "got 1 and 2"),
        (torch.tensor([[0, 3], [5, 5]]), ValueError, r"windows .* row 1 is \[5, 5\]"),
        (torch.tensor([[0.0, 3.0], [1.0, 2.0]]), TypeError, "windows"),
        (torch.zeros(0, 2, dtype=torch.int64), ValueError, "windows is empty"),
        (torch.tensor([0, 3]), ValueError, "shape"),
    ],
)
def test_bad_windows_are_refused_by_name(windows, error, message):
    with pytest.raises(error, match=message):
        window_accuracy(windows, torch.tensor([[0, 3], [1, 4]]))


@pytest.mark.parametrize("chance", [random_window_chance, center_window_chance, whole_clip_chance])
def test_a_span_outside_the_clip_has_no_chance(chance):
    with pytest.raises(ValueError, match="<= 8"):
        chance(torch.tensor([[5, 9]]), 8)
