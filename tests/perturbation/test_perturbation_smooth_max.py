"""The smooth maximum against an explicit softmax over all neighbours of each pixel."""

import math

import pytest
import torch
import torch.nn.functional as F

from captum_ext.perturbation import smooth_max
from captum_ext.perturbation.seed_grid import centred_grid, padded_grid
from captum_ext.perturbation.smooth_max import SmoothMax

STEP, SIGMA, COLDNESS = 4, 5, 20.0
SIZES = [(11, 18), (12, 9), (8, 16)]  # overhangs odd and even, whole blocks


def centred_axis(side, step, sigma):
    """For each pixel of the region, the neighbours' numbers and their distances along one axis.

    A seed lies in the middle of each block; the blocks stick out of the frame by the same on both sides, and
    a radius of seeds lies before the first block, so that block b has seed b + radius in its middle.
    """
    radius = 1 + math.ceil(sigma / step)
    begin = (math.ceil(side / step) * step - side) // 2
    near = []
    for pixel in range(begin, begin + side):
        block = pixel // step
        middles = {i + radius: step * i + (step - 1) / 2 for i in range(block - radius, block + radius + 1)}
        near.append([(number, pixel - middle) for number, middle in middles.items()])
    return near


def padded_axis(side, step, sigma):
    """The same for the published code: padding 1 + ceil(2 sigma / step), a margin of sigma."""
    radius, padding = 1 + math.ceil(sigma / step), 1 + math.ceil(2 * sigma / step)
    blocks = math.ceil(side / step) + 2 * padding - 2 * radius
    near = []
    for pixel in range(blocks * step - step + 1):
        seeds = range(pixel // step - padding, pixel // step - padding + 2 * radius + 1)
        near.append([(i, pixel - sigma - step * i) for i in seeds])
    return near


GEOMETRIES = {"centred": (centred_grid, centred_axis), "padded": (padded_grid, padded_axis)}


def slow_smooth_max(seeds, rows, columns, sigma=SIGMA, coldness=COLDNESS):
    """The mask of one frame's seeds (h, w), pixel by pixel."""
    height, width = seeds.shape
    values = F.pad(seeds.flatten(), (0, 1))  # the last one stands for all seeds outside of the grid
    mask = []
    for row in rows:
        for column in columns:
            numbers, weights = [], []
            for i, dy in row:
                for j, dx in column:
                    inside = 0 <= i < height and 0 <= j < width
                    numbers.append(i * width + j if inside else -1)
                    weights.append(math.exp(-2 * max(math.hypot(dy, dx) / sigma - 0.5, 0) ** 2))
            a = torch.tensor(weights, dtype=seeds.dtype) * values[numbers]
            mask.append((a * torch.softmax(coldness * a, 0)).sum())
    return torch.stack(mask).view(len(rows), len(columns))


def example(geometry, size, n_frames=3, seed=0):
    make_grid, axis = GEOMETRIES[geometry]
    grid = make_grid(size, STEP, SIGMA)
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.rand(n_frames, *grid.seeds, dtype=torch.float64, generator=generator)
    return grid, seeds, [axis(side, STEP, SIGMA) for side in size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_masks_and_gradients_are_those_of_the_explicit_softmax(geometry, size):
    grid, seeds, axes = example(geometry, size)
    seeds.requires_grad_()
    slow = torch.stack([slow_smooth_max(frame, *axes) for frame in seeds])
    upstream = torch.randn(slow.shape, dtype=slow.dtype)
    (slow_gradient,) = torch.autograd.grad(slow, seeds, upstream)
    # In float32 an exponent near 20 is known to 1e-6 only, and with it the weight of a seed.
    for dtype, forward, backward in [(torch.float64, 1e-12, 1e-12), (torch.float32, 2e-6, 1e-5)]:
        own = seeds.detach().to(dtype).requires_grad_()
        masks = SmoothMax(grid, COLDNESS, own)(own)
        (gradient,) = torch.autograd.grad(masks, own, upstream.to(dtype))
        assert masks.dtype == gradient.dtype == dtype
        assert (masks - slow).abs().max() < forward
        assert (gradient - slow_gradient).abs().max() < backward * slow_gradient.abs().max()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradients_pass_gradcheck(geometry):
    grid, seeds, _ = example(geometry, (7, 10), n_frames=2)
    assert torch.autograd.gradcheck(SmoothMax(grid, COLDNESS, seeds), seeds.requires_grad_())


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "wrong", [{"sigma": 0.9 * SIGMA}, {"sigma": 1.1 * SIGMA}, {"coldness": 0.9 * COLDNESS}]
)
def test_the_comparison_rejects_another_width_or_coldness(geometry, wrong):
    grid, seeds, axes = example(geometry, SIZES[0], n_frames=1)
    slow = slow_smooth_max(seeds[0], *axes, **wrong)
    assert (SmoothMax(grid, COLDNESS, seeds)(seeds)[0] - slow).abs().max() > 1e-3


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_comparison_rejects_seeds_one_pixel_off(geometry):
    grid, seeds, (rows, columns) = example(geometry, SIZES[0], n_frames=1)
    shifted = [[(i, dy + 1) for i, dy in row] for row in rows]
    slow = slow_smooth_max(seeds[0], shifted, columns)
    assert (SmoothMax(grid, COLDNESS, seeds)(seeds)[0] - slow).abs().max() > 1e-3


def test_the_comparison_rejects_zeros_in_place_of_the_seeds_beyond_the_frame():
    grid, seeds, axes = example("centred", SIZES[0], n_frames=1)
    radius = 1 + math.ceil(SIGMA / STEP)
    within = F.pad(seeds[0, radius:-radius, radius:-radius], [radius] * 4)
    assert (SmoothMax(grid, COLDNESS, seeds)(seeds)[0] - slow_smooth_max(within, *axes)).abs().max() > 1e-3


def test_the_comparison_rejects_a_denominator_without_the_seeds_outside():
    grid, seeds, (rows, columns) = example("padded", SIZES[0], n_frames=1)
    height, width = grid.seeds
    inside = [
        [[(i, d) for i, d in pixel if 0 <= i < side] or [(-1, 0.0)] for pixel in axis]
        for axis, side in [(rows, height), (columns, width)]
    ]
    slow = slow_smooth_max(seeds[0], *inside)
    assert (SmoothMax(grid, COLDNESS, seeds)(seeds)[0] - slow).abs().max() > 1e-3


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_leading_axes_are_masks_of_their_own(geometry):
    grid, seeds, _ = example(geometry, SIZES[0], n_frames=2 * 3 * 5)
    enlarge = SmoothMax(grid, COLDNESS, seeds)
    together = enlarge(seeds.view(2, 3, 5, *grid.seeds))
    assert together.shape == (2, 3, 5, *grid.region_size)
    one_by_one = torch.stack([enlarge(frame[None])[0] for frame in seeds])
    torch.testing.assert_close(together.flatten(0, 2), one_by_one, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cached", [1, 2**10, 2**30])
def test_the_size_of_the_cache_changes_neither_masks_nor_gradients(cached, monkeypatch):
    grid, seeds, _ = example("centred", SIZES[0], n_frames=7)
    results = []
    for values in (2**17, cached):
        monkeypatch.setattr(smooth_max, "_CACHED", values)
        own = seeds.clone().requires_grad_()
        masks = SmoothMax(grid, COLDNESS, own)(own)
        results.append((masks, *torch.autograd.grad((masks**2).sum(), own)))
    for usual, other in zip(*results, strict=True):
        torch.testing.assert_close(other, usual, rtol=1e-13, atol=1e-13)


def test_seeds_in_any_memory_layout_give_the_same_masks():
    grid, seeds, _ = example("centred", SIZES[0], n_frames=3)
    enlarge = SmoothMax(grid, COLDNESS, seeds)
    across = seeds.transpose(1, 2).contiguous().transpose(1, 2)
    assert not across.is_contiguous()
    assert torch.equal(enlarge(across), enlarge(seeds))
