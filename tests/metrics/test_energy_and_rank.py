"""Energy inside boxes and relevance rank, against loops over pixels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.metrics.functional import box_area_share, energy_pointing_game, relevance_rank

H, W = 6, 8
NONE = [math.nan] * 4


def one_frame(*boxes):
    return torch.tensor([[list(boxes)]], dtype=torch.float64)


def inside_mask(boxes, height=H, width=W):
    """Pixels in boxes of whole numbers, one at a time."""
    return torch.tensor(
        [
            [any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes) for x in range(width)]
            for y in range(height)
        ]
    )


whole_box = st.tuples(st.integers(0, W - 1), st.integers(0, H - 1), st.integers(1, W), st.integers(1, H)).map(
    lambda b: [float(b[0]), float(b[1]), float(min(W, b[0] + b[2])), float(min(H, b[1] + b[3]))]
)
pixels = st.lists(st.integers(-2, 3), min_size=H * W, max_size=H * W).map(
    lambda values: torch.tensor(values, dtype=torch.float64).view(H, W)
)


@settings(deadline=None)
@given(pixels, st.lists(whole_box, min_size=1, max_size=3))
def test_energy_and_chance_are_those_of_a_mask_of_pixels(values, boxes):
    mask = inside_mask(boxes)
    padded = one_frame(*boxes, NONE)
    for negative, energy in (("clip", values.clamp(min=0)), ("absolute", values.abs())):
        share = energy_pointing_game(values[None, None], padded, (H, W), negative).item()
        total = energy.sum().item()
        assert share == pytest.approx(energy[mask].sum().item() / total if total else 0.0, abs=1e-12)
    assert box_area_share(padded, (H, W)).item() == pytest.approx(mask.double().mean().item(), abs=1e-12)


def rank_by_orders(values, mask):
    """Expectation over all orders of equal pixels, level by level."""
    left, found = int(mask.sum()), 0.0
    for level in sorted(set(values.flatten().tolist()), reverse=True):
        group = mask[values == level]
        taken = min(left, len(group))
        found += taken * group.double().mean().item()
        left -= taken
    return found / int(mask.sum())


@settings(deadline=None)
@given(pixels, st.lists(whole_box, min_size=1, max_size=3))
def test_rank_is_that_of_a_mask_of_pixels(values, boxes):
    found = relevance_rank(values[None, None], one_frame(*boxes), (H, W)).item()
    assert found == pytest.approx(rank_by_orders(values, inside_mask(boxes)), abs=1e-12)


def test_rank_of_tied_pixels_is_the_mean_over_random_orders():
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 3, (H, W), generator=generator).double()
    box = [1.0, 1.0, 5.0, 4.0]
    noise = 1e-3 * torch.rand(1, 4000, H, W, generator=generator).double()
    broken = relevance_rank(values + noise, one_frame(box).expand(1, 4000, 1, 4), (H, W))
    assert broken.std() > 0.05
    exact = relevance_rank(values[None, None], one_frame(box), (H, W)).item()
    assert broken.mean().item() == pytest.approx(exact, abs=4 * broken.std().item() / math.sqrt(4000))


float_box = st.tuples(st.floats(0, W - 0.5), st.floats(0, H - 0.5), st.floats(0.2, W), st.floats(0.2, H)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)  # it may reach out of the frame


@settings(deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=12, max_size=12), st.lists(float_box, min_size=1, max_size=3))
def test_enlarging_a_map_to_the_nearest_pixel_changes_neither(values, boxes):
    coarse = torch.tensor(values, dtype=torch.float64).view(1, 1, 3, 4)
    fine = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    padded = one_frame(*boxes)
    for function in (energy_pointing_game, relevance_rank):
        found = function(coarse, padded, (H, W)).item()
        assert found == pytest.approx(function(fine, padded, (H, W)).item(), abs=1e-9)
        assert -1e-12 <= found <= 1 + 1e-12


@given(float_box)
def test_a_box_of_fractions_has_the_area_it_has(box):
    x0, y0, x1, y1 = box
    area = (min(x1, W) - x0) * (min(y1, H) - y0)
    assert box_area_share(one_frame(box), (H, W)).item() == pytest.approx(area / (H * W), abs=1e-9)


def test_an_even_map_has_the_area_inside_and_a_perfect_one_all():
    box = [1.5, 0.0, 5.25, 4.0]
    even = torch.full((1, 1, 3, 5), 0.7)  # cells that no box edge meets
    for function in (energy_pointing_game, relevance_rank):
        assert function(even, one_frame(box), (H, W)).item() == pytest.approx(3.75 * 4 / 48)
    whole = [1.0, 0.0, 5.0, 4.0]
    perfect = inside_mask([whole]).double()[None, None]
    for function in (energy_pointing_game, relevance_rank):
        assert function(perfect, one_frame(whole), (H, W)).item() == pytest.approx(1)
        assert function(1 - perfect, one_frame(whole), (H, W)).item() == pytest.approx(0, abs=1e-12)


def test_convention_maps_are_row_first_and_boxes_x_first():
    maps = torch.zeros(1, 1, H, W)
    maps[0, 0, 1, 7] = 1.0  # row 1, column 7
    for function in (energy_pointing_game, relevance_rank):
        assert function(maps, one_frame([7.0, 1.0, 8.0, 2.0]), (H, W)).item() == 1
        assert function(maps, one_frame([1.0, 5.0, 2.0, 6.0]), (H, W)).item() == 0


@pytest.mark.parametrize("box", [[6.0, 0.0, 8.0, 6.0], [0.0, 4.0, 8.0, 6.0]])
def test_convention_a_box_at_the_right_or_bottom_edge_holds_the_last_pixels(box):
    maps = torch.zeros(1, 1, H, W)
    maps[0, 0, 5, 7] = 1.0
    assert energy_pointing_game(maps, one_frame(box), (H, W)).item() == 1
    maps[0, 0, 5, 7], maps[0, 0, 3, 5] = 0.0, 1.0  # the pixel just outside of both
    assert energy_pointing_game(maps, one_frame(box), (H, W)).item() == 0


def test_each_frame_has_its_own_boxes_and_those_without_are_nan():
    maps = torch.zeros(2, 3, H, W)
    maps[:, :, 1, 7] = 1.0
    hit, miss = [7.0, 1.0, 8.0, 2.0], [0.0, 0.0, 1.0, 1.0]
    boxes = torch.tensor([[[hit], [NONE], [miss]], [[miss], [hit], [NONE]]])
    expected = [[1.0, math.nan, 0.0], [0.0, 1.0, math.nan]]
    for function in (energy_pointing_game, relevance_rank):
        found = function(maps, boxes, (H, W))
        torch.testing.assert_close(found, torch.tensor(expected).double(), equal_nan=True)
    assert box_area_share(boxes, (H, W)).isnan().tolist() == [[False, True, False], [False, False, True]]


def test_a_map_without_energy_has_none_inside_and_its_rank_is_chance():
    box = [0.0, 0.0, 4.0, 6.0]
    for value in (0.0, -1.0):
        maps = torch.full((1, 1, H, W), value)
        assert energy_pointing_game(maps, one_frame(box), (H, W)).item() == 0
        assert relevance_rank(maps, one_frame(box), (H, W)).item() == 0.5


def test_negative_values_can_be_refused():
    maps = torch.zeros(2, 3, H, W)
    maps[1, 2, 0, 0] = -1e-3
    boxes = one_frame([0.0, 0.0, 4.0, 6.0]).expand(2, 3, 1, 4)
    with pytest.raises(ValueError, match="clip 1, frame 2"):
        energy_pointing_game(maps, boxes, (H, W), negative="refuse")
    with pytest.raises(ValueError, match="'drop'"):
        energy_pointing_game(maps, boxes, (H, W), negative="drop")


@pytest.mark.parametrize("function", [energy_pointing_game, relevance_rank])
def test_bad_maps_and_boxes_are_refused_by_name(function):
    box = one_frame([0.0, 0.0, 4.0, 6.0])
    with pytest.raises(ValueError, match="height first"):
        function(torch.rand(1, 1, W, H), box, (H, W))
    with pytest.raises(ValueError, match="clips and frames of the maps"):
        function(torch.rand(1, 2, H, W), box, (H, W))
    with pytest.raises(ValueError, match="clip 0, frame 0"):
        function(torch.full((1, 1, H, W), math.nan), box, (H, W))
    with pytest.raises(ValueError, match="x0 < x1"):
        function(torch.rand(1, 1, H, W), one_frame([4.0, 0.0, 4.0, 6.0]), (H, W))
