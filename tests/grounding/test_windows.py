"""The greedy window and the window of known length, against loops that follow the text of the paper."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.grounding import greedy_window, known_length_window

SHAPES = [(1, 1), (1, 2), (3, 5), (5, 16), (2, 128)]
# Small whole numbers tie often, which is where conventions slip.
series = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


def greedy_by_the_text(scores: list[float]) -> list[int]:
    anchor = scores.index(max(scores))
    start = anchor
    while start > 0 and not scores[start - 1] < 0:
        start -= 1
    end = anchor + 1
    while end < len(scores) and not scores[end] < 0:
        end += 1
    return [start, end]


def best_run_by_the_text(scores: list[float], length: int) -> list[int]:
    best, best_sum = 0, -float("inf")
    for start in range(len(scores) - length + 1):
        total = sum(scores[start : start + length])
        if total > best_sum:
            best, best_sum = start, total
    return [best, best + length]


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_window_is_the_papers_on_random_scores(shape):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    windows = greedy_window(scores)
    assert windows.dtype == torch.int64
    assert windows.tolist() == [greedy_by_the_text(row) for row in scores.tolist()]


@given(series)
def test_greedy_window_is_the_papers_with_ties_and_zeros(scores):
    assert greedy_window(torch.tensor([scores])).tolist() == [greedy_by_the_text(scores)]


@given(series)
def test_greedy_window_ends_inside_the_clip_when_scores_sum_to_zero(scores):
    # The last frame balances the sum, as contrast does: these sums are exact.
    balanced = [*scores, -sum(scores)]
    (start, end) = greedy_window(torch.tensor([balanced]))[0].tolist()
    whole_clip = (start, end) == (0, len(balanced))
    assert whole_clip == all(score == 0 for score in balanced)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.0, 2.0, 0.0, -1.0, 5.0], [4, 5]),  # a neighbour behind a negative frame is not reached
        ([0.0, 2.0, 0.0, -1.0], [0, 3]),  # zero does not stop it, negative does and is excluded
        ([-1.0, 2.0, 1.0, -1.0, 2.0], [1, 3]),  # earliest anchor on ties
        ([-3.0, -1.0, -1.0, -2.0], [1, 2]),  # all negative: the anchor alone
        ([0.0, 0.0, 0.0], [0, 3]),
        ([-0.0, 1.0, -0.0], [0, 3]),  # negative zero is zero
        ([-1.0], [0, 1]),
    ],
)
def test_convention_of_the_greedy_window(scores, expected):
    assert greedy_window(torch.tensor([scores])).tolist() == [expected]


@pytest.mark.parametrize("shape", SHAPES)
def test_known_length_window_is_the_best_run(shape):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    for length in {1, (shape[1] + 1) // 2, shape[1]}:
        expected = [best_run_by_the_text(row, length) for row in scores.tolist()]
        assert known_length_window(scores, length).tolist() == expected


@given(st.data(), series)
def test_known_length_window_takes_the_earliest_of_tied_runs(data, scores):
    length = data.draw(st.integers(1, len(scores)))
    assert known_length_window(torch.tensor([scores]), length).tolist() == [
        best_run_by_the_text(scores, length)
    ]


@settings(deadline=None)
@given(st.data())
def test_each_clip_may_have_its_own_length(data):
    n, t = 4, 9
    scores = torch.randn(n, t, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, t), min_size=n, max_size=n)))
    together = known_length_window(scores, lengths)
    for i in range(n):
        assert together[i].tolist() == known_length_window(scores[i : i + 1], int(lengths[i]))[0].tolist()


def test_known_length_window_ties_exactly_for_equal_float32_scores():
    scores = torch.full((1, 128), 0.1)  # 0.1 is rounded, its float64 sums are still exact
    assert known_length_window(scores, 41).tolist() == [[0, 41]]


@pytest.mark.parametrize(
    ("length", "error", "message"),
    [
        (0, ValueError, "1..5"),
        (6, ValueError, "got 6"),
        (2.0, TypeError, "whole number"),
        (True, TypeError, "bool"),
        (torch.tensor([1, 2, 3]), ValueError, "one per clip"),
        (torch.tensor([1, 9]), ValueError, "got 9"),
    ],
)
def test_a_bad_length_is_refused_by_value(length, error, message):
    with pytest.raises(error, match=message):
        known_length_window(torch.zeros(2, 5), length)


@pytest.mark.parametrize("function", [greedy_window, lambda scores: known_length_window(scores, 1)])
@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (torch.zeros(5), ValueError, "batch axis"),
        (torch.zeros(2, 5, 1), ValueError, "(N, T)"),
        (torch.zeros(0, 5), ValueError, "axis 0"),
        (torch.zeros(2, 0), ValueError, "axis 1"),
        (torch.tensor([[0.0, float("nan")]]), ValueError, "clip 0, frame 1 is nan"),
        (torch.zeros(2, 5, dtype=torch.int64), TypeError, "int64"),
    ],
)
def test_bad_scores_are_refused_by_name(function, scores, error, message):
    with pytest.raises(error, match=message):
        function(scores)
