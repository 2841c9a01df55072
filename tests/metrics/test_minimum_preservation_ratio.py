"""The smallest area that keeps a probability, against a loop over areas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.metrics import MinimumPreservationRatio
from captum_ext.metrics.functional import minimum_preservation_ratio

TENTHS = st.integers(0, 10).map(lambda tenths: tenths / 10)


@given(
    st.lists(st.tuples(st.integers(1, 10).map(lambda tenths: tenths / 10), TENTHS), min_size=1, max_size=5),
    TENTHS,
    st.sampled_from([0.5, 0.9, 1.0]),
)
def test_it_is_the_smallest_area_that_keeps_the_share_in_any_order(rungs, original, threshold):
    areas, probabilities = (torch.tensor([rung[i] for rung in rungs], dtype=torch.float64) for i in (0, 1))
    found = minimum_preservation_ratio(
        areas, probabilities[None], torch.tensor([original], dtype=torch.float64), threshold
    )
    keeping = [area for area, probability in rungs if probability >= threshold * original]
    assert found.ratios.item() == (min(keeping) if keeping else 1.0)
    assert found.kept.item() == bool(keeping)


def test_one_ladder_for_all_is_that_ladder_for_each():
    areas = torch.tensor([0.05, 0.1, 0.2])
    probabilities = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    original = torch.full((4,), 0.8)
    shared = minimum_preservation_ratio(areas, probabilities, original)
    each = minimum_preservation_ratio(areas.expand(4, 3), probabilities, original)
    assert torch.equal(shared.ratios, each.ratios)
    numbers = minimum_preservation_ratio((0.05, 0.1, 0.2), probabilities, original)
    assert numbers.ratios.tolist() == pytest.approx(shared.ratios.tolist(), rel=1e-6)
    assert 0 < shared.kept.sum() < 4


def test_keeping_exactly_what_there_was_counts():
    third = torch.tensor([1 / 3])
    assert minimum_preservation_ratio(torch.tensor([0.3]), third[None], third).kept.all()
    less = torch.nextafter(third, torch.zeros(1))
    assert not minimum_preservation_ratio(torch.tensor([0.3]), less[None], third).kept.any()


def test_the_metric_counts_the_clips_that_no_area_kept_as_whole_clips():
    metric = MinimumPreservationRatio()
    assert metric.n_unkept() == 0
    metric.update(torch.tensor([0.25]), torch.tensor([[0.5], [0.1]]), torch.tensor([0.5, 0.5]))
    metric.update(torch.tensor([0.5]), torch.tensor([[0.1]]), torch.tensor([0.5]))
    assert metric.n_unkept() == 2
    assert metric.compute().item() == (0.25 + 1 + 1) / 3
    assert repr(metric) == "MinimumPreservationRatio(threshold=1.0)"
    metric.reset()
    assert metric.n_unkept() == 0


AREAS, KEPT, WHOLE = torch.tensor([0.1, 0.2]), torch.rand(3, 2), torch.rand(3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"areas": torch.tensor([0.0, 0.2])}, ValueError, "above 0"),
        ({"areas": torch.tensor([10.0, 20.0])}, ValueError, r"areas must lie in 0..1"),
        ({"areas": torch.tensor([0.1])}, ValueError, r"\(A,\) or \(N, A\)"),
        ({"areas": torch.tensor([1, 1])}, TypeError, "int64"),
        ({"probabilities": KEPT[0]}, ValueError, r"\(N, A\)"),
        ({"probabilities": KEPT * math.nan}, ValueError, "probabilities must lie in 0..1 and not be NaN"),
        ({"probabilities": KEPT[:0], "original": WHOLE[:0]}, ValueError, "probabilities is empty"),
        ({"original": WHOLE[:2]}, ValueError, r"original \(N,\)"),
        ({"original": WHOLE + 1}, ValueError, "original must lie in 0..1"),
        ({"threshold": 0.0}, ValueError, "threshold"),
        ({"threshold": 1.5}, ValueError, "threshold"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, error, message):
    with pytest.raises(error, match=message):
        minimum_preservation_ratio(**{"areas": AREAS, "probabilities": KEPT, "original": WHOLE, **change})


def test_a_bad_threshold_is_refused_before_any_clip():
    with pytest.raises(ValueError, match="threshold"):
        MinimumPreservationRatio(threshold=0)
