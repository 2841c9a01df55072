import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.metrics.functional import bootstrap_interval, wilson_interval


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_gives_the_textbook_intervals(hits, n, low, high):
    # The last row is the worked example of Newcombe, Statistics in Medicine 17, 1998.
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 300), st.data(), st.floats(0.5, 0.999))
def test_the_ends_of_wilson_solve_the_score_equation(n, data, confidence):
    hits = data.draw(st.integers(0, n))
    low, high = wilson_interval(hits, n, confidence)
    assert 0 <= low <= hits / n <= high <= 1
    for end in {low, high} - {0.0, 1.0}:
        z = abs(hits / n - end) / math.sqrt(end * (1 - end) / n)
        assert math.erf(z / math.sqrt(2)) == pytest.approx(confidence, abs=1e-6)


@pytest.mark.parametrize(("hits", "n", "message"), [(0, 0, "at least 1"), (5, 4, "0..4"), (-1, 4, "0..4")])
def test_impossible_counts_are_refused(hits, n, message):
    with pytest.raises(ValueError, match=message):
        wilson_interval(hits, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_confidence_is_a_share_not_a_percentage(confidence):
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval(torch.rand(3), confidence)


def test_the_bootstrap_agrees_with_the_normal_interval_for_many_values():
    values = torch.randn(2000, generator=torch.Generator().manual_seed(6)) + 5
    low, high = bootstrap_interval(values)
    error = values.std().item() / math.sqrt(2000)
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.3 * error)


def test_the_bootstrap_is_repeatable_and_leaves_the_global_generator_alone():
    values = torch.rand(30, generator=torch.Generator().manual_seed(7))
    before = torch.get_rng_state()
    assert bootstrap_interval(values) == bootstrap_interval(values)
    other = bootstrap_interval(values, generator=torch.Generator().manual_seed(8))
    assert other != bootstrap_interval(values)
    assert torch.equal(before, torch.get_rng_state())


def test_nan_values_are_left_out():
    values = torch.tensor([0.2, -0.7, 0.4])
    with_nan = torch.tensor([0.2, math.nan, -0.7, 0.4, math.nan])
    assert bootstrap_interval(with_nan) == bootstrap_interval(values)
    assert bootstrap_interval(values)[0] < 0  # and negative values are not


def test_equal_values_have_no_spread():
    assert bootstrap_interval(torch.full((4,), 0.25)) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (torch.tensor([math.nan]), ValueError, "all of them NaN"),
        (torch.zeros(0), ValueError, "no number"),
        (torch.zeros(2, 3), ValueError, "shape"),
        (torch.tensor([math.inf]), ValueError, "infinite"),
        (torch.tensor([True]), TypeError, "bool"),
    ],
)
def test_values_without_a_mean_are_refused(values, error, message):
    with pytest.raises(error, match=message):
        bootstrap_interval(values)


def test_at_least_one_resample_is_needed():
    with pytest.raises(ValueError, match="n_resamples"):
        bootstrap_interval(torch.rand(3), n_resamples=0)
