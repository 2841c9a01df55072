"""The spatial pointing game against a loop over pixels, and its conventions one by one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.metrics.functional import (
    spatial_pointing_center,
    spatial_pointing_chance,
    spatial_pointing_game,
)

H, W = 40, 100
NONE = [math.nan] * 4


def point_map(x: int, y: int, size: tuple[int, int] = (H, W)) -> torch.Tensor:
    maps = torch.zeros(1, 1, *size)
    maps[0, 0, y, x] = 1.0
    return maps


def one_frame(*boxes: list[float]) -> torch.Tensor:
    return torch.tensor([[list(boxes)]], dtype=torch.float64)


def is_hit(x: int, y: int, *boxes: list[float], **options: object) -> bool:
    return bool(spatial_pointing_game(point_map(x, y), one_frame(*boxes), (H, W), **options).hits.item())


def hits_by_pixels(x: int, y: int, boxes: list[list[float]], tolerance: float, shape: str) -> bool:
    """The definition in the docstring, one pixel of the box at a time."""
    for x0, y0, x1, y1 in boxes:
        for py in range(math.floor(y0), math.ceil(y1)):
            for px in range(math.floor(x0), math.ceil(x1)):
                dx, dy = abs(px - x), abs(py - y)
                distance = max(dx, dy) if shape == "square" else math.sqrt(dx * dx + dy * dy)
                if (dx, dy) == (0, 0) or distance < tolerance:
                    return True
    return False


def test_convention_boxes_and_frames_are_x_first_and_maps_row_first():
    box = [80.0, 10.0, 95.0, 20.0]
    assert is_hit(90, 15, box, tolerance=0)  # row 15, column 90
    assert not is_hit(15, 30, box)  # the same point transposed, as near as the frame allows
    with pytest.raises(ValueError, match="reach into the frame"):
        is_hit(90, 15, [10.0, 80.0, 20.0, 95.0])  # the same box transposed is outside 40 x 100


def test_convention_boxes_are_half_open():
    box = [80.0, 10.0, 95.0, 20.0]
    corners = {(80, 10): True, (94, 19): True, (95, 19): False, (94, 20): False, (79, 10): False}
    assert {at: is_hit(*at, box, tolerance=0) for at in corners} == corners


def test_the_tolerance_is_a_strict_radius_as_in_torchray():
    box = [50.0, 10.0, 60.0, 20.0]
    assert is_hit(50 - 14, 15, box)
    assert not is_hit(50 - 15, 15, box)
    assert is_hit(59 + 14, 15, box)
    assert not is_hit(59 + 15, 15, box)


def test_bargal_et_al_allow_a_circle_of_15_pixels_diameter():
    box = [50.0, 10.0, 60.0, 20.0]
    assert is_hit(50 - 7, 15, box, tolerance=7.5)
    assert not is_hit(50 - 8, 15, box, tolerance=7.5)


def test_a_disc_has_no_corners_and_a_square_does():
    box = [50.0, 5.0, 60.0, 15.0]  # its last pixel is (59, 14); 12 and 9 to the side make 15
    assert not is_hit(59 + 12, 14 + 9, box, tolerance=15)
    assert is_hit(59 + 12, 14 + 9, box, tolerance=15.01)
    assert is_hit(59 + 14, 14 + 14, box, tolerance=15, shape="square")
    assert not is_hit(59 + 15, 14, box, tolerance=15, shape="square")


def test_any_of_several_boxes_is_a_hit():
    first, second = [0.0, 0.0, 5.0, 5.0], [80.0, 10.0, 95.0, 20.0]
    assert is_hit(90, 15, first, second, tolerance=0)
    assert is_hit(2, 3, first, NONE, second, tolerance=0)
    assert not is_hit(50, 30, first, second, tolerance=0)


def test_frames_without_a_box_are_skipped_and_counted():
    maps = point_map(90, 15).expand(2, 3, H, W)
    box = [80.0, 10.0, 95.0, 20.0]
    far = [0.0, 0.0, 5.0, 5.0]
    boxes = torch.tensor([[[box], [NONE], [far]], [[NONE], [NONE], [box]]])
    result = spatial_pointing_game(maps, boxes, (H, W))
    assert result.hits.tolist() == [[True, False, False], [False, False, True]]
    assert result.valid.tolist() == [[True, False, True], [False, False, True]]
    assert (result.n, result.n_skipped) == (3, 3)
    assert result.accuracy == 2 / 3
    assert spatial_pointing_chance(boxes, (H, W)).isnan().tolist() == (~result.valid).tolist()


def test_without_any_box_the_accuracy_is_nan():
    result = spatial_pointing_game(point_map(1, 2), one_frame(NONE), (H, W))
    assert math.isnan(result.accuracy)
    assert result.n == 0


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
@pytest.mark.parametrize("size", [(5, 7), (H, W)])
def test_a_constant_map_misses_even_a_box_of_the_whole_frame(value, size):
    maps = torch.full((1, 1, *size), value)
    result = spatial_pointing_game(maps, one_frame([0.0, 0.0, W, H]), (H, W))
    assert not result.hits.item()
    assert result.ambiguous.item()


def test_tied_pixels_hit_only_together():
    maps = point_map(90, 15) + point_map(10, 30)
    inside, other = [80.0, 10.0, 95.0, 20.0], [5.0, 28.0, 15.0, 35.0]
    split = spatial_pointing_game(maps, one_frame(inside), (H, W))
    both = spatial_pointing_game(maps, one_frame(inside, other), (H, W))
    neither = spatial_pointing_game(maps, one_frame([45.0, 0.0, 50.0, 5.0]), (H, W))
    assert (split.hits.item(), split.ambiguous.item()) == (False, True)
    assert (both.hits.item(), both.ambiguous.item()) == (True, False)
    assert (neither.hits.item(), neither.ambiguous.item()) == (False, False)


def test_ties_stay_ties_when_a_map_is_resized():
    maps = torch.zeros(1, 1, 5, 7)
    maps[0, 0, 1:4, 2:5] = 0.7  # in 31 x 47 pixels a plateau over columns 17..29
    # Its last column comes out one rounding error lower than the rest, and is left out of this box.
    result = spatial_pointing_game(maps, one_frame([0.0, 0.0, 29.0, 31.0]), (31, 47), tolerance=0)
    assert result.ambiguous.item()


def test_the_plateau_of_a_cell_at_the_border_is_no_miss():
    maps = torch.zeros(1, 1, 4, 5)
    maps[0, 0, 3, 4] = 1.0  # the last cell: bilinear resizing keeps its value up to the corner
    assert spatial_pointing_game(maps, one_frame([80.0, 30.0, 100.0, 40.0]), (H, W), tolerance=0).hits.item()


def test_the_point_is_found_in_the_resized_map():
    maps = point_map(1, 1, (5, 8))  # the cell of rows 8..15 and columns 12.5..25; its middle is (18.25, 11.5)
    right, swapped = one_frame([17.0, 11.0, 20.0, 13.0]), one_frame([11.0, 17.0, 13.0, 20.0])
    assert spatial_pointing_game(maps, right, (H, W), tolerance=0).hits.item()
    assert not spatial_pointing_game(maps, swapped, (H, W), tolerance=0).hits.item()


small_box = st.tuples(st.floats(0, 10.5), st.floats(0, 6.5), st.floats(0.05, 9), st.floats(0.05, 9)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(small_box, min_size=1, max_size=3),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5, 5.0]),
    st.sampled_from(["disc", "square"]),
)
def test_every_point_and_the_chance_agree_with_the_definition(boxes, tolerance, shape):
    height, width = 7, 11
    points = [(x, y) for y in range(height) for x in range(width)]
    maps = torch.eye(height * width).view(1, -1, height, width)
    padded = torch.tensor([*boxes, NONE], dtype=torch.float64).expand(1, len(points), -1, -1)
    result = spatial_pointing_game(maps, padded, (height, width), tolerance, shape)
    expected = [hits_by_pixels(x, y, boxes, tolerance, shape) for x, y in points]
    assert result.hits[0].tolist() == expected
    chance = spatial_pointing_chance(padded[:, :1], (height, width), tolerance, shape)
    assert chance.item() == pytest.approx(sum(expected) / len(expected), abs=1e-12)
    center = spatial_pointing_center(padded[:, :1], (height, width), tolerance, shape)
    assert center.hits.item() == hits_by_pixels(width // 2, height // 2, boxes, tolerance, shape)


def test_random_points_reach_chance_and_an_oracle_all():
    n, t, height, width = 5, 200, 9, 13
    generator = torch.Generator().manual_seed(9)
    boxes = torch.tensor([2.0, 1.0, 6.0, 4.0]).expand(n, t, 1, 4)
    maps = torch.rand(n, t, height, width, generator=generator)
    chance = spatial_pointing_chance(boxes, (height, width), tolerance=0)
    assert chance.unique().tolist() == pytest.approx([12 / 117])
    accuracy = spatial_pointing_game(maps, boxes, (height, width), tolerance=0).accuracy
    assert accuracy == pytest.approx(12 / 117, abs=0.04)  # 4 standard errors
    maps[:, :, 1:4, 2:6] += 1
    assert spatial_pointing_game(maps, boxes, (height, width), tolerance=0).accuracy == 1
    assert spatial_pointing_game(-maps, boxes, (height, width), tolerance=0).accuracy == 0


def test_clips_and_frames_are_not_mixed_up():
    n, t = 2, 3
    points = [[(5, 8), (50, 3), (97, 39)], [(20, 20), (33, 1), (70, 12)]]
    maps = torch.cat([torch.cat([point_map(*p) for p in clip], dim=1) for clip in points])
    boxes = torch.tensor([[[[x, y, x + 1, y + 1]] for x, y in clip] for clip in points], dtype=torch.float32)
    assert maps.shape == (n, t, H, W)
    assert spatial_pointing_game(maps, boxes, (H, W), tolerance=0).hits.all()
    assert not spatial_pointing_game(maps, boxes.flip(0), (H, W), tolerance=0).hits.any()
    reversed_frames = spatial_pointing_game(maps, boxes.flip(1), (H, W), tolerance=0)
    assert reversed_frames.hits.tolist() == [[False, True, False]] * n  # the middle frame stays in place


def test_a_box_that_reaches_out_of_the_frame_is_counted_inside_it():
    assert spatial_pointing_chance(one_frame([90.0, -5.0, 120.0, 20.0]), (H, W), tolerance=0).item() == 0.05


@pytest.mark.parametrize(
    ("boxes", "error", "message"),
    [
        (torch.tensor([[[0.0, 0.0, 5.0, 5.0]]]), ValueError, r"boxes\[:, :, None\]"),
        (one_frame([5.0, 0.0, 5.0, 5.0]), ValueError, "clip 0, frame 0"),
        (one_frame([0.0, 9.0, 5.0, 5.0]), ValueError, "y0 < y1"),
        (one_frame([0.0, math.nan, 5.0, 5.0]), ValueError, "four NaN"),
        (one_frame([0.0, 0.0, math.inf, 5.0]), ValueError, "inf"),
        (one_frame([100.0, 0.0, 105.0, 5.0]), ValueError, "reach into the frame"),
        (torch.zeros(1, 1, 0, 4), ValueError, "empty axis"),
        (torch.zeros(1, 1, 1, 4, dtype=torch.int64), TypeError, "int64"),
        (one_frame([0.0, 0.0, 5.0, 5.0]).expand(1, 2, 1, 4), ValueError, r"\(N, T\)"),
    ],
)
def test_bad_boxes_are_refused_by_place(boxes, error, message):
    with pytest.raises(error, match=message):
        spatial_pointing_game(point_map(1, 2), boxes, (H, W))


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        (torch.zeros(1, H, W), ValueError, "(N, T, h, w)"),
        (torch.zeros(0, 1, H, W), ValueError, "empty"),
        (torch.full((1, 1, 3, 4), math.nan), ValueError, "clip 0, frame 0"),
        (torch.zeros(1, 1, W, H), ValueError, "height first"),
        (torch.zeros(1, 1, 3, 4, dtype=torch.bool), TypeError, "bool"),
    ],
)
def test_bad_maps_are_refused_by_name(maps, error, message):
    with pytest.raises(error, match=message):
        spatial_pointing_game(maps, one_frame([0.0, 0.0, 5.0, 5.0]), (H, W))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -1}, "tolerance"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"shape": "circle"}, "'circle'"),
    ],
)
def test_bad_options_are_refused_by_value(options, message):
    with pytest.raises(ValueError, match=message):
        is_hit(1, 2, [0.0, 0.0, 5.0, 5.0], **options)


def test_a_frame_size_is_a_height_and_a_width():
    with pytest.raises(ValueError, match="frame_size"):
        spatial_pointing_chance(one_frame([0.0, 0.0, 5.0, 5.0]), (0, W))
