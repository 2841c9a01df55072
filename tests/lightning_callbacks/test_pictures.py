"""Samples as people see them, and maps of every shape that attributions have."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from captum_ext.visualization import overlay
from captum_ext.visualization.timeline import LEFT
from lightning_callbacks._pictures import LINE, MARGIN, draw, maps_of, share_outside, visible_frames

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
    with pytest.raises(TypeError, match=r"is a tuple.*return_convergence_delta"):
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


def test_channels_in_the_wrong_place_are_an_error():
    swapped = torch.rand(1, 8, 3, H, W)
    with pytest.raises(ValueError, match=r"8 channels and 3 frames in the layout 'NCTHW'.*layout='NTCHW'"):
        visible_frames(swapped, "NCTHW")
    with pytest.raises(ValueError, match="layout='NCTHW'"):
        visible_frames(swapped.transpose(1, 2), "NTCHW")
    with pytest.raises(ValueError, match=r"\(1, 64, 48, 3\) seem to have their channels last"):
        visible_frames(torch.rand(1, 64, 48, 3), "NCTHW")
    # Negative control: narrow images and short clips are none of these.
    assert visible_frames(torch.rand(1, 3, 64, 3), "NCTHW").shape == (1, 3, 64, 3)
    assert visible_frames(torch.rand(1, 8, 3, H, W), "NTCHW").shape == (8, 3, H, W)


def test_values_that_do_not_fit_the_normalisation_are_counted():
    image = torch.tensor([0.0, 0.5, 1.0, 1.2, -0.2, 1.04]).view(1, 1, 2, 3)
    assert share_outside(image, "NCTHW", (0.0,), (1.0,)) == pytest.approx(2 / 6)
    assert share_outside(image * 255, "NCTHW", None, None) == 0


@pytest.mark.parametrize("is_clip", [False, True])
@pytest.mark.parametrize("size", [(4, 600), (600, 4), (900, 1300)])
def test_pictures_are_of_a_size_to_look_at_whatever_the_sample(size, is_clip):
    frames = torch.randint(256, (2 if is_clip else 1, 3, *size), dtype=torch.uint8)
    pictures = draw(frames, torch.rand(1, 2, 3), "predicted: b, p = 0.30", is_clip)
    if is_clip:
        assert pictures.moving.shape[0] == 2
        assert max(pictures.moving.shape[2:]) <= 640
    else:
        _, height, width = pictures.still.shape
        assert height <= MARGIN + LINE + 640 + MARGIN
        assert 400 < width <= 2 * 640 + 3 * MARGIN


def test_a_shrunk_image_keeps_its_colours_and_proportions():
    frames = torch.zeros(1, 3, 800, 1280, dtype=torch.uint8)
    frames[:, 0, :, 640:] = 200
    still = draw(frames, torch.rand(1, 2, 3), "a", is_clip=False).still
    left = still[:, MARGIN + LINE : -MARGIN, MARGIN : MARGIN + 640]
    assert left.shape == (3, 400, 640)
    assert left[:, :, :320].eq(0).all()
    assert left[0, :, 320:].eq(200).all()


def test_a_small_clip_is_animated_enlarged():
    pictures = draw(torch.zeros(T, 3, H, W, dtype=torch.uint8), torch.rand(T, H, W), "a", is_clip=True)
    assert pictures.moving.shape == (T, 3, 16 * H, 16 * W)


@pytest.mark.parametrize("is_clip", [False, True])
def test_long_names_are_cut_and_the_probability_is_not(is_clip):
    frames, maps = torch.zeros(1, 3, H, W, dtype=torch.uint8), torch.rand(1, H, W)
    left = LEFT if is_clip else MARGIN

    def title(name):
        still = draw(frames, maps, f"true: b; predicted: {name}, p = 0.30", is_clip).still
        return still[:, : MARGIN // 2 + 2 * LINE, left:]

    def end(line):
        """The ink's last columns, wide enough for the probability."""
        last = int(line.lt(128).any(0).any(0).nonzero().max())
        return line[:, :, last - 50 : last + 1].lt(128), last

    cut, short = title("class name " * 30), title("b")
    (ink, last), (want, _) = end(cut[:, -LINE:]), end(short[:, -LINE:])
    assert last < cut.shape[2] - MARGIN  # nothing runs out of the picture
    columns, wanted = ink.any(0).any(0), want.any(0).any(0)
    # Letters behind others may lie a fraction of a pixel further on.
    for these, those in ((columns, wanted), (wanted, columns)):
        assert not (these & ~F.max_pool1d(those[None].float(), 3, 1, 1)[0].bool()).any()
    assert torch.equal(cut[:, : MARGIN // 2 + LINE], short[:, : MARGIN // 2 + LINE])


def test_names_that_the_font_does_not_have_are_no_reason_to_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(torch.zeros(1, 3, H, W, dtype=torch.uint8), torch.rand(1, H, W), "true: 日本語", is_clip=False)


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
    assert hidden.moving.eq(90).all()
    assert not torch.equal(shown.moving, frames)
    assert not torch.equal(hidden.still, shown.still)
