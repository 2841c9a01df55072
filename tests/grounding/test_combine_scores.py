"""Probability and saliency combined, against loops; what a constant series must not do."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.grounding import combine_scores

T = 6
HOWS = ("sum", "product", "rank_mean", "gate")
saliencies = st.lists(st.integers(-4, 4), min_size=T, max_size=T)
probabilities = st.lists(st.integers(0, 8).map(lambda p: p / 8), min_size=T, max_size=T)


def combined(saliency, probability, how, **options):
    rows = torch.tensor([saliency], dtype=torch.float64), torch.tensor([probability], dtype=torch.float64)
    return combine_scores(*rows, how, **options)[0].tolist()


def standardised(values):
    deviation = statistics.pstdev(values)
    return [(v - statistics.fmean(values)) / deviation if deviation else 0.0 for v in values]


def scaled(values):
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else 1.0 for v in values]


def ranks(values):
    return [sum(w < v for w in values) + (1 + sum(w == v for w in values)) / 2 for v in values]


@given(saliencies, probabilities)
def test_sum_product_and_mean_of_ranks_are_those_of_a_loop(s, p):
    pairs = {
        "sum": [a + b for a, b in zip(standardised(s), standardised(p), strict=True)],
        "product": [a * b for a, b in zip(scaled(s), scaled(p), strict=True)],
        "rank_mean": [(a + b) / 2 for a, b in zip(ranks(s), ranks(p), strict=True)],
    }
    for how, expected in pairs.items():
        assert combined(s, p, how) == pytest.approx(expected, abs=1e-12)


@given(saliencies, probabilities, st.sampled_from([0.25, 0.5, None]))
def test_the_gate_points_at_the_best_saliency_among_probable_frames(s, p, threshold):
    smallest = statistics.median(p) if threshold is None else threshold
    is_open = [value >= smallest for value in p]
    if not any(is_open):
        is_open = [True] * T
    found = combined(s, p, "gate", threshold=threshold)
    best = max(value for value, opened in zip(s, is_open, strict=True) if opened)
    first = next(t for t in range(T) if is_open[t] and s[t] == best)
    assert found.index(max(found)) == first
    assert [f for f, opened in zip(found, is_open, strict=True) if opened] == [
        float(v) for v, opened in zip(s, is_open, strict=True) if opened
    ]
    assert all(f < min(s) for f, opened in zip(found, is_open, strict=True) if not opened)
    assert all(math.isfinite(f) for f in found)


@given(saliencies, st.integers(0, 8).map(lambda p: p / 8))
def test_a_constant_series_leaves_the_order_of_the_other(s, constant):
    order = ranks(s)
    for how in HOWS:
        assert ranks(combined(s, [constant] * T, how)) == order
    p = [(value + 4) / 8 for value in s]
    for how in ("sum", "product", "rank_mean"):
        assert ranks(combined([0.1] * T, p, how)) == order


def test_each_way_can_point_elsewhere_than_the_others():
    s, p = [10.0, 9.0, 0.0, 0.0, 1.0, 2.0], [0.0, 0.4, 0.7, 1.0, 0.6, 0.5]
    peaks = {how: combined(s, p, how) for how in HOWS}
    peaks = {how: values.index(max(values)) for how, values in peaks.items()}
    assert peaks["gate"] == 5
    assert peaks["product"] == 1
    assert len(set(peaks.values())) >= 2


def test_bad_series_are_refused_by_name():
    s, p = torch.rand(2, 4), torch.rand(2, 4)
    for arguments, error, message in (
        ((s, p[:, :3]), ValueError, "same shape"),
        ((s, 3 * p + 1), ValueError, "softmax"),
        ((s, p, "mean"), ValueError, "rank_mean"),
        ((s, p, "gate", 1.5), ValueError, "threshold"),
        ((s.long(), p), TypeError, "saliency"),
        ((s, p.log().log()), ValueError, "probability must be finite"),
    ):
        with pytest.raises(error, match=message):
            combine_scores(*arguments)
