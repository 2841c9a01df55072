"""Areas of curves against sums by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.metrics.functional import abpc, aopc, area_under_curve

CURVES = st.lists(st.floats(-5, 5), min_size=2, max_size=9)


def trapezoid(curve):
    return sum((a + b) / 2 for a, b in itertools.pairwise(curve)) / (len(curve) - 1)


@given(CURVES)
def test_the_area_is_that_of_trapezoids(curve):
    assert area_under_curve(torch.tensor([curve], dtype=torch.float64)).item() == pytest.approx(
        trapezoid(curve), abs=1e-12
    )


@given(CURVES)
def test_aopc_is_the_mean_drop(curve):
    expected = sum(curve[0] - value for value in curve) / len(curve)
    assert aopc(torch.tensor([curve], dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-12)


@given(CURVES)
def test_abpc_is_the_area_of_the_difference_and_turns_its_sign_with_the_order(curve):
    most = torch.tensor([curve], dtype=torch.float64)
    least = most.flip(1) * 2
    expected = trapezoid((least - most)[0].tolist())
    assert abpc(most, least).item() == pytest.approx(expected, abs=1e-12)
    assert abpc(least, most).item() == pytest.approx(-expected, abs=1e-12)


def test_constant_curves_have_their_height_as_area_and_no_drop():
    curves = torch.tensor([[0.25] * 4, [1.0] * 4])
    assert area_under_curve(curves).tolist() == [0.25, 1.0]
    assert aopc(curves).tolist() == [0, 0]


@pytest.mark.parametrize("function", [area_under_curve, aopc, lambda curves: abpc(curves, curves)])
@pytest.mark.parametrize(
    ("curves", "error", "message"),
    [
        (torch.rand(3, 1), ValueError, "two points"),
        (torch.rand(3), ValueError, "shape"),
        (torch.rand(0, 3), ValueError, "empty"),
        (torch.full((1, 3), math.nan), ValueError, "finite"),
        (torch.ones(1, 3, dtype=torch.int64), TypeError, "int64"),
    ],
)
def test_bad_curves_are_refused(function, curves, error, message):
    with pytest.raises(error, match=message):
        function(curves)


def test_curves_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        abpc(torch.rand(2, 3), torch.rand(2, 4))
