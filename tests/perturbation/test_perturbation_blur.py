"""Blur, the blur pyramid and the mean frame against direct sums over pixels."""

import math

import pytest
import torch

from captum_ext.perturbation import blur_pyramid, gaussian_blur, mean_frame


def slow_blur(x, sigma, renormalized):
    """Two-dimensional convolution with a Gaussian cut off at ceil(4 sigma), pixel by pixel."""
    *_, height, width = x.shape
    reach = range(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    kernel = {(v, u): math.exp(-(v * v + u * u) / (2 * sigma**2)) for v in reach for u in reach}
    result = torch.zeros_like(x)
    for i in range(height):
        for j in range(width):
            inside = {
                (i + v, j + u): weight
                for (v, u), weight in kernel.items()
                if 0 <= i + v < height and 0 <= j + u < width
            }
            total = sum((inside if renormalized else kernel).values())
            for (row, column), weight in inside.items():
                result[..., i, j] += weight / total * x[..., row, column]
    return result


def frames(height=7, width=10):
    return torch.randn(2, 3, height, width, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.4, 1.3, 2.0, 3.7])  # the last reaches across the frame
@pytest.mark.parametrize("renormalized", [True, False])
def test_blur_is_the_direct_convolution(sigma, renormalized):
    x = frames()
    blurred = gaussian_blur(x, sigma, renormalized)
    torch.testing.assert_close(blurred, slow_blur(x, sigma, renormalized), rtol=0, atol=1e-12)
    single = gaussian_blur(x.float(), sigma, renormalized)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), blurred, rtol=0, atol=1e-6)


@pytest.mark.parametrize("renormalized", [True, False])
def test_the_gradient_of_blur_is_that_of_the_direct_convolution(renormalized):
    x = frames().requires_grad_()
    upstream = torch.randn_like(x)
    (fast,) = torch.autograd.grad(gaussian_blur(x, 1.3, renormalized), x, upstream)
    (slow,) = torch.autograd.grad(slow_blur(x, 1.3, renormalized), x, upstream)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: gaussian_blur(x, 1.3, renormalized), x)


@pytest.mark.parametrize("renormalized", [True, False])
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_comparison_rejects_another_sigma(factor, renormalized):
    x = frames()
    difference = gaussian_blur(x, 2.0, renormalized) - slow_blur(x, 2.0 * factor, renormalized)
    assert difference.abs().max() > 1e-3


def test_the_comparison_tells_the_treatments_of_the_border_apart():
    x = frames()
    assert (gaussian_blur(x, 2.0, True) - slow_blur(x, 2.0, False)).abs().max() > 0.1


def test_the_blur_is_cut_off_beyond_four_sigma():
    x = torch.zeros(3, 21, dtype=torch.float64)
    x[1, 10] = 1
    blurred = gaussian_blur(x, 1.3)
    assert (blurred[1] > 0).nonzero().flatten().tolist() == list(range(4, 17))


@pytest.mark.parametrize("sigma", [0.4, 3.7, 20.0])
def test_a_constant_image_stays_constant(sigma):
    x = torch.full((2, 3, 9, 14), -1.7, dtype=torch.float64)
    torch.testing.assert_close(gaussian_blur(x, sigma), x, rtol=0, atol=1e-13)


def test_the_published_blur_fades_a_constant_image_at_the_border():
    ones = torch.ones(3, 112, 112, dtype=torch.float64)
    faded = blur_pyramid(ones, 8, 20.0, renormalized=False)[0]
    assert faded[1, 56, 56].item() == pytest.approx(0.99, abs=5e-3)
    assert faded[1, 0, 0].item() == pytest.approx(0.26, abs=5e-3)
    assert faded[1].mean().item() == pytest.approx(0.735, abs=1e-3)


@pytest.mark.parametrize("renormalized", [True, False])
def test_the_pyramid_falls_in_equal_steps_to_the_input_itself(renormalized):
    x = frames()
    levels = blur_pyramid(x, 8, 20.0, renormalized)
    assert len(levels) == 8
    assert levels[-1] is x
    sigmas = [20, 17.142857, 14.285714, 11.428571, 8.571429, 5.714286, 2.857143]
    for level, sigma in zip(levels[:-1], sigmas, strict=True):
        torch.testing.assert_close(level, gaussian_blur(x, sigma, renormalized), rtol=0, atol=1e-7)


@pytest.mark.parametrize("renormalized", [True, False])
def test_the_levels_of_a_pyramid_are_direct_convolutions(renormalized):
    x = frames(5, 6)[:1]
    levels = blur_pyramid(x, 4, 3.0, renormalized)
    for level, sigma in zip(levels[:-1], [3.0, 2.0, 1.0], strict=True):
        torch.testing.assert_close(level, slow_blur(x, sigma, renormalized), rtol=0, atol=1e-12)


@pytest.mark.parametrize("time_axis", [1, 2])
def test_the_mean_frame_is_the_mean_of_all_frames(time_axis):
    x = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    mean = mean_frame(x, time_axis)
    frames_of = x.unbind(time_axis)
    by_hand = sum(frames_of[1:], frames_of[0]) / len(frames_of)
    assert mean.shape == x.shape
    for frame in mean.unbind(time_axis):
        torch.testing.assert_close(frame, by_hand)


@pytest.mark.parametrize(("shape", "time_axis"), [((2, 3, 1, 5, 6), 2), ((2, 1, 3, 5, 6), 1)])
def test_the_mean_frame_of_an_image_is_its_mean_colour(shape, time_axis):
    x = torch.randn(shape, dtype=torch.float64)
    mean = mean_frame(x, time_axis)
    assert mean.shape == x.shape
    colour = x.flatten(-2).sum(-1) / (5 * 6)
    torch.testing.assert_close(mean, colour[..., None, None].expand_as(x))
