"""Window accuracy as a metric, with its chance and the answers that look at nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.grounding import center_window, whole_clip_window
from captum_ext.metrics import TemporalLocalizationAccuracy
from captum_ext.metrics.functional import any_length_window_chance, random_window_chance, window_accuracy

T = 9
span = st.tuples(st.integers(0, T - 1), st.integers(1, T)).map(lambda s: (s[0], min(T, s[0] + s[1])))


@settings(deadline=None)
@given(st.lists(span, min_size=1, max_size=3), st.sampled_from([0.1, 0.5, 0.7, 1.0]))
def test_chance_of_an_unknown_length_is_the_mean_over_all_windows(spans, threshold):
    every = torch.tensor([[s, e] for s in range(T) for e in range(s + 1, T + 1)])
    assert len(every) == T * (T + 1) // 2
    expected = [
        window_accuracy(every, torch.tensor([one]).expand(len(every), 2), threshold).double().mean().item()
        for one in spans
    ]
    found = any_length_window_chance(torch.tensor(spans), T, threshold)
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


SPANS = torch.tensor([[0, 3], [3, 6], [1, 7], [2, 9]])


@pytest.mark.parametrize("known_length", [True, False])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.75])
def test_value_chance_and_baselines_are_those_of_the_functions(known_length, threshold):
    metric = TemporalLocalizationAccuracy(threshold, known_length)
    windows = torch.tensor([[1, 4], [3, 6], [0, 6], [0, 7]])
    metric.update(windows[:1], SPANS[:1], T)
    metric.update(windows[1:], SPANS[1:], T)
    summary, baselines = metric.summary(), metric.baselines()
    assert metric.compute() == window_accuracy(windows, SPANS, threshold).double().mean()
    assert summary.n == 4
    chance = random_window_chance if known_length else any_length_window_chance
    assert summary.chance == pytest.approx(chance(SPANS, T, threshold).mean().item())
    assert baselines["random"] == summary.chance
    for name, answer in (
        ("center", center_window(T, SPANS.diff(dim=1)[:, 0])),
        ("whole_clip", whole_clip_window(T).expand(4, 2)),
    ):
        assert baselines[name] == window_accuracy(answer, SPANS, threshold).double().mean()


def test_the_known_rows_for_128_frames():
    start = torch.arange(128 - 65 + 1)
    spans = torch.stack([start, start + 65], dim=1)
    metric = TemporalLocalizationAccuracy()
    metric.update(spans, spans, 128)
    rows = {name: round(100 * value, 1) for name, value in metric.baselines().items()}
    assert rows == {"random": 55.9, "center": 67.2, "whole_clip": 100.0}


def test_before_any_clip_the_baselines_are_nan():
    assert all(math.isnan(value) for value in TemporalLocalizationAccuracy().baselines().values())


def test_a_window_of_another_length_is_refused_where_the_length_was_known():
    windows, spans = torch.tensor([[0, 3], [0, 4]]), torch.tensor([[1, 4], [0, 3]])
    with pytest.raises(ValueError, match=r"row 1 has 4 frames and its span 3; .*known_length=False"):
        TemporalLocalizationAccuracy().update(windows, spans, T)
    metric = TemporalLocalizationAccuracy(known_length=False)
    metric.update(windows, spans, T)
    assert metric.compute() == 1


def test_windows_and_spans_outside_the_clip_are_refused():
    inside, outside = torch.tensor([[0, 3]]), torch.tensor([[8, 11]])
    with pytest.raises(ValueError, match="windows must end within"):
        TemporalLocalizationAccuracy().update(outside, inside, T)
    with pytest.raises(ValueError, match="<= 9"):
        TemporalLocalizationAccuracy().update(inside, outside, T)


def test_a_refused_batch_leaves_nothing_behind():
    metric = TemporalLocalizationAccuracy()
    metric.update(SPANS, SPANS, T)
    with pytest.raises(ValueError, match="windows"):
        metric.update(torch.tensor([[0, 3]]), torch.tensor([[0, 4]]), T)
    assert metric.summary().n == 4
    assert metric.baselines()["whole_clip"] == 0.5  # spans of 6 and 7 of 9 frames


def test_a_threshold_outside_its_range_is_refused():
    for threshold in (0, 1.5):
        with pytest.raises(ValueError, match="iou_threshold"):
            TemporalLocalizationAccuracy(threshold)
