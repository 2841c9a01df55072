"""What areas become: counts of pixels and ellipsoids, and the weights of the losses."""

import math
from dataclasses import replace

import pytest
import torch

from captum_ext.perturbation import MaskSpace, StepSettings
from captum_ext.perturbation.area import area_loss
from captum_ext.perturbation.shape_loss import ShapeLoss
from captum_ext.perturbation.time_smoothing import TimeSmoothing

SIZE = (9, 28, 35)  # T, H, W
AREAS = [[0.05, 0.11, 0.2], [0.33, 0.1, 0.07]]  # two areas of three clips, each its own
SETTINGS = StepSettings(
    n_iter=20,
    seed_step=7,
    sigma=11,
    margin=False,
    area_weight=30.0,
    area_growth=1.1,
    smoothness_weight=70.0,
    smoothness_start=4,
    kernel=(3, 7, 5),
    stride=(1, 4, 3),
    kernel_count="volume",
    kernel_to_the_edges=True,
    balanced=True,
    tie_tolerance=0.0,
)
MARGIN = replace(SETTINGS, margin=True)


def space_and_masks(settings, smoothness=None, areas=AREAS):
    like = torch.empty(0, dtype=torch.float64)
    space = MaskSpace(SIZE, areas, settings, smoothness, 2, like)
    seeds = torch.rand(len(areas), len(areas[0]), *space.seeds_shape, dtype=torch.float64)
    return space, space.masks(seeds)


def sorted_loss(values, n_zeros):
    template = torch.ones(values.numel(), dtype=values.dtype)
    template[:n_zeros] = 0
    return ((values.flatten().sort().values - template) ** 2).mean()


@pytest.mark.parametrize(
    ("settings", "seeds", "region"), [(SETTINGS, (10, 11), (28, 35)), (MARGIN, (4, 5), (50, 57))]
)
def test_masks_have_the_region_that_is_counted_and_show_the_frame(settings, seeds, region):
    space, masks = space_and_masks(settings)
    assert space.seeds_shape == (9, *seeds)
    assert masks.shape == (2, 3, 9, *region)
    assert space.visible(masks).shape == (2, 3, *SIZE)


def test_areas_are_counted_on_the_clip_for_each_mask():
    space, masks = space_and_masks(SETTINGS)
    for row, expected_row, areas in zip(masks, space.losses(masks, 0), AREAS, strict=True):
        for mask, loss, area in zip(row, expected_row, areas, strict=True):
            n = math.prod(SIZE)
            expected = 30 * sorted_loss(mask, n - round(area * n))
            assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_areas_are_counted_with_the_margin_as_the_published_code_does():
    space, masks = space_and_masks(MARGIN)
    n = 9 * 50 * 57
    expected = 30 * sorted_loss(masks[1, 0], int(n * (1 - AREAS[1][0])))
    assert space.losses(masks, 0)[1, 0].item() == pytest.approx(expected.item(), abs=1e-6)


def test_evenly_each_frame_has_its_area():
    space, masks = space_and_masks(SETTINGS, "evenly")
    n = 28 * 35
    frames = [sorted_loss(frame, n - round(AREAS[0][1] * n)) for frame in masks[0, 1]]
    expected = 30 * torch.stack(frames).mean()
    assert space.losses(masks, 0)[0, 1].item() == pytest.approx(expected.item(), abs=1e-6)
    clip = 30 * sorted_loss(masks[0, 1], 9 * n - round(AREAS[0][1] * 9 * n))
    assert abs(expected - clip) > 1e-3  # the comparison tells them apart


def test_the_weight_of_the_area_grows_with_each_iteration():
    space, masks = space_and_masks(SETTINGS)
    first = space.losses(masks, 0)
    for iteration in (1, 7):
        torch.testing.assert_close(space.losses(masks, iteration), first * 1.1**iteration)


def test_seeds_are_smoothed_along_time_before_they_become_masks():
    smoothed, _ = space_and_masks(SETTINGS, "gaussian")
    plain, _ = space_and_masks(SETTINGS)
    seeds = torch.rand(2, 3, *plain.seeds_shape, dtype=torch.float64)
    means = TimeSmoothing(2, 9, seeds)(seeds)
    torch.testing.assert_close(smoothed.masks(seeds), plain.masks(means), rtol=0, atol=1e-12)
    assert (smoothed.masks(seeds) - plain.masks(seeds)).abs().max() > 0.1


COUNTS = {  # of ellipsoids, for an area and the volume of the region
    "volume": lambda area, volume: math.ceil(area * volume / 21),
    "sphere": lambda area, volume: math.ceil(area * volume / int(3 * 7 * 5 * 0.5236)),
}


@pytest.mark.parametrize("kernel_count", COUNTS)
@pytest.mark.parametrize(("settings", "region"), [(SETTINGS, (9, 28, 35)), (MARGIN, (9, 50, 57))])
def test_the_shape_loss_begins_at_its_iteration_and_fills_the_area_with_ellipsoids(
    settings, region, kernel_count
):
    areas = [[area / 10 for area in row] for row in AREAS]
    space, masks = space_and_masks(replace(settings, kernel_count=kernel_count), "step", areas)
    plain, _ = space_and_masks(settings, None, areas)
    assert torch.equal(space.losses(masks, 3), plain.losses(masks, 3))
    counts = [COUNTS[kernel_count](area, math.prod(region)) for row in areas for area in row]
    shape = ShapeLoss(region, (3, 7, 5), (1, 4, 3), counts, True, True, masks)
    added = space.losses(masks, 4) - plain.losses(masks, 4)
    torch.testing.assert_close(added, 70 * shape(masks.flatten(0, 1)).view(2, 3), rtol=0, atol=1e-9)


