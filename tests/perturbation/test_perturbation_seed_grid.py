"""The two geometries: sizes, symmetry, and the numbers measured on the published code."""

import math

import pytest
import torch

from captum_ext.perturbation.seed_grid import centred_grid, padded_grid
from captum_ext.perturbation.smooth_max import SmoothMax


def visible_masks(grid, seeds):
    enlarge = SmoothMax(grid, 20.0, seeds)
    return enlarge.visible(enlarge(seeds))


@pytest.fixture(scope="module")
def published():
    return padded_grid((112, 112), 7, 11)


@pytest.mark.parametrize(
    ("side", "sigma", "seeds", "padded"), [(112, 11, 16, 134), (224, 23, 32, 260), (56, 11, 8, 78)]
)
def test_the_published_frame_is_padded_to(side, sigma, seeds, padded):
    grid = padded_grid((side, side), 7, sigma)
    assert grid.seeds == (seeds, seeds)
    assert grid.region_size == (padded, padded)
    assert grid.visible[0] == slice(sigma, sigma + side)


def test_axes_of_the_padded_frame_are_independent():
    assert padded_grid((112, 224), 7, 11).region_size == (134, 246)
    assert padded_grid((28, 35), 7, 11).region_size == (50, 57)


def test_full_seeds_never_quite_fill_the_published_mask(published):
    ones = torch.ones(1, *published.seeds, dtype=torch.float64)
    padded = SmoothMax(published, 20.0, ones)(ones)
    mask = visible_masks(published, ones)
    assert mask.shape == (1, 112, 112)
    assert mask.mean().item() == pytest.approx(0.987, abs=5e-4)
    assert mask.min().item() == pytest.approx(0.863, abs=5e-4)
    assert mask.max().item() == pytest.approx(0.99985, abs=5e-6)
    assert padded.mean().item() == pytest.approx(0.886, abs=5e-4)


@pytest.mark.parametrize(
    ("seed", "value"), [(0.1, 0.050), (0.2, 0.157), (0.3, 0.272), (0.5, 0.482), (0.7, 0.685), (0.9, 0.886)]
)
def test_faint_seeds_make_fainter_masks(published, seed, value):
    seeds = torch.full((1, *published.seeds), seed, dtype=torch.float64)
    inner_block = visible_masks(published, seeds)[0, 49:56, 49:56]
    assert inner_block.mean().item() == pytest.approx(value, abs=5e-4)


def test_one_seed_makes_the_published_blob(published):
    seeds = torch.zeros(1, *published.seeds, dtype=torch.float64)
    seeds[0, 8, 8] = 1
    blob = visible_masks(published, seeds)[0]
    across = blob[8 * 7]
    assert (blob > 0.5).sum() == 437
    assert (across > 0.5).sum() == 23
    assert (across > 0.01).sum() == 35
    # Symmetric around the seed, which lies at a multiple of the step.
    torch.testing.assert_close(blob[46:67, 46:67], blob[46:67, 46:67].flip(0, 1), rtol=0, atol=1e-7)


@pytest.mark.parametrize("sigma", [8, 12])
def test_the_blob_tells_widths_apart(sigma):
    grid = padded_grid((112, 112), 7, sigma)
    seeds = torch.zeros(1, *grid.seeds, dtype=torch.float64)
    seeds[0, 8, 8] = 1
    assert abs((visible_masks(grid, seeds) > 0.5).sum() - 437) > 50


@pytest.mark.parametrize("size", [(11, 18), (12, 9), (8, 16), (28, 35)])
@pytest.mark.parametrize("make_grid", [centred_grid, padded_grid])
def test_visible_masks_have_the_size_of_the_frame(make_grid, size):
    grid = make_grid(size, 4, 5)
    seeds = torch.rand(3, *grid.seeds)
    assert visible_masks(grid, seeds).shape == (3, *size)


@pytest.mark.parametrize("size", [(10, 18), (12, 9), (8, 16), (7, 14)])
def test_the_whole_region_of_a_centred_grid_is_visible(size):
    assert centred_grid(size, 4, 5).region_size == size


