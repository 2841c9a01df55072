"""Correlation of maps against sums and ranks by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.metrics.functional import map_correlation

VALUES = st.lists(st.integers(-3, 3).map(float), min_size=6, max_size=6)


def pearson(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return covariance / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def ranks(a):
    return [sum(y < x for y in a) + (sum(y == x for y in a) + 1) / 2 for x in a]


def expected(a, b, similarity):
    constant = [len(set(values)) == 1 for values in (a, b)]
    if any(constant):
        return float(all(constant))
    return pearson(ranks(a), ranks(b)) if similarity == "spearman" else pearson(a, b)


@given(VALUES, VALUES, st.sampled_from(["spearman", "pearson"]), st.booleans())
def test_it_equals_the_textbook_with_ties(a, b, similarity, absolute):
    maps = torch.tensor([a, b], dtype=torch.float64).view(2, 1, 2, 3)
    found = map_correlation(maps, maps.flip(0), similarity, absolute)
    if absolute:
        a, b = [abs(x) for x in a], [abs(x) for x in b]
    assert found.tolist() == pytest.approx([expected(a, b, similarity)] * 2, abs=1e-12)


@pytest.mark.parametrize("similarity", ["spearman", "pearson"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_map_is_exactly_like_itself_and_unlike_its_negative_at_any_scale(similarity, scale):
    maps = scale * torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert map_correlation(maps, maps, similarity).tolist() == [1, 1, 1]
    assert map_correlation(maps, -maps, similarity).tolist() == pytest.approx([-1] * 3, abs=1e-12)
    assert map_correlation(maps, -maps, similarity, absolute=True).tolist() == [1, 1, 1]


@pytest.mark.parametrize("similarity", ["spearman", "pearson"])
def test_the_mean_over_all_orders_of_a_map_is_0(similarity):
    orders = torch.tensor(list(itertools.permutations([0.0, 1.0, 5.0, 7.0, 7.5])))
    fixed = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0]).expand_as(orders)
    found = map_correlation(fixed, orders, similarity)
    assert found.abs().max() > 0.5
    assert found.mean().abs() < 1e-12


def test_ranks_do_not_see_what_a_monotone_function_does_and_values_do():
    maps = torch.rand(2, 9, generator=torch.Generator().manual_seed(1))
    assert map_correlation(maps, maps.exp() ** 3).tolist() == [1, 1]
    assert (map_correlation(maps, maps.exp() ** 3, "pearson") < 1).all()


def test_a_map_that_is_constant_but_for_rounding_counts_as_constant():
    noise = 0.1 + 1e-8 * torch.rand(1, 50, dtype=torch.float64)
    other = torch.rand(1, 50, dtype=torch.float64)
    assert map_correlation(noise, other).item() == 0
    assert map_correlation(noise, torch.zeros_like(noise)).item() == 1


@pytest.mark.parametrize(
    ("maps", "others", "error", "message"),
    [
        (torch.rand(2, 3), torch.rand(2, 4), ValueError, "same shape"),
        (torch.rand(3), torch.rand(3), ValueError, r"\(N, ...\)"),
        (torch.rand(0, 3), torch.rand(0, 3), ValueError, "empty"),
        (torch.rand(2, 3), torch.full((2, 3), math.nan), ValueError, "others must be finite"),
        (torch.ones(2, 3, dtype=torch.int64), torch.rand(2, 3), TypeError, "int64"),
    ],
)
def test_bad_maps_are_refused_by_name(maps, others, error, message):
    with pytest.raises(error, match=message):
        map_correlation(maps, others)


def test_an_unknown_similarity_is_refused():
    with pytest.raises(ValueError, match="'cosine'"):
        map_correlation(torch.rand(1, 2), torch.rand(1, 2), "cosine")