def test_a_share_of_all_positions_may_be_filled_instead():
    settings = replace(SETTINGS, kernel_count="share")
    space, masks = space_and_masks(settings, "step")
    plain, _ = space_and_masks(settings)
    positions = 9 * 7 * 12
    counts = [max(1, round(area * positions)) for row in AREAS for area in row]
    shape = ShapeLoss(SIZE, (3, 7, 5), (1, 4, 3), counts, True, True, masks)
    added = space.losses(masks, 4) - plain.losses(masks, 4)
    torch.testing.assert_close(added, 70 * shape(masks.flatten(0, 1)).view(2, 3), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("area", "count"), [(0.01, 1), (0.3, 1), (0.6, 2), (0.99, 2)])
def test_a_share_of_positions_is_one_of_them_at_least_and_never_all(area, count):
    settings = replace(SETTINGS, kernel_count="share", kernel=(9, 9, 11), stride=(9, 10, 35))  # 1 x 3 x 1
    space, masks = space_and_masks(settings, "step", [[area] * 3])
    plain, _ = space_and_masks(settings, None, [[area] * 3])
    shape = ShapeLoss(SIZE, (9, 9, 11), (9, 10, 35), [count] * 3, True, True, masks)
    added = space.losses(masks, 4) - plain.losses(masks, 4)
    torch.testing.assert_close(added, 70 * shape(masks.flatten(0, 1)).view(1, 3), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "kernels", "positions"),
    [
        # 21 voxels of a kernel, or 54 of its box; 8820 of the clip.
        ({"kernel_count": "volume"}, 378, 9 * 7 * 5),
        ({"kernel_count": "sphere", "stride": (2, 9, 9)}, 147, 5 * 4 * 4),
        ({"kernel_count": "volume", "kernel_to_the_edges": False}, 378, 7 * 6 * 5),
    ],
)
def test_an_area_of_more_kernels_than_there_are_positions_is_refused(settings, kernels, positions):
    settings = replace(SETTINGS, **{"stride": (1, 4, 7), **settings})
    sides = " x ".join(map(str, settings.kernel))
    message = (
        f"an area of 0.9 has the volume of {kernels} smoothness kernels of {sides}, which have "
        f"{positions} positions; choose a smaller area or kernel"
    )
    with pytest.raises(ValueError, match=message):
        space_and_masks(settings, "step", [[0.01, 0.9]])
    space_and_masks(settings, None, [[0.01, 0.9]])


@pytest.mark.parametrize("area", [0.01, 0.5])
@pytest.mark.parametrize("kernel_count", ["share", "volume", "sphere"])
def test_a_single_position_is_full_or_empty_and_so_refused(kernel_count, area):
    settings = replace(SETTINGS, kernel_count=kernel_count, kernel=(9, 27, 35), stride=(9, 28, 35))
    with pytest.raises(
        ValueError, match=rf"area of {area} .* kernels of 9 x 27 x 35, which have 1 positions"
    ):
        space_and_masks(settings, "step", [[area]])


def test_values_alike_within_the_tolerance_are_alike_to_both_losses():
    tolerant = replace(SETTINGS, tie_tolerance=0.05)
    areas = [[area / 10 for area in row] for row in AREAS]
    space, masks = space_and_masks(tolerant, "step", areas)
    exact, _ = space_and_masks(SETTINGS, "step", areas)
    n = math.prod(SIZE)
    counts = [round(area * n) for row in areas for area in row]
    area = area_loss(masks.view(6, 1, -1), counts, 0.05).view(2, 3)
    full = [COUNTS["volume"](area, n) for row in areas for area in row]
    shape = ShapeLoss(SIZE, (3, 7, 5), (1, 4, 3), full, True, True, masks, 0.05)
    shape = shape(masks.flatten(0, 1)).view(2, 3)
    torch.testing.assert_close(space.losses(masks, 0), 30 * area, rtol=0, atol=1e-9)
    torch.testing.assert_close(space.losses(masks, 4), 30 * 1.1**4 * area + 70 * shape, rtol=0, atol=1e-9)
    for iteration in (0, 4):
        assert (space.losses(masks, iteration) - exact.losses(masks, iteration)).abs().min() > 1e-4


@pytest.mark.parametrize("area", [1e-9, 0.4 / (9 * 28 * 35), 1 - 1e-9, 0.0, 1.0])
def test_an_area_of_no_pixel_or_of_all_is_refused(area):
    with pytest.raises(ValueError, match="so there is nothing to choose"):
        space_and_masks(SETTINGS, None, [[0.1, area]])


def test_evenly_an_area_needs_a_pixel_of_each_frame():
    area = [[0.4 / (28 * 35)]]
    space_and_masks(SETTINGS, None, area)
    with pytest.raises(ValueError, match="so there is nothing to choose"):
        space_and_masks(SETTINGS, "evenly", area)


@pytest.mark.parametrize("kernel", [(2, 2, 2), (1, 2, 2), (2, 4, 4)])
def test_a_kernel_in_which_no_voxel_lies_is_refused_by_name(kernel):
    with pytest.raises(ValueError, match="kernel"):
        space_and_masks(replace(SETTINGS, kernel=kernel), "step")
