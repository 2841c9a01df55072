"""Samples as people see them, and maps of every shape that attributions have."""

import numpy as np
import pytest
import torch

from captum_ext.visualization import overlay
from lightning_callbacks._pictures import LINE, MARGIN, draw, maps_of, visible_frames

T, C, H, W = 5, 3, 6, 9
_GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.rand(1, C, H, W, generator=_GENERATOR)
CLIP = torch.rand(1, C, T, H, W, generator=_GENERATOR)


def test_maps_are_sums_over_channels_in_every_shape():
    image, clip = torch.randn(1, C, H, W), torch.randn(1, C, T, H, W)
    assert torch.equal(maps_of(image, IMAGE, "NCTHW"), image[0].sum(0)[None])
    assert torch.equal(maps_of((image,), IMAGE, "NCTHW"), image[0].sum(0)[None])
    assert torch.equal(maps_of(clip, CLIP, "NCTHW"), clip[0].sum(0))
    layer = torch.randn(1, 7, 2, 3, 4)
    assert torch.equal(maps_of(layer, CLIP, "NCTHW"), layer[0].sum(0))
    folded = torch.randn(T, 1, 3, 4)
    assert torch.equal(maps_of(folded, CLIP, "NCTHW"), folded[:, 0])


def test_convention_an_attribution_of_the_clips_shape_has_the_clips_axes():
    clip = torch.randn(1, T, C, H, W)
    assert torch.equal(maps_of(clip, CLIP.transpose(1, 2), "NTCHW"), clip[0].sum(1))
    layer = torch.randn(1, 1, T, 3, 4)
    assert torch.equal(maps_of(layer, CLIP.transpose(1, 2), "NTCHW"), layer[0, 0])


@pytest.mark.parametrize("shape", [(2, C, H, W), (1, C, T, H, W), (1, H, W), (C,)])
def test_other_shapes_are_no_maps_of_an_image(shape):
    with pytest.raises(ValueError, match="is no map of inputs"):
        maps_of(torch.zeros(shape), IMAGE, "NCTHW")


@pytest.mark.parametrize("shape", [(1, C, H, W), (T + 1, 1, H, W), (2, C, T, H, W)])
def test_other_shapes_are_no_maps_of_a_clip(shape):
    with pytest.raises(ValueError, match="is no map of inputs"):
        maps_of(torch.zeros(shape), CLIP, "NCTHW")


def test_an_attribution_with_its_delta_is_not_taken_for_a_map():
    with pytest.raises(TypeError, match="is a tuple"):
        maps_of((IMAGE, torch.zeros(1)), IMAGE, "NCTHW")


def test_convention_clips_are_seen_frame_by_frame_in_both_layouts():
    want = (CLIP[0] * 255).round().to(torch.uint8).transpose(0, 1)
    for clip, layout in ((CLIP, "NCTHW"), (CLIP.transpose(1, 2), "NTCHW")):
        assert torch.equal(visible_frames(clip, layout, (0.0,), (1.0,)), want)


def test_the_normalisation_is_undone_by_channel_and_cut_off():
    image = torch.tensor([-1.0, 0.0, 2.0]).view(1, 3, 1, 1)
    shown = visible_frames(image, "NCTHW", (0.5, 0.4, 0.3), (0.2, 0.3, 0.5))
    assert shown.flatten().tolist() == [round(255 * 0.3), round(255 * 0.4), 255]


def test_the_smallest_value_of_the_whole_clip_is_black_and_the_largest_white():
    brighter = CLIP * torch.arange(1.0, T + 1).view(1, 1, T, 1, 1)
    shown = visible_frames(brighter * 7 - 3, "NCTHW").int()
    assert (shown.min(), shown.max()) == (0, 255)
    assert shown[0].max() < 100  # negative control: not frame by frame


def test_a_constant_image_is_black():
    assert visible_frames(torch.full((1, C, H, W), 3.0), "NCTHW").eq(0).all()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels_are_shown_in_grey(channels):
    image = torch.rand(1, channels, H, W)
    shown = visible_frames(image, "NCTHW", (0.0,), (1.0,))
    assert shown.shape == (1, 3, H, W)
    assert torch.equal(shown[0, 1], (image[0].mean(0) * 255).round().to(torch.uint8))
    assert torch.equal(shown[0, 0], shown[0, 2])


def test_what_is_no_image_or_clip_is_an_error():
    with pytest.raises(ValueError, match=r"images \(N, C, H, W\) or clips"):
        visible_frames(torch.rand(1, 7), "NCTHW")
    with pytest.raises(ValueError, match="2 numbers, but the inputs 3 channels"):
        visible_frames(IMAGE, "NCTHW", (0.5, 0.5), (1.0, 1.0))


@pytest.mark.parametrize(
    ("size", "factor"), [((192, 200), 1), ((191, 200), 2), ((6, 9), 32), ((300, 200), 1)]
)
def test_an_image_is_enlarged_by_a_whole_factor_and_its_overlay_with_it(size, factor):
    h, w = size
    frame = torch.randint(256, (1, 3, h, w), dtype=torch.uint8)
    maps = torch.rand(1, 2, 3)
    caption = "true: a; predicted: b, p = 0.30"
    pictures = draw(frame, maps, caption, is_clip=False)
    assert (pictures.moving, pictures.caption) == (None, caption)
    large = torch.from_numpy(np.kron(frame.numpy(), np.ones((1, 1, factor, factor), dtype=np.uint8)))
    top = MARGIN + 2 * LINE
    still = pictures.still
    assert still.shape == (3, top + h * factor + MARGIN, 2 * w * factor + 3 * MARGIN)
    left = still[:, top:-MARGIN, MARGIN : MARGIN + w * factor]
    right = still[:, top:-MARGIN, -MARGIN - w * factor : -MARGIN]
    assert torch.equal(left, large[0])
    assert torch.equal(right, overlay(large, maps)[0])


def test_the_title_is_written_above_the_image_on_lines_of_its_own():
    frame, maps = torch.zeros(1, 3, H, W, dtype=torch.uint8), torch.rand(1, H, W)

    def title(caption):
        still = draw(frame, maps, caption, is_clip=False).still
        return still[:, : -32 * H - MARGIN]

    one, two = title("predicted: $x_1$, p = 0.30"), title("true: a; predicted: $x_1$, p = 0.30")
    assert (one.shape[1], two.shape[1]) == (MARGIN + LINE, MARGIN + 2 * LINE)
    for part in (one, two[:, : MARGIN // 2 + LINE], two[:, MARGIN // 2 + LINE :]):
        assert part.min() < 100  # ink
        assert part[:, :, :MARGIN].eq(255).all()
    assert title("; ").eq(255).all()  # negative control


def test_evidence_against_can_be_shown():
    frames, maps = torch.full((T, 3, H, W), 90, dtype=torch.uint8), -torch.rand(T, H, W)
    hidden, shown = (draw(frames, maps, "a", True, negative) for negative in ("hide", "show"))
    assert torch.equal(hidden.moving, frames)
    assert not torch.equal(shown.moving, frames)
    assert not torch.equal(hidden.still, shown.still)