SIZES_AND_STEPS = [((28, 35), 7, 11), ((11, 18), 4, 5), ((13, 10), 3, 7.5), ((5, 3), 7, 11)]


@pytest.mark.parametrize(("size", "step", "sigma"), SIZES_AND_STEPS)
def test_seeds_of_a_centred_grid_go_on_as_far_as_they_reach_into_the_frame(size, step, sigma):
    grid = centred_grid(size, step, sigma)
    beyond = 1 + math.ceil(sigma / step)
    assert grid.seeds == tuple(math.ceil(side / step) + 2 * beyond for side in size)
    seeds = torch.rand(3, *grid.seeds, dtype=torch.float64, requires_grad=True)
    # Of all pixels of the blocks, those that overhang the frame too.
    whole = centred_grid(tuple(step * count for count in grid.blocks), step, sigma)
    (reached,) = torch.autograd.grad(SmoothMax(whole, 20.0, seeds)(seeds).sum(), seeds)
    assert (reached != 0).all()


@pytest.mark.parametrize("value", [1.0, 0.3])
@pytest.mark.parametrize(("size", "step", "sigma"), SIZES_AND_STEPS)
def test_equal_seeds_make_the_same_mask_in_every_block_of_a_centred_grid(size, step, sigma, value):
    grid = centred_grid(size, step, sigma)
    mask = visible_masks(grid, torch.full((1, *grid.seeds), value, dtype=torch.float64))[0]
    begin = [(math.ceil(side / step) * step - side) // 2 for side in size]
    rows, columns = ((first + torch.arange(side)) % step for first, side in zip(begin, size, strict=True))
    # What a block far from any border looks like.
    far = centred_grid((9 * step, 9 * step), step, sigma)
    inner = visible_masks(far, torch.full((1, *far.seeds), value, dtype=torch.float64))[0]
    inner = inner[4 * step : 5 * step, 4 * step : 5 * step]
    torch.testing.assert_close(mask, inner[rows[:, None], columns], rtol=0, atol=1e-15)


def test_equal_seeds_fade_at_the_border_of_the_published_frame(published):
    mask = visible_masks(published, torch.ones(1, *published.seeds, dtype=torch.float64))[0]
    assert (mask[105:, 105:] - mask[49:56, 49:56]).abs().max() > 0.1


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("size", [(10, 16), (12, 18), (14, 22)])  # overhangs of 0 and 2 pixels
def test_flipped_seeds_make_flipped_masks_where_the_overhang_is_even(size, axis):
    grid = centred_grid(size, 4, 5.5)
    seeds = torch.rand(3, *grid.seeds, dtype=torch.float64)
    flipped = visible_masks(grid, seeds.flip(axis))
    torch.testing.assert_close(flipped, visible_masks(grid, seeds).flip(axis), rtol=0, atol=1e-13)


def test_the_published_geometry_is_not_symmetric(published):
    seeds = torch.rand(3, *published.seeds, dtype=torch.float64)
    flipped = visible_masks(published, seeds.flip(-1))
    assert (flipped - visible_masks(published, seeds).flip(-1)).abs().max() > 0.1


def test_exchanged_axes_exchange_the_mask():
    grid, other = centred_grid((11, 18), 4, 5), centred_grid((18, 11), 4, 5)
    seeds = torch.rand(3, *grid.seeds, dtype=torch.float64)
    torch.testing.assert_close(visible_masks(other, seeds.mT), visible_masks(grid, seeds).mT)


@pytest.mark.parametrize(("step", "sigma"), [(7, 11), (7, 23), (7, 8), (4, 5), (14, 22)])
@pytest.mark.parametrize("side", [28, 35, 112, 113, 224])
def test_the_padded_frame_holds_the_frame(side, step, sigma):
    grid = padded_grid((side, side + 1), step, sigma)
    for visible, region in zip(grid.visible, grid.region, strict=True):
        assert region.start <= visible.start < visible.stop <= region.stop


@pytest.mark.parametrize(("step", "sigma"), [(7, 3), (7, 10), (14, 21)])
def test_a_margin_that_would_cut_the_frame_is_refused(step, sigma):
    with pytest.raises(ValueError, match="sigma"):
        padded_grid((112, 224), step, sigma)
