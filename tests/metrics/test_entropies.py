"""Shannon and histogram entropy against loops; histograms that merge."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.metrics import HistogramEntropy, ShannonEntropy
from captum_ext.metrics.functional import histogram_entropy, shannon_entropy
from captum_ext.metrics.functional.histogram_entropy import histograms


def activations(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).relu()


def entropy(weights):
    total = sum(weights)
    return -sum(w / total * math.log(w / total) for w in weights if w > 0)


@pytest.mark.parametrize("shape", [(1, 2), (3, 7), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shannon_equals_its_formula(shape, dtype):
    h = activations(*shape).to(dtype) + 1e-3
    expected = [entropy(row) for row in h.flatten(1).tolist()]
    assert shannon_entropy(h).tolist() == pytest.approx(expected, rel=1e-9)


def test_shannon_is_the_logarithm_of_the_number_of_equal_units_and_nan_of_none():
    h = torch.tensor([[2.0, 2.0, 2.0, 0.0], [0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = shannon_entropy(h)
    assert found[:2].tolist() == pytest.approx([math.log(3), 0])
    assert found[2].isnan()
    metric = ShannonEntropy()
    metric.update(h)
    assert metric.summary().n == 2


def test_shannon_survives_values_whose_sum_overflows():
    huge = torch.full((1, 4), 1e308, dtype=torch.float64)
    assert shannon_entropy(huge).item() == pytest.approx(math.log(4))


def test_shannon_is_never_below_the_bound_that_the_table_of_the_thesis_breaks():
    p = activations(5, 40) + 1e-9
    p = p / p.sum(1, keepdim=True)
    assert (shannon_entropy(p) >= -p.double().amax(1).log() - 1e-9).all()
    assert -math.log(0.011) > 1.64  # Table 5.3, CIFAR-100, standard dropout


def histogram_of_one_unit(values, num_bins):
    """Loops, with the range doubled from below until it holds all values."""
    if max(values) == 0:
        return [len(values)]
    width = 2.0**-200
    while width <= max(values):
        width *= 2
    counts = [0] * num_bins
    for value in values:
        counts[math.floor(value / width * num_bins)] += 1
    return counts


@pytest.mark.parametrize("num_bins", [2, 7, 100])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 300.0])
def test_histogram_entropy_equals_loops(num_bins, scale):
    h = scale * activations(30, 5).double()
    h[:, 1] = 0
    expected = [entropy(histogram_of_one_unit(column, num_bins)) for column in h.T.tolist()]
    assert histogram_entropy(h, num_bins).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert expected[1] == 0


def test_convention_the_range_of_a_unit_ends_below_the_next_power_of_two():
    # 1.0 needs the range 0..2, whose first of two bins holds 0.9 as well; 0.99 needs 0..1.
    assert histogram_entropy(torch.tensor([[0.9], [1.0]]), num_bins=2).item() == pytest.approx(math.log(2))
    assert histogram_entropy(torch.tensor([[0.4], [0.6]]), num_bins=2).item() == pytest.approx(math.log(2))
    assert histogram_entropy(torch.tensor([[0.4], [0.6], [1.5]]), num_bins=2).item() == pytest.approx(
        entropy([2, 1])
    )


def test_scaling_by_a_power_of_two_changes_nothing():
    h = activations(20, 6)
    assert torch.equal(histogram_entropy(h), histogram_entropy(h * 2.0**-30))


@given(
    st.lists(
        st.lists(st.floats(0, 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=6),
        min_size=1,
        max_size=5,
    ),
    st.integers(2, 9),
)
def test_parts_of_any_range_add_up_exactly(parts, num_bins):
    metric = HistogramEntropy(1, num_bins)
    for part in parts:
        metric.update(torch.tensor(part)[:, None])
    whole = torch.cat([torch.tensor(part) for part in parts])[:, None]
    assert metric.compute().item() == pytest.approx(histogram_entropy(whole, num_bins).item(), rel=1e-12)
    assert metric.histograms[:, :-1].sum() == len(whole)


def test_negative_control_counts_of_two_ranges_added_as_they_are_would_differ():
    small, large = torch.tensor([[0.1], [0.9]]), torch.tensor([[100.0], [70.0]])
    as_they_are = sum(histograms(part, 5, None)[0, :-1] for part in (small, large)).tolist()
    assert as_they_are == [1, 0, 1, 1, 1]
    whole = histogram_entropy(torch.cat([small, large]), 5).item()
    assert whole == pytest.approx(entropy([2, 1, 1]))
    assert whole != pytest.approx(entropy(as_they_are), rel=0.1)


@pytest.mark.parametrize("value", [0.0, 2.0**-1074, 2.0**-149, 1e-310, 3.4e38, 1.7e308])
def test_the_smallest_and_largest_numbers_are_counted(value):
    metric = HistogramEntropy(1, 4)
    for number in (value, 0.0, 1.0):
        metric.update(torch.tensor([[number]], dtype=torch.float64))
    assert metric.histograms[:, :-1].sum() == 3
    assert 0 <= metric.compute() <= math.log(4)


def test_with_limits_bins_are_those_of_a_plain_histogram():
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).clamp(-2, 2)
    values[0], values[1] = -2, 2  # both ends belong
    for unit, found in enumerate(histogram_entropy(values, 8, (-2.0, 2.0)).tolist()):
        counts = torch.histc(values[:, unit], bins=8, min=-2, max=2).tolist()
        assert found == pytest.approx(entropy(counts), rel=1e-12)


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="num_bins must be at least 2, got 1"):
        HistogramEntropy(3, num_bins=1)
    with pytest.raises(ValueError, match=r"limits must be two finite numbers, the lower first, got \(1, 0\)"):
        HistogramEntropy(3, limits=(1, 0))
    with pytest.raises(ValueError, match="num_units"):
        HistogramEntropy(0)
    with pytest.raises(ValueError, match=r"values must be at least 0, got -1\.0"):
        histogram_entropy(torch.tensor([[-1.0]]))
    with pytest.raises(ValueError, match=r"inside limits, 0\.0\.\.1\.0, but they reach from 0\.5 to 2\.0"):
        histogram_entropy(torch.tensor([[0.5], [2.0]]), limits=(0.0, 1.0))
    with pytest.raises(ValueError, match="values has 4 units per example, but the metric was made for 3"):
        HistogramEntropy(3).update(torch.rand(2, 4))
    with pytest.raises(ValueError, match="example 0, unit 0 is nan"):
        shannon_entropy(torch.full((1, 2), math.nan))
