"""The interpolation between levels against a loop over pixels."""

import itertools

import pytest
import torch

from captum_ext.perturbation import Perturbation, blur_pyramid

A, N, C, T, H, W = 2, 3, 4, 5, 6, 7


def levels_of(n_levels, channel_axis, shape=(N, C, T, H, W), dtype=torch.float64):
    levels = [torch.randn(shape, dtype=dtype) for _ in range(n_levels)]
    return [level.movedim(1, channel_axis) for level in levels]


def slow_perturbation(masks, levels, channel_axis):
    """Pixel by pixel; the mask's value times the number of intervals lies between two levels."""
    shown = torch.empty(len(masks), *levels[0].shape, dtype=masks.dtype).movedim(1 + channel_axis, -1)
    top = len(levels) - 1
    by_channel = [level.movedim(channel_axis, -1) for level in levels]
    for a, *pixel in itertools.product(*map(range, masks.shape)):
        place = tuple(pixel)
        position = masks[(a, *place)] * top
        lower = min(int(position), top - 1)
        share = position - lower
        shown[(a, *place)] = (1 - share) * by_channel[lower][place] + share * by_channel[lower + 1][place]
    return shown.movedim(-1, 1 + channel_axis)


def between_levels(shape, n_levels):
    """Masks that keep away from the levels, where the slope jumps."""
    intervals = n_levels - 1
    return (torch.randint(intervals, shape) + 0.1 + 0.8 * torch.rand(shape, dtype=torch.float64)) / intervals


@pytest.mark.parametrize("channel_axis", [1, 2])
@pytest.mark.parametrize("n_levels", [2, 3, 8])
def test_pixels_are_interpolated_between_two_levels(n_levels, channel_axis):
    levels = levels_of(n_levels, channel_axis)
    masks = between_levels((A, N, T, H, W), n_levels).requires_grad_()
    slow = slow_perturbation(masks, levels, channel_axis)
    fast = Perturbation(levels, channel_axis)(masks)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    upstream = torch.randn_like(slow)
    (gradient,) = torch.autograd.grad(fast, masks, upstream)
    (slow_gradient,) = torch.autograd.grad(slow, masks, upstream)
    torch.testing.assert_close(gradient, slow_gradient, rtol=0, atol=1e-11)


@pytest.mark.parametrize("channel_axis", [1, 2])
def test_float32_agrees_to_its_precision(channel_axis):
    levels = levels_of(8, channel_axis)
    masks = between_levels((A, N, T, H, W), 8)
    single = Perturbation([level.float() for level in levels], channel_axis)(masks.float())
    assert single.dtype == torch.float32
    slow = slow_perturbation(masks, levels, channel_axis)
    torch.testing.assert_close(single.double(), slow, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channel_axis", [1, 2])
@pytest.mark.parametrize("n_levels", [2, 5])
def test_gradients_pass_gradcheck(n_levels, channel_axis):
    levels = levels_of(n_levels, channel_axis, shape=(1, 2, 3, 4, 5))
    masks = between_levels((2, 1, 3, 4, 5), n_levels).requires_grad_()
    assert torch.autograd.gradcheck(Perturbation(levels, channel_axis), masks)


def test_the_comparison_rejects_exchanged_levels():
    levels = levels_of(4, 1)
    masks = between_levels((A, N, T, H, W), 4)
    exchanged = [levels[0], levels[2], levels[1], levels[3]]
    difference = Perturbation(levels, 1)(masks) - slow_perturbation(masks, exchanged, 1)
    assert difference.abs().max() > 0.1


def test_the_comparison_rejects_one_interval_for_the_whole_pyramid():
    levels = levels_of(4, 1)
    masks = between_levels((A, N, T, H, W), 4)
    difference = Perturbation(levels, 1)(masks) - slow_perturbation(masks, [levels[0], levels[-1]], 1)
    assert difference.abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_levels", [2, 3, 8])
def test_a_mask_of_ones_shows_exactly_the_input_and_one_of_zeros_the_first_level(n_levels, dtype):
    levels = levels_of(n_levels, 1, dtype=dtype)
    perturb = Perturbation(levels, 1)
    assert torch.equal(
        perturb(torch.zeros(A, N, T, H, W, dtype=dtype)), levels[0].expand(A, -1, -1, -1, -1, -1)
    )
    assert torch.equal(
        perturb(torch.ones(A, N, T, H, W, dtype=dtype)), levels[-1].expand(A, -1, -1, -1, -1, -1)
    )


def test_masks_at_a_level_show_that_level():
    levels = levels_of(5, 1)
    perturb = Perturbation(levels, 1)
    for number, level in enumerate(levels):
        shown = perturb(torch.full((1, N, T, H, W), number / 4, dtype=torch.float64))
        torch.testing.assert_close(shown[0], level, rtol=0, atol=1e-14)


def test_the_slope_at_a_level_is_the_one_towards_the_next_and_at_one_the_last():
    levels = levels_of(5, 1)
    for number, (below, above) in {0: (0, 1), 2: (2, 3), 4: (3, 4)}.items():
        masks = torch.full((1, N, T, H, W), number / 4, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(Perturbation(levels, 1)(masks).sum(), masks)
        torch.testing.assert_close(slope[0], 4 * (levels[above] - levels[below]).sum(1))


def test_masks_of_ones_and_zeros_show_pixels_of_the_input_and_of_its_blur():
    x = torch.randn(N, C, T, H, W, dtype=torch.float64)
    levels = blur_pyramid(x, 8, 3.0)
    masks = torch.randint(2, (A, N, T, H, W)).double()
    expected = torch.where(masks.unsqueeze(2) == 1, x, levels[0])
    torch.testing.assert_close(Perturbation(levels, 1)(masks), expected, rtol=0, atol=1e-14)
