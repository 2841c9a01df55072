"""Eq. 5.1: who is kept, at the paper's points, where its printed form fails, and by count."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.dropout import excitation_keep_mask, excitation_keep_probability


def printed(p_eb, P, N):
    """Eq. 5.1 as the thesis prints it, in float64, with P the base probability of retaining a unit."""
    return 1 - ((1 - P) * (N - 1) * p_eb) / (((1 - P) * N - 1) * p_eb + P)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [2, 10, 4096])
def test_the_odds_form_is_the_printed_formula(n, p):
    torch.manual_seed(0)
    p_eb = torch.rand(64, n, dtype=torch.float64)
    p_eb /= p_eb.sum(1, keepdim=True)
    expected = printed(p_eb, 1 - p, n)
    assert torch.allclose(excitation_keep_probability(p_eb, p), expected, atol=1e-10)


@pytest.mark.parametrize("p", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("n", [2, 7, 2048])
def test_the_three_points_of_figure_5_2(n, p):
    p_eb = torch.tensor([[1.0, 0.0, 1 / n]])
    keep = excitation_keep_probability(p_eb, p, n)
    assert keep[0, 0] == 0
    assert keep[0, 1] == 1
    assert keep[0, 2].item() == pytest.approx(1 - p, rel=1e-6)


@given(st.floats(0.01, 0.99), st.integers(2, 5000), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_the_log_odds_of_dropping_are_those_of_p_plus_those_of_the_evidence_over_uniform(p, n, p_eb):
    keep = excitation_keep_probability(torch.tensor([[p_eb]], dtype=torch.float64), p, n).item()
    assert 0 <= keep <= 1
    if 1e-6 < p_eb < 1 - 1e-6:
        logit = math.log(p / (1 - p)) + math.log(p_eb / (1 - p_eb)) + math.log(n - 1)
        assert keep == pytest.approx(1 / (1 + math.exp(logit)), rel=1e-7, abs=1e-12)


@given(st.floats(0.05, 0.95), st.integers(2, 50))
@settings(max_examples=30, deadline=None)
def test_on_average_a_layer_loses_at_most_the_base_rate(p, n):
    p_eb = torch.rand(1, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) ** 4
    p_eb /= p_eb.sum()
    if n > 1 / p:
        assert (1 - excitation_keep_probability(p_eb, p)).mean().item() <= p + 1e-12


# ------------------------------------------------------------------- table 1.2 of the research note


def test_an_example_without_any_evidence_is_kept_whole():
    p_eb = torch.zeros(3, 5)
    assert excitation_keep_probability(p_eb).eq(1).all()
    assert all(excitation_keep_mask(p_eb).all() for _ in range(100))


def test_a_unit_with_all_of_the_evidence_is_always_dropped_and_no_other():
    p_eb = torch.eye(4)
    for _ in range(100):
        assert torch.equal(excitation_keep_mask(p_eb), ~torch.eye(4, dtype=torch.bool))


def test_one_unit_is_an_error():
    with pytest.raises(ValueError, match="at least 2 units"):
        excitation_keep_probability(torch.ones(3, 1))
    with pytest.raises(ValueError, match="at least 2 units"):
        excitation_keep_mask(torch.ones(3, 4), n=1)


def test_a_rate_of_zero_keeps_everything():
    p_eb = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert excitation_keep_probability(p_eb, p=0.0).eq(1).all()
    assert excitation_keep_mask(p_eb, p=0.0).all()
    assert excitation_keep_probability(p_eb, p=0.0, inverse=True).eq(1).all()
    assert excitation_keep_mask(p_eb, p=0.0, inverse=True).all()


@pytest.mark.parametrize("p", [1.0, 1.5, -0.1, math.nan])
def test_a_rate_outside_of_zero_to_one_is_an_error(p):
    with pytest.raises(ValueError, match="base drop rate"):
        excitation_keep_mask(torch.ones(1, 2), p=p)


def test_a_rate_near_zero_is_exact_where_the_printed_formula_cancels():
    keep = excitation_keep_probability(torch.tensor([[1.0, 0.0]]), p=1e-6)
    assert keep.tolist() == [[0.0, 1.0]]
    assert printed(torch.tensor(1.0), 1 - 1e-6, 2).item() != 0.0  # what is avoided


def test_rounding_never_leaves_zero_to_one_where_the_printed_formula_does():
    above = torch.tensor([[0.9999999, 1.0000001, -1e-9]])
    keep = excitation_keep_probability(above, p=0.9, n=2048)
    assert ((keep >= 0) & (keep <= 1)).all()
    assert printed(torch.tensor(0.9999999), 1 - 0.9, 2048).item() < 0  # what is avoided


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_worked_on_in_single_precision(dtype):
    p_eb = torch.full((2, 4096), 1 / 4096, dtype=dtype)
    keep = excitation_keep_probability(p_eb, p=0.5)
    assert keep.dtype == torch.float32
    assert torch.allclose(keep, torch.tensor(0.5), atol=1e-3)


def test_mass_that_was_lost_means_fewer_drops_and_is_not_made_up_for():
    p_eb = torch.tensor([[0.2, 0.2, 0.2, 0.2, 0.2]])
    whole, half = excitation_keep_probability(p_eb), excitation_keep_probability(p_eb / 2)
    assert (half > whole).all()
    assert half[0, 0].item() == pytest.approx(printed(0.1, 0.5, 5))


def test_units_without_evidence_are_kept_even_by_the_largest_uniform_number(monkeypatch):
    largest = 1 - 2**-24  # of torch.rand in float32
    monkeypatch.setattr(torch, "rand", lambda shape, **kw: torch.full(shape, largest))
    for p in (0.1, 1 / 3, 0.49, 0.5, 0.51, 0.75, 0.9, 0.999):
        assert excitation_keep_mask(torch.zeros(1, 3), p=p).all()
        assert not excitation_keep_mask(torch.tensor([[0.9, 0.1]]), p=p)[0, 0]


# ---------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("n", "p"), [(2, 0.5), (5, 0.25), (5, 0.75), (16, 0.9)])
def test_units_are_kept_as_often_as_their_probability_says(n, p, inverse):
    generator = torch.Generator().manual_seed(n)
    p_eb = torch.rand(1, n, generator=generator) ** 3
    p_eb /= p_eb.sum()
    draws = 20_000
    mask = excitation_keep_mask(p_eb.expand(draws, n), p, inverse=inverse, generator=generator)
    expected = excitation_keep_probability(p_eb, p, inverse=inverse)[0]
    error = (expected * (1 - expected) / draws).sqrt()
    assert ((mask.float().mean(0) - expected).abs() <= 4.5 * error + 1e-6).all()


def test_the_units_of_a_layer_are_dropped_independently():
    p_eb = torch.full((20_000, 2), 0.5)
    mask = excitation_keep_mask(p_eb, 0.5, generator=torch.Generator().manual_seed(0)).float()
    assert torch.corrcoef(mask.T)[0, 1].abs() < 0.03


def test_masks_are_reproducible():
    p_eb = torch.rand(3, 4)
    first, again = (excitation_keep_mask(p_eb, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)


def test_n_may_differ_between_examples():
    p_eb = torch.full((2, 8), 0.125)
    keep = excitation_keep_probability(p_eb, 0.5, n=torch.tensor([[8], [2]]))
    assert keep[0, 0].item() == pytest.approx(0.5)
    assert keep[1, 0].item() == pytest.approx(printed(0.125, 0.5, 2))


# ---------------------------------------------------------------------------------------------- inverse


def test_the_inverse_drops_the_units_with_the_least_evidence():
    p_eb = torch.tensor([[0.7, 0.2, 0.1, 0.0]], dtype=torch.float64)
    keep = excitation_keep_probability(p_eb, 0.5, inverse=True)[0]
    assert keep[0] > keep[1] > keep[2] > keep[3] == 0
    for unit in range(3):
        odds = 0.5 / 0.5 * (1 - p_eb[0, unit]) / p_eb[0, unit] / 3  # logit C - logit p_EB - log(N - 1)
        assert keep[unit].item() == pytest.approx((1 / (1 + odds)).item())


def test_the_inverse_and_eq_5_1_agree_where_all_units_hold_the_same():
    uniform = torch.full((1, 8), 0.125)
    both = [excitation_keep_probability(uniform, 0.3, inverse=inverse) for inverse in (False, True)]
    assert torch.allclose(both[0], torch.tensor(0.7))
    assert torch.allclose(both[1], torch.tensor(0.7))


def test_the_inverse_keeps_an_example_without_any_evidence_whole():
    p_eb = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert excitation_keep_probability(p_eb, inverse=True).tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert all(excitation_keep_mask(p_eb, inverse=True)[0].all() for _ in range(50))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5, 1.5])
@pytest.mark.parametrize("function", [excitation_keep_probability, excitation_keep_mask])
def test_what_are_no_probabilities_is_refused(function, value):
    with pytest.raises(ValueError, match="winning probabilities"):
        function(torch.tensor([[0.5, value, 0.0]]))


@pytest.mark.parametrize("function", [excitation_keep_probability, excitation_keep_mask])
def test_an_empty_batch_has_an_empty_answer(function):
    assert function(torch.zeros(0, 7)).shape == (0, 7)
