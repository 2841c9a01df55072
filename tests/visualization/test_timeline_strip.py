import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from captum_ext.visualization import timeline_strip
from captum_ext.visualization.timeline import CURVE_HEIGHT, FOOT_HEIGHT, GAP, LEFT, RIGHT, TOP

T, H, W = 21, 24, 32
COLUMNS, CELL = 7, 90
SPAN_GREEN, WINDOW_ORANGE = (0xBF, 0xE3, 0xCD), (0xD9, 0x73, 0x0D)


def strip(span=None, window=None, **options):
    frames = (torch.arange(T) * 10).to(torch.uint8)[:, None, None, None].expand(T, 3, H, W)
    maps = torch.zeros(T, 3, 4)
    scores = torch.linspace(-1, 1, T)
    options = {"columns": COLUMNS, "cell_width": CELL, **options}
    return np.asarray(timeline_strip(frames, maps, scores, span=span, window=window, **options)).astype(int)


def columns_of(picture, colour):
    """First and last pixel column that holds the colour in the curve's panel, legend left out."""
    panel = picture[-(CURVE_HEIGHT + FOOT_HEIGHT) : -FOOT_HEIGHT]
    hit = (np.abs(panel - np.array(colour)).max(axis=2) <= 3).any(axis=0)
    return np.flatnonzero(hit)[[0, -1]]


def column_of_time(t):
    return LEFT + t / T * COLUMNS * CELL


def test_its_size_follows_from_the_cells():
    cell_height = round(CELL * H / W)
    height = TOP + 2 * (cell_height + GAP) + CURVE_HEIGHT + FOOT_HEIGHT
    assert strip().shape == (height, LEFT + COLUMNS * CELL + RIGHT, 3)


@pytest.mark.parametrize(("start", "end"), [(0, 5), (6, 15), (20, 21), (0, 21)])
def test_the_true_span_is_shaded_over_its_own_frames(start, end):
    first, last = columns_of(strip(span=(start, end)), SPAN_GREEN)
    assert first == pytest.approx(column_of_time(start), abs=2)
    assert last + 1 == pytest.approx(column_of_time(end), abs=2)


def test_the_found_window_is_marked_over_its_own_frames():
    first, last = columns_of(strip(window=(6, 15)), WINDOW_ORANGE)
    assert first == pytest.approx(column_of_time(6), abs=2)
    assert last + 1 == pytest.approx(column_of_time(15), abs=2)


def test_each_cell_shows_the_middle_frame_of_its_part_of_the_curve():
    picture = strip()
    for i in range(COLUMNS):
        assert picture[TOP + 20, LEFT + i * CELL + CELL // 2].tolist() == [10 * (3 * i + 1)] * 3


def test_the_colours_are_those_of_the_whole_clip():
    """The clip's peak lies in a frame that is not shown; the shown ones must stay weak."""
    frames = torch.zeros(T, 3, H, W, dtype=torch.uint8)
    maps = torch.full((T, 3, 4), 0.01)
    maps[0] = 1.0
    picture = np.asarray(timeline_strip(frames, maps, maps.sum((1, 2)), columns=3, cell_width=CELL))
    overlays = picture[TOP + 68 + GAP + 5 : TOP + 2 * 68, LEFT + 10 : LEFT + 80]
    assert overlays.max() <= 3


def test_a_title_is_taken_literally_and_adds_its_line():
    assert strip(title="$unbalanced {maths").shape[0] > strip().shape[0]


def test_a_single_frame_and_a_constant_curve_are_drawn():
    one = torch.zeros(1, 3, H, W, dtype=torch.uint8)
    assert (
        timeline_strip(one, torch.zeros(1, 2, 2), torch.zeros(1), span=(0, 1)).size[0] == LEFT + 120 + RIGHT
    )


def test_the_users_matplotlib_settings_do_not_change_its_size():
    import matplotlib

    with matplotlib.rc_context({"savefig.bbox": "tight", "figure.dpi": 37, "savefig.dpi": 300}):
        assert strip().shape == strip().shape == strip().shape
        inside = strip(span=(6, 15))
    assert inside.shape == strip(span=(6, 15)).shape


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"span": (5, 5)}, r"span.*\[5, 5\)"),
        ({"span": (5, T + 1)}, r"span.*\[5, 22\)"),
        ({"window": (-1, 4)}, r"window.*\[-1, 4\)"),
        ({"columns": 0}, "columns"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, text):
    with pytest.raises(ValueError, match=text):
        strip(**arguments)


def test_scores_must_be_one_finite_number_per_frame():
    frames, maps = torch.zeros(T, 3, H, W, dtype=torch.uint8), torch.zeros(T, 2, 2)
    with pytest.raises(ValueError, match=r"shape \(21,\), not \(20,\)"):
        timeline_strip(frames, maps, torch.zeros(T - 1))
    scores = torch.zeros(T)
    scores[4] = math.nan
    with pytest.raises(ValueError, match="frame 4 has nan"):
        timeline_strip(frames, maps, scores)


def test_nothing_here_imports_pyplot():
    code = (
        "import sys, torch, captum_ext.visualization as v\n"
        "assert 'matplotlib' not in sys.modules, 'imported with the package'\n"
        "v.timeline_strip(torch.zeros(2, 3, 8, 9, dtype=torch.uint8), torch.ones(2, 2, 3), torch.ones(2))\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'imported to draw'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
