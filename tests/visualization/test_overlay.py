import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.visualization import draw_boxes, heat_layer, lookup_table, overlay

T, H, W = 5, 6, 9
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def clip(seed=0):
    return torch.randint(256, (T, 3, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def signed_maps(seed=1, shape=(T, H, W)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def paint_pixel(pixel, value, negative, opacity):
    """The definition, for one pixel and a value already divided by the clip's peak."""
    import matplotlib

    if negative == "hide":
        value = max(value, 0.0)
        colour = matplotlib.colormaps["inferno"](round(value * 255), bytes=True)[:3]
    else:
        colour = matplotlib.colormaps["bwr"](round(value * 127) + 128, bytes=True)[:3]
    alpha = abs(value) * opacity
    return [(1 - alpha) * int(p) + alpha * int(c) for p, c in zip(pixel, colour, strict=True)]


@pytest.mark.parametrize("negative", ["hide", "show"])
@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_it_equals_the_definition_pixel_by_pixel(negative, opacity):
    frames, maps = clip(), signed_maps()
    peak = maps.max() if negative == "hide" else maps.abs().max()
    painted = overlay(frames, maps, negative=negative, opacity=opacity)
    for t in range(T):
        for y in range(H):
            for x in range(W):
                want = paint_pixel(
                    frames[t, :, y, x].tolist(), (maps[t, y, x] / peak).item(), negative, opacity
                )
                assert painted[t, :, y, x].tolist() == pytest.approx(want, abs=2)  # 8-bit levels and alpha


def test_a_coarse_map_is_upsampled_in_space_without_leaking_in_time():
    maps = torch.zeros(T, 2, 3)
    maps[2] = 1.0
    alpha = heat_layer(maps, (T, H, W))[:, 3]
    assert alpha[2].eq(255).all()
    assert alpha[[0, 1, 3, 4]].eq(0).all()


def test_a_map_of_fewer_time_steps_is_interpolated_in_time():
    alpha = heat_layer(torch.tensor([0.0, 1.0])[:, None, None], (8, H, W))[:, 3, 0, 0]
    assert (alpha.int().diff() >= 0).all()
    assert alpha[0] == 0
    assert alpha[-1] == 255
    assert 0 < alpha[4] < 255


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(0, 2**16))
def test_only_values_relative_to_the_whole_clip_count(factor, seed):
    frames, maps = clip(seed), signed_maps(seed)
    difference = overlay(frames, maps).int() - overlay(frames, maps * factor).int()
    assert difference.abs().max() <= 2  # one step of the 8-bit alpha and colour


def test_frames_keep_their_relation_to_each_other():
    """Scaled by its own peak, every frame would be painted alike."""
    maps = torch.arange(1, T + 1).float()[:, None, None].expand(T, H, W)
    alpha = heat_layer(maps, (T, H, W))[:, 3, 0, 0]
    assert alpha.tolist() == [51, 102, 153, 204, 255]


def test_one_peak_makes_two_clips_comparable():
    weak = torch.full((T, H, W), 0.25)
    assert heat_layer(weak, (T, H, W), peak=1.0)[:, 3].eq(64).all()
    assert heat_layer(weak, (T, H, W), peak=0.1)[:, 3].eq(255).all()


@pytest.mark.parametrize("negative", ["hide", "show"])
def test_a_map_of_zeros_gives_the_frames(negative):
    assert overlay(clip(), torch.zeros(T, 2, 3), negative=negative).equal(clip())


def test_a_map_without_positive_evidence_gives_the_frames_unless_negatives_are_shown():
    maps = -torch.rand(T, 2, 3) - 0.1
    assert overlay(clip(), maps).equal(clip())
    assert not overlay(clip(), maps, negative="show").equal(clip())


def test_negative_evidence_is_blue_and_positive_red():
    layer = heat_layer(torch.tensor([[[-1.0, 1.0]]]), (1, 1, 2), negative="show")[0, :, 0].int()
    assert layer[2, 0] > layer[0, 0]
    assert layer[0, 1] > layer[2, 1]


def test_subnormal_maps_are_painted_like_any_other():
    maps = torch.rand(T, 2, 3) + 0.1
    assert heat_layer(maps * 1e-37, (T, H, W))[:, 3].max() == 255


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maps_of_every_float_type_are_taken(dtype):
    assert overlay(clip(), signed_maps().to(dtype)).shape == (T, 3, H, W)


@pytest.mark.parametrize("device", DEVICES)
def test_the_result_stays_on_the_device(device):
    frames, maps = clip().to(device), signed_maps().to(device)
    assert overlay(frames, maps).device == frames.device
    assert heat_layer(maps, (T, H, W)).device == maps.device
    assert draw_boxes(frames, torch.tensor([[1.0, 1, 3, 3]]).expand(T, 4)).device == frames.device
    assert (overlay(frames, maps).cpu().int() - overlay(clip(), signed_maps()).int()).abs().max() <= 1


def test_the_arguments_are_not_changed():
    frames, maps = clip(), signed_maps().requires_grad_()
    painted = overlay(frames, maps)
    draw_boxes(frames, torch.tensor([[0.0, 0, 4, 4]]).expand(T, 4))
    assert frames.equal(clip())
    assert maps.detach().equal(signed_maps())
    assert not painted.requires_grad


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_map_value_that_is_not_finite_is_named(bad):
    maps = signed_maps()
    maps[3, 1, 7] = bad
    with pytest.raises(ValueError, match=rf"frame 3, y 1, x 7 it is {bad}"):
        overlay(clip(), maps)


@pytest.mark.parametrize(
    ("frames", "maps", "error", "text"),
    [
        (clip().float(), signed_maps(), TypeError, "uint8"),
        (clip().transpose(0, 1), signed_maps(), ValueError, r"\(T, 3, H, W\)"),
        (clip()[:0], signed_maps(), ValueError, "empty"),
        (clip(), signed_maps()[None], ValueError, "three axes"),
        (clip(), signed_maps()[:0], ValueError, "empty"),
        (clip(), signed_maps(shape=(T + 1, H, W)), ValueError, "6 time steps.*5 frames"),
        (clip(), torch.ones(T, H, W, dtype=torch.int64), TypeError, "floating point"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(frames, maps, error, text):
    with pytest.raises(error, match=text):
        overlay(frames, maps)


@pytest.mark.parametrize("option", [{"negative": "red"}, {"opacity": 1.5}, {"peak": 0.0}, {"peak": math.nan}])
def test_an_option_out_of_range_is_refused_by_name(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        overlay(clip(), signed_maps(), **option)


def test_a_lookup_table_is_the_callers_own():
    lookup_table("viridis").zero_()
    assert lookup_table("viridis").any()
    with pytest.raises(ValueError, match="no-such"):
        lookup_table("no-such")


def test_a_box_covers_x0_to_x1_and_y0_to_y1_and_nothing_else():
    """Off the diagonal, so that swapped axes or inclusive ends would show."""
    frames = torch.zeros(2, 3, H, W, dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 1.0, 8.0, 5.0], [math.nan] * 4])
    drawn = draw_boxes(frames, boxes, colour=(9, 8, 7))
    want = np.zeros((H, W), dtype=np.uint8)
    want[1:5, 4:8] = 9
    want[2:4, 5:7] = 0
    assert drawn[0, 0].tolist() == want.tolist()
    assert drawn[0, :, 1, 4].tolist() == [9, 8, 7]
    assert drawn[1].eq(0).all()


def test_several_boxes_per_frame_and_boxes_over_the_border():
    frames = torch.zeros(2, 3, H, W, dtype=torch.uint8)
    boxes = [torch.tensor([[-3.0, -3, 2, 2], [7.0, 4, 99, 99]]), torch.empty(0, 4)]
    drawn = draw_boxes(frames, boxes, colour=(1, 1, 1))
    assert drawn[0, 0, 1, 1] == 1
    assert drawn[0, 0, 4, 7] == 1
    assert drawn[1].eq(0).all()


def test_a_box_outside_the_frame_draws_nothing():
    frames = torch.zeros(1, 3, H, W, dtype=torch.uint8)
    for box in ([-9.0, 1, -2, 4], [W + 1.0, 1, W + 5, 4], [1.0, -9, 4, -2]):
        assert draw_boxes(frames, torch.tensor([box])).eq(0).all(), box


@pytest.mark.parametrize(
    ("boxes", "text"),
    [
        (torch.zeros(3, 4), "3 items, 5 frames"),
        (torch.tensor([[4.0, 1, 2, 5]]).expand(T, 4), "frame 0 has no finite area"),
        (torch.zeros(T, 5), "last axis"),
    ],
)
def test_bad_boxes_are_refused(boxes, text):
    with pytest.raises(ValueError, match=text):
        draw_boxes(clip(), boxes)
