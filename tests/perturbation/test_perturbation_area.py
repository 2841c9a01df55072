"""The area constraint against a full sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.perturbation.area import area_loss
from captum_ext.perturbation.top_share import top_share

# The first call of autograd takes long on a busy machine.
unhurried = settings(deadline=None)


def sorted_loss(row, count):
    """The mean squared distance of the sorted row to ones followed by zeros."""
    template = torch.zeros_like(row)
    template[:count] = 1
    return ((row.sort(descending=True).values - template) ** 2).mean()


@st.composite
def rows_and_counts(draw, ties):
    n = draw(st.integers(1, 40))
    count = draw(st.integers(1, n))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    if ties:
        return torch.randint(draw(st.integers(1, 4)), (n,), generator=generator).double() / 3, count
    return torch.randperm(2 * n, generator=generator)[:n].double() / (2 * n), count


@unhurried
@given(st.one_of(rows_and_counts(ties=True), rows_and_counts(ties=False)))
def test_the_share_sums_to_the_count_and_prefers_larger_values(case):
    row, count = case
    share = top_share(row, count)
    assert share.shape == row.shape
    assert share.dtype == row.dtype
    assert 0 <= share.min() <= share.max() <= 1
    assert share.sum().item() == pytest.approx(count, abs=1e-6)
    larger = row[:, None] > row[None, :]
    assert ((share[:, None] == 1) | (share[None, :] == 0))[larger].all()


@unhurried
@given(rows_and_counts(ties=False))
def test_without_ties_the_share_marks_the_first_of_the_sorted_values(case):
    row, count = case
    marked = torch.zeros_like(row)
    marked[row.argsort(descending=True)[:count]] = 1
    assert torch.equal(top_share(row, count), marked)


@unhurried
@given(rows_and_counts(ties=True))
def test_equal_values_have_equal_shares(case):
    row, count = case
    share = top_share(row, count)
    assert (share[:, None] == share[None, :])[row[:, None] == row[None, :]].all()


@unhurried
@given(rows_and_counts(ties=True), st.randoms(use_true_random=False))
def test_the_share_follows_a_permutation(case, random):
    row, count = case
    order = list(range(len(row)))
    random.shuffle(order)
    assert torch.equal(top_share(row[order], count), top_share(row, count)[order])


def test_rows_of_any_leading_shape_are_shared_one_by_one():
    rows = torch.rand(2, 3, 7, dtype=torch.float64)
    expected = torch.stack([top_share(row, 4) for row in rows.flatten(0, 1)]).view_as(rows)
    assert torch.equal(top_share(rows, 4), expected)


@unhurried
@given(st.one_of(rows_and_counts(ties=True), rows_and_counts(ties=False)))
def test_the_loss_is_that_of_the_full_sort_ties_or_not(case):
    row, count = case
    loss = area_loss(row.view(1, 1, -1), [count])
    assert loss.item() == pytest.approx(sorted_loss(row, count).item(), abs=1e-6)


@unhurried
@given(rows_and_counts(ties=False))
def test_without_ties_the_gradient_is_that_of_the_full_sort(case):
    row, count = case
    row = row.requires_grad_()
    (fast,) = torch.autograd.grad(area_loss(row.view(1, 1, -1), [count]).sum(), row)
    (slow,) = torch.autograd.grad(sorted_loss(row, count), row)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-14)


def test_equal_values_have_equal_gradients():
    row = torch.tensor([0.2, 0.7, 0.7, 0.1, 0.7], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(area_loss(row.view(1, 1, 5), [2]).sum(), row)
    # Each of the three stands for 2/3 of a one, so that a full sort's gradient is shared among them.
    expected = torch.tensor([0.2, 0.7 - 2 / 3, 0.7 - 2 / 3, 0.1, 0.7 - 2 / 3], dtype=torch.float64) * 2 / 5
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)


def test_the_share_has_no_gradient_of_its_own():
    assert not top_share(torch.rand(5, requires_grad=True), 2).requires_grad


def test_groups_have_counts_of_their_own_and_average_their_rows():
    masks = torch.rand(2, 3, 11, dtype=torch.float64, requires_grad=True)
    counts = [4, 9]
    slow = torch.stack(
        [
            sum(sorted_loss(row, count) for row in group) / 3
            for group, count in zip(masks, counts, strict=True)
        ]
    )
    fast = area_loss(masks, counts)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    upstream = torch.tensor([1.0, -2.0], dtype=torch.float64)
    gradients = [torch.autograd.grad(loss, masks, upstream)[0] for loss in (fast, slow)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_gradients_pass_gradcheck():
    masks = torch.rand(2, 3, 11, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda masks: area_loss(masks, [4, 9]), masks)


@pytest.mark.parametrize("wrong", [3, 5])
def test_the_comparison_rejects_a_count_off_by_one(wrong):
    row = torch.rand(11, dtype=torch.float64)
    assert abs(area_loss(row.view(1, 1, -1), [4]).item() - sorted_loss(row, wrong).item()) > 1e-3


def test_the_comparison_rejects_an_ascending_sort():
    row = torch.rand(11, dtype=torch.float64)
    assert abs(area_loss(row.view(1, 1, -1), [4]).item() - sorted_loss(-row, 4).item()) > 1e-3


# Values alike within a tolerance


def slow_share(row, count, tolerance):
    """The share of each value, one by one."""
    last = sorted(row.tolist(), reverse=True)[count - 1]
    larger = [value > last + tolerance for value in row.tolist()]
    alike = [abs(value - last) <= tolerance for value in row.tolist()]
    left = (count - sum(larger)) / sum(alike)
    shares = [1.0 if a else left if b else 0.0 for a, b in zip(larger, alike, strict=True)]
    return torch.tensor(shares, dtype=row.dtype)


@unhurried
@given(rows_and_counts(ties=False), st.sampled_from([0.01, 0.11, 0.3, 2.0]))
def test_a_share_within_a_tolerance_is_that_of_the_values_one_by_one(case, tolerance):
    row, count = case
    tolerance += 1e-9  # values are apart by halves of n-ths, of which none is so
    share = top_share(row, count, tolerance)
    torch.testing.assert_close(share, slow_share(row, count, tolerance), rtol=0, atol=1e-12)
    assert share.sum().item() == pytest.approx(count, abs=1e-9)
    assert 0 <= share.min() <= share.max() <= 1


def test_each_row_has_its_own_tolerated_values_and_still_the_count_in_all():
    rows = torch.rand(2, 3, 41)
    share = top_share(rows, 9, 0.1)
    torch.testing.assert_close(share.sum(-1), torch.full((2, 3), 9.0))
    expected = torch.stack([slow_share(row, 9, 0.1) for row in rows.flatten(0, 1)]).view_as(rows)
    torch.testing.assert_close(share, expected)
    assert (top_share(rows, 9) - expected).abs().max() > 0.1  # the comparison tells them apart


def test_values_within_the_tolerance_of_the_last_that_is_kept_share_alike():
    row = torch.tensor([0.2, 0.7004, 0.7, 0.9, 0.6995, 0.1], dtype=torch.float64)
    shared = torch.tensor([0, 2 / 3, 2 / 3, 1, 2 / 3, 0], dtype=torch.float64)
    torch.testing.assert_close(top_share(row, 3, 1e-3), shared, rtol=0, atol=1e-15)
    assert top_share(row, 3).tolist() == [0, 1, 1, 1, 0, 0]
    assert top_share(row, 3, 1e-5).tolist() == [0, 1, 1, 1, 0, 0]


def test_values_alike_but_for_rounding_have_the_same_gradients_in_every_precision():
    row = 0.5 + 1e-8 * torch.rand(47, dtype=torch.float64)  # all 0.5 to float32
    row[[3, 30]] = torch.tensor([0.9, 0.1], dtype=torch.float64)

    def gradient(dtype, tolerance):
        values = row.to(dtype).requires_grad_()
        loss = area_loss(values.view(1, 1, -1), [11], tolerance)
        return torch.autograd.grad(loss.sum(), values)[0].double()

    single, double = gradient(torch.float32, 1e-3), gradient(torch.float64, 1e-3)
    torch.testing.assert_close(single, double, rtol=0, atol=1e-7)
    alike = double[torch.arange(47) % 27 != 3]
    torch.testing.assert_close(alike, alike[:1].expand_as(alike), rtol=0, atol=1e-9)
    assert (gradient(torch.float32, 0.0) - gradient(torch.float64, 0.0)).abs().max() > 0.02


def test_a_mask_that_meets_its_area_costs_nothing():
    row = torch.zeros(13, dtype=torch.float64)
    row[[2, 3, 11]] = 1
    assert area_loss(row.view(1, 1, -1), [3]).item() == 0
