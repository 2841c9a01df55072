"""Conservative filters and alpha against loops."""

import math
import random

import pytest
import torch

from captum_ext.metrics import ConservativeFilters, TargetDomainShare
from captum_ext.metrics.functional import conservative_filters, filter_change, target_domain_share


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (3, 2, 4, 5)])
def test_the_change_is_the_euclidean_norm(shape):
    weight, reference = normal(*shape), normal(*shape, seed=1)
    changes, sizes = [], []
    for k in range(shape[0]):
        after, before = weight[k].flatten().tolist(), reference[k].flatten().tolist()
        changes.append(math.sqrt(sum((a - b) ** 2 for a, b in zip(after, before, strict=True))))
        sizes.append(math.sqrt(sum(b**2 for b in before)))
    assert filter_change(weight, reference).tolist() == pytest.approx(changes, rel=1e-9)
    relative = [change / size for change, size in zip(changes, sizes, strict=True)]
    assert filter_change(weight, reference, relative=True).tolist() == pytest.approx(relative, rel=1e-9)


def test_relative_to_a_filter_of_zeros_it_stayed_or_moved_infinitely():
    reference = torch.zeros(2, 3)
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert filter_change(weight, reference, relative=True).tolist() == [0, math.inf]


def test_filters_that_moved_less_than_the_threshold_count():
    reference = normal(4, 3)
    weight = reference.clone()
    weight[:, 0] += torch.tensor([0.0, 0.25, 0.5, -0.2])
    assert conservative_filters(weight.double(), reference.double(), 0.3).tolist() == [
        True,
        True,
        False,
        True,
    ]
    metric = ConservativeFilters(0.3)
    metric.update(weight, reference)
    metric.update(reference, reference)  # a second network, which did not train at all
    assert metric.compute() == pytest.approx((3 + 4) / 2)
    assert metric.summary().n == 2


def test_relative_thresholds_are_free_of_scale():
    weight, reference = normal(6, 5), normal(6, 5, seed=1)
    small = conservative_filters(weight * 1e-3, reference * 1e-3, 1.2, relative=True)
    assert small.tolist() == conservative_filters(weight, reference, 1.2, relative=True).tolist()
    assert 0 < small.sum() < 6


def test_the_form_of_section_3_4_asks_for_both():
    reference = torch.zeros(4, 2)
    weight = torch.tensor([[0.01, 0], [0.01, 0], [1, 0], [1, 0]])
    alpha = torch.tensor([0.05, 0.5, 0.05, 0.5])
    assert conservative_filters(weight, reference, 0.02, target_share=alpha).tolist() == [True, *[False] * 3]
    assert conservative_filters(weight, reference, 0.02).tolist() == [True, True, False, False]
    strict = conservative_filters(weight, reference, 0.02, target_share=alpha, max_target_share=0.05)
    assert not strict.any()  # below, not at


def alpha_by_sorting(responses, is_target, top_k, balance, shuffle):
    """Share of targets among the top k, ties broken at random."""
    order = list(range(len(responses)))
    shuffle(order)
    top = sorted(order, key=lambda i: -responses[i])[:top_k]
    inside = [sum(is_target[i] == domain for i in top) for domain in (False, True)]
    if balance:
        inside = [n / is_target.count(domain) for n, domain in zip(inside, (False, True), strict=True)]
    return inside[1] / sum(inside)


@pytest.mark.parametrize("top_k", [1, 4, 20, 50])
@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("shape", [(), (3, 5)])
def test_alpha_equals_sorting_the_whole_pool(top_k, balance, shape):
    maps = normal(21, 4, *shape)
    is_target = [k % 3 == 0 for k in range(21)]
    found = target_domain_share(maps, torch.tensor(is_target), top_k, balance)
    for channel in range(4):
        responses = [maps[i, channel].max().item() for i in range(21)]
        expected = alpha_by_sorting(responses, is_target, top_k, balance, lambda order: None)
        assert found[channel].item() == pytest.approx(expected, rel=1e-12)


def test_parts_of_a_pool_give_the_same_alpha():
    maps, is_target = normal(21, 4, 3), torch.arange(21) % 3 == 0
    metric = TargetDomainShare(4, top_k=6)
    for part in (slice(0, 1), slice(1, 15), slice(15, 21)):
        metric.update(maps[part], is_target[part])
    assert torch.equal(metric.compute(), target_domain_share(maps, is_target, 6))


