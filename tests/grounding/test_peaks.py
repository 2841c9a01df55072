import pytest
import torch
from torch.nn import functional as F

from captum_ext.grounding import peak_frame, peak_point

N, T, H, W = 2, 3, 40, 100


def test_peak_frame_is_the_earliest_highest():
    assert peak_frame(torch.tensor([[0.0, 2.0, 1.0, 2.0], [-3.0, -1.0, -2.0, -1.0]])).tolist() == [1, 1]


def test_convention_points_are_x_then_y():
    maps = torch.zeros(N, T, H, W)
    maps[:, :, 15, 90] = 1.0  # row 15, column 90
    assert (peak_point(maps, (H, W)) == torch.tensor([90, 15])).all()


@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (3, 4), (2, 0)])
def test_a_coarse_cell_points_to_the_middle_of_the_pixels_it_covers(cell):
    maps = torch.zeros(1, 1, 4, 5)
    maps[0, 0, cell[0], cell[1]] = 1.0
    x, y = peak_point(maps, (12, 35))[0, 0].tolist()  # 3 x 7 pixels a cell
    assert (y // 3, x // 7) == cell
    inner = (0 < cell[0] < 3, 0 < cell[1] < 4)
    # A cell at the border stays highest to the edge: of that plateau the earliest pixel is taken.
    assert y == cell[0] * 3 + 1 if inner[0] else y in (0, 3 * cell[0] + 1)
    assert x == cell[1] * 7 + 3 if inner[1] else x in (0, 7 * cell[1] + 3)


@pytest.mark.parametrize("size", [(4, 5), (9, 11), (17, 23)])
def test_peak_point_is_the_earliest_highest_pixel_of_the_resized_map(size):
    maps = torch.randn(N, T, 4, 5, generator=torch.Generator().manual_seed(3))
    points = peak_point(maps, size)
    assert points.shape == (N, T, 2)
    assert points.dtype == torch.int64
    resized = F.interpolate(maps.double(), size=size, mode="bilinear", align_corners=False)
    for n in range(N):
        for t in range(T):
            rows = resized[n, t].tolist()
            highest = max(max(row) for row in rows) - 1e-12
            best = next((y, x) for y in range(size[0]) for x in range(size[1]) if rows[y][x] >= highest)
            assert points[n, t].tolist() == [best[1], best[0]]


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3])
def test_a_constant_map_points_at_the_first_pixel_even_after_resizing(value):
    assert peak_point(torch.full((1, 1, 3, 5), value), (31, 47)).tolist() == [[[0, 0]]]


def test_half_precision_maps_are_accepted():
    maps = torch.zeros(1, 1, 4, 6, dtype=torch.float16)
    maps[0, 0, 1, 5] = 1.0
    assert peak_point(maps, (4, 6)).tolist() == [[[5, 1]]]


@pytest.mark.parametrize(
    ("maps", "error", "message"),
    [
        (torch.zeros(2, 3, 4), ValueError, "(N, T, h, w)"),
        (torch.zeros(0, 3, 4, 5), ValueError, "empty"),
        (torch.full((1, 1, 4, 5), float("nan")), ValueError, "finite"),
        (torch.zeros(1, 1, 30, 5), ValueError, "height first"),
        (torch.zeros(1, 1, 4, 5, dtype=torch.uint8), TypeError, "uint8"),
    ],
)
def test_bad_maps_are_refused_by_name(maps, error, message):
    with pytest.raises(error, match=message):
        peak_point(maps, (20, 30))
