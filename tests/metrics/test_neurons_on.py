"""Neurons on, ever on, dead, and the peak of p_EB, against loops."""

import math

import pytest
import torch

from captum_ext.metrics import DeadNeurons, NeuronsEverOn, NeuronsOn, PeakExcitation
from captum_ext.metrics.functional import neurons_ever_on, neurons_on, peak_excitation


def activations(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).relu()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 3, 4, 5)])
@pytest.mark.parametrize("threshold", [0.0, 0.4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_on_ever_on_and_dead_equal_loops(shape, threshold, dtype):
    h = activations(*shape).to(dtype)
    rows = h.flatten(1).tolist()
    on = [sum(value > threshold for value in row) for row in rows]
    ever = [any(row[i] > threshold for row in rows) for i in range(len(rows[0]))]
    assert neurons_on(h, threshold).tolist() == on
    assert neurons_ever_on(h, threshold).tolist() == ever

    def value(metric):
        metric.update(h)
        return metric.compute().item()

    assert value(NeuronsOn(threshold)) == pytest.approx(sum(on) / len(on), rel=1e-12)
    assert value(NeuronsEverOn(len(ever), threshold)) == sum(ever)
    assert value(DeadNeurons(len(ever), threshold)) == len(ever) - sum(ever)


def test_it_is_the_number_of_units_less_the_zeros_of_apoz():
    h = activations(4, 9)
    apoz = (h == 0).double().mean()
    assert neurons_on(h).mean().item() == pytest.approx(9 * (1 - apoz.item()), rel=1e-12)


def test_a_unit_on_for_one_example_of_another_update_is_not_dead():
    metric = DeadNeurons(3)
    metric.update(torch.tensor([[1.0, 0.0, 0.0]]))
    metric.update(torch.tensor([[0.0, 2.0, 0.0]]))
    assert metric.compute() == 1


def test_exactly_at_the_threshold_a_unit_is_off():
    assert neurons_on(torch.tensor([[0.5, 0.5001]]), threshold=0.5).item() == 1


def test_the_peak_is_the_largest_probability_and_nan_without_excitation():
    p = torch.tensor([[[0.1, 0.2], [0.3, 0.4]], [[0.0, 0.0], [0.0, 0.0]], [[0.5, 0.0], [0.0, 0.0]]])
    peak = peak_excitation(p)
    assert peak[0].item() == pytest.approx(0.4)
    assert peak.isnan().tolist() == [False, True, False]
    metric = PeakExcitation()
    metric.update(p)
    assert metric.compute().item() == pytest.approx(0.45)
    assert metric.summary().n == 2


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (torch.ones(2, 3, dtype=torch.int64), TypeError, "activations must be a floating-point"),
        ([[1.0]], TypeError, "got list"),
        (torch.ones(3), ValueError, "batch axis"),
        (torch.ones(0, 3), ValueError, r"empty: its shape is \(0, 3\)"),
        (torch.tensor([[0.0, 1.0], [math.nan, 0.0]]), ValueError, "example 1, unit 0 is nan"),
    ],
)
def test_bad_activations_are_refused_by_name(values, error, message):
    with pytest.raises(error, match=message):
        neurons_on(values)


def test_relevance_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"sum to at most 1 .* a row sums to 1\.5"):
        peak_excitation(torch.tensor([[0.5, 0.5], [1.0, 0.5]]))
    with pytest.raises(ValueError, match=r"at least 0, got -0\.5"):
        peak_excitation(torch.tensor([[0.5, -0.5]]))


def test_another_number_of_units_than_declared_is_refused():
    metric = NeuronsEverOn(4)
    with pytest.raises(
        ValueError, match="activations has 3 units per example, but the metric was made for 4"
    ):
        metric.update(torch.ones(2, 3))
    assert metric.compute().isnan()


def test_a_bad_threshold_or_size_is_refused():
    with pytest.raises(ValueError, match="threshold must be finite"):
        NeuronsOn(math.inf)
    with pytest.raises(ValueError, match="num_units must be at least 1"):
        DeadNeurons(0)
