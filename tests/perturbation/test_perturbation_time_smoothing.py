"""Smoothing of seeds along time against loops over frames (equation 12)."""

import math

import pytest
import torch

from captum_ext.perturbation.time_smoothing import TimeSmoothing

LENGTHS = [(1, 7), (2, 7), (3, 7), (3, 2), (2, 1)]  # dt and T; the last are shorter than the kernel


def slow_smoothing(seeds, dt, sigma):
    n_frames = seeds.shape[-3]
    result = torch.zeros_like(seeds)
    for t in range(n_frames):
        total = 0.0
        for other in range(max(0, t - dt), min(n_frames, t + dt + 1)):
            weight = math.exp(-((other - t) ** 2) / (0.6 * sigma))
            total += weight
            result[..., t, :, :] += weight * seeds[..., other, :, :]
        result[..., t, :, :] /= total
    return result


def seeds_of(n_frames):
    return torch.rand(2, 3, n_frames, 4, 5, dtype=torch.float64)


@pytest.mark.parametrize(("dt", "n_frames"), LENGTHS)
def test_seeds_are_the_weighted_means_of_equation_12(dt, n_frames):
    seeds = seeds_of(n_frames).requires_grad_()
    fast, slow = TimeSmoothing(dt, n_frames, seeds)(seeds), slow_smoothing(seeds, dt, sigma=dt)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    upstream = torch.randn_like(slow)
    gradients = [torch.autograd.grad(result, seeds, upstream)[0] for result in (fast, slow)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)
    single = TimeSmoothing(dt, n_frames, seeds.float())(seeds.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), slow, rtol=0, atol=1e-6)


def test_gradients_pass_gradcheck():
    seeds = torch.rand(2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(TimeSmoothing(2, 4, seeds), seeds)


@pytest.mark.parametrize("dt", [1, 2, 3])
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_comparison_rejects_another_sigma(factor, dt):
    seeds = seeds_of(7)
    difference = TimeSmoothing(dt, 7, seeds)(seeds) - slow_smoothing(seeds, dt, factor * dt)
    assert difference.abs().max() > 1e-3


def test_the_comparison_rejects_a_longer_reach():
    seeds = seeds_of(7)
    difference = TimeSmoothing(2, 7, seeds)(seeds) - slow_smoothing(seeds, 3, sigma=2)
    assert difference.abs().max() > 1e-4


@pytest.mark.parametrize(("dt", "n_frames"), LENGTHS)
def test_weights_sum_to_one(dt, n_frames):
    ones = torch.ones(2, 3, n_frames, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(TimeSmoothing(dt, n_frames, ones)(ones), ones, rtol=0, atol=1e-15)


def test_a_frame_reaches_no_farther_than_dt():
    seeds = torch.zeros(9, 2, 3, dtype=torch.float64)
    seeds[4] = 1
    smoothed = TimeSmoothing(2, 9, seeds)(seeds)
    assert (smoothed[:, 0, 0] > 0).tolist() == [False, False, True, True, True, True, True, False, False]


def test_reversed_clips_are_smoothed_in_reverse():
    seeds = seeds_of(7)
    smooth = TimeSmoothing(2, 7, seeds)
    torch.testing.assert_close(smooth(seeds.flip(-3)), smooth(seeds).flip(-3), rtol=0, atol=1e-15)