def test_images_that_tie_at_the_cut_count_as_they_would_on_average():
    shuffle = random.Random(0).shuffle
    responses, is_target = [3.0, 2.0, 2.0, 2.0, 1.0, 2.0], [True, False, False, True, True, False]
    drawn = [alpha_by_sorting(responses, is_target, 3, False, shuffle) for _ in range(4000)]
    found = target_domain_share(torch.tensor(responses)[:, None], torch.tensor(is_target), 3).item()
    assert found == pytest.approx((1 + 2 * 1 / 4) / 3)
    assert found == pytest.approx(sum(drawn) / len(drawn), abs=0.02)


def alpha_by_definition(responses, is_target, top_k, balance):
    """Share of targets, all images that tie at the cut counting alike."""
    last = sorted(responses, reverse=True)[:top_k][-1]
    tied = responses.count(last)
    free = min(top_k, len(responses)) - sum(r > last for r in responses)
    inside = [0.0, 0.0]
    for response, target in zip(responses, is_target, strict=True):
        inside[target] += (response > last) + (response == last) * free / tied
    if balance:
        inside = [n / is_target.count(domain) for n, domain in zip(inside, (False, True), strict=True)]
    return inside[1] / sum(inside)


@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("top_k", [1, 5, 30])
@pytest.mark.parametrize("n_parts", [1, 2, 7])
def test_all_images_that_tie_count_though_few_are_kept(balance, top_k, n_parts):
    """A filter that never answers, one that does for few images, and coarse responses."""
    n, is_target = 200, [k % 10 == 0 for k in range(200)]
    columns = [[0.0] * n, [float(k < 20) * (k + 1) for k in range(n)], [float(k * 7 % 4) for k in range(n)]]
    metric = TargetDomainShare(3, top_k=top_k, balance=balance)
    maps = torch.tensor(columns).T
    for part in torch.arange(n).chunk(n_parts):
        metric.update(maps[part], torch.tensor(is_target)[part])
    expected = [alpha_by_definition(column, is_target, top_k, balance) for column in columns]
    assert metric.compute().tolist() == pytest.approx(expected, rel=1e-12)
    assert expected[0] == pytest.approx(0.5 if balance else 0.1)


def test_balancing_undoes_the_size_of_a_domain():
    responses = torch.tensor([[5.0], [4.0], [1.0], [1.0], [0.5], [0.2]])
    is_target = torch.tensor([True, False, False, False, False, False])
    assert target_domain_share(responses, is_target, 2).item() == pytest.approx(0.5)
    assert target_domain_share(responses, is_target, 2, balance=True).item() == pytest.approx(5 / 6)


def test_one_domain_alone_has_no_alpha():
    metric = TargetDomainShare(3, top_k=2)
    metric.update(normal(4, 3), torch.ones(4, dtype=torch.bool))
    assert metric.compute().isnan().all()
    with pytest.raises(ValueError, match="both domains"):
        target_domain_share(normal(4, 3), torch.ones(4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("weight", "reference", "error", "message"),
    [
        (torch.ones(3, 2), torch.ones(2, 3), ValueError, r"shape of weight, \(3, 2\), got \(2, 3\)"),
        (torch.ones(3), torch.ones(3), ValueError, "biases are not counted"),
        (torch.ones(3, 2), torch.ones(3, 2, dtype=torch.int64), TypeError, "reference must be a floating"),
        (torch.full((3, 2), math.nan), torch.ones(3, 2), ValueError, "weight must be finite"),
    ],
)
def test_bad_weights_are_refused_by_name(weight, reference, error, message):
    with pytest.raises(error, match=message):
        conservative_filters(weight, reference, 0.1)


def test_bad_thresholds_and_shares_are_refused_by_name():
    with pytest.raises(ValueError, match="threshold must be finite and above 0"):
        ConservativeFilters(0)
    with pytest.raises(ValueError, match="max_target_share"):
        ConservativeFilters(1, max_target_share=0)
    for share, message in (
        (torch.rand(3), r"shape \(2,\), got \(3,\)"),
        (torch.tensor([0.1, math.nan]), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            conservative_filters(torch.ones(2, 3), torch.ones(2, 3), 0.1, target_share=share)
    with pytest.raises(TypeError, match="is_target must be a bool"):
        target_domain_share(normal(4, 3), torch.ones(4))
    with pytest.raises(ValueError, match=r"shape \(4,\), one per image"):
        target_domain_share(normal(4, 3), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="top_k"):
        TargetDomainShare(3, top_k=0)
    with pytest.raises(ValueError, match="num_filters"):
        TargetDomainShare(0)
    with pytest.raises(ValueError, match="3 filters per example, but the metric was made for 5"):
        TargetDomainShare(5).update(normal(4, 3), torch.ones(4, dtype=torch.bool))
