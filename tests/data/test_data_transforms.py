"""The crop, its pixels, its normalisation and the boxes in it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ext.data import IMAGENET, KINETICS, ClipTransform

T, H, W = 5, 60, 100


def frames_with_box(box: tuple[int, int, int, int]) -> Tensor:
    frames = torch.zeros(T, 3, H, W, dtype=torch.uint8)
    x0, y0, x1, y1 = box
    frames[:, :, y0:y1, x0:x1] = 255
    return frames


def bounding_box(frames: Tensor, above: int = 127) -> tuple[int, int, int, int]:
    ys, xs = torch.nonzero(frames[0, 0] > above, as_tuple=True)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def test_the_input_is_channels_first_float_and_normalised() -> None:
    frames = torch.full((T, 3, H, W), 255, dtype=torch.uint8)
    frames[:, 1] = 0
    clip = ClipTransform((24, 32), *KINETICS)(frames)
    assert clip.shape == (3, T, 24, 32)
    assert clip.dtype == torch.float32
    for channel, pixel in enumerate((1.0, 0.0, 1.0)):
        expected = (pixel - KINETICS.mean[channel]) / KINETICS.std[channel]
        torch.testing.assert_close(clip[channel], torch.full((T, 24, 32), expected))


def test_time_and_channels_are_not_exchanged() -> None:
    frames = torch.zeros(T, 3, H, W, dtype=torch.uint8)
    frames[2, 0] = 255
    clip = ClipTransform(60, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(frames)
    assert clip[0, 2].min() == 1
    assert clip.sum() == clip[0, 2].sum()


def test_the_crop_is_what_the_model_sees() -> None:
    frames = torch.randint(
        0, 256, (T, 3, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    transform = ClipTransform((24, 32), *IMAGENET, resize=40)
    seen = transform(frames) * torch.tensor(IMAGENET.std).view(3, 1, 1, 1) + torch.tensor(IMAGENET.mean).view(
        3, 1, 1, 1
    )
    crop = transform.crop(frames)
    assert crop.shape == (T, 3, 24, 32)
    torch.testing.assert_close(seen.transpose(0, 1) * 255, crop.float(), atol=1e-3, rtol=0)


def test_a_clip_of_the_right_size_is_not_touched() -> None:
    frames = torch.randint(
        0, 256, (T, 3, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(ClipTransform((H, W), *IMAGENET).crop(frames), frames)


def test_the_crop_is_central() -> None:
    frames = torch.arange(W, dtype=torch.uint8).expand(T, 3, H, W).contiguous()
    crop = ClipTransform(H, *IMAGENET).crop(frames)
    assert crop[0, 0, 0].tolist() == list(range(20, 80))


def test_resize_is_the_short_side() -> None:
    frames = frames_with_box((0, 0, W, H))
    assert ClipTransform((30, 50), *IMAGENET, resize=30).crop(frames).float().mean() == 255
    with pytest.raises(ValueError, match=r"60 x 100 resized to 20 x 33 .* crop of 30 x 50: raise resize"):
        ClipTransform((30, 50), *IMAGENET, resize=20).crop(frames)


@pytest.mark.parametrize("size", [(30, 30), (24, 48), (60, 40), (90, 150)])
def test_convention_boxes_are_x0_y0_x1_y1_and_follow_the_pixels(size: tuple[int, int]) -> None:
    box = (50, 6, 66, 22)  # off the diagonal: exchanging x and y would miss it
    transform = ClipTransform(size, *IMAGENET)
    drawn = bounding_box(transform.crop(frames_with_box(box)))
    (mapped,) = transform.map_boxes([box], (H, W))
    assert mapped is not None
    assert mapped == pytest.approx(drawn, abs=1.0)
    exchanged = (box[1], box[0], box[3], box[2])
    assert transform.map_boxes([exchanged], (H, W))[0] != pytest.approx(drawn, abs=1.0)


@settings(max_examples=40, deadline=None)
@given(
    x0=st.integers(20, 60), y0=st.integers(0, 40), width=st.integers(8, 20), height=st.integers(8, 20),
    resize=st.integers(30, 90),
)  # fmt: skip
def test_boxes_follow_the_pixels_at_any_scale(x0: int, y0: int, width: int, height: int, resize: int) -> None:
    box = (x0, y0, x0 + width, y0 + height)
    transform = ClipTransform((30, 28), *IMAGENET, resize=resize)
    (mapped,) = transform.map_boxes([box], (H, W))
    crop = transform.crop(frames_with_box(box))
    if mapped is None:
        assert not (crop > 127).any()
    elif mapped[2] - mapped[0] > 2 and mapped[3] - mapped[1] > 2:
        assert mapped == pytest.approx(bounding_box(crop), abs=1.0)


def test_boxes_are_cut_at_the_border_and_dropped_outside_it() -> None:
    transform = ClipTransform(60, *IMAGENET)  # keeps columns 20 to 80
    boxes = [(0.0, 1.0, 30.0, 2.0), (0.0, 0.0, 20.0, 60.0), None, (79.0, 10.0, 100.0, 70.0)]
    assert transform.map_boxes(boxes, (H, W)) == (
        (0.0, 1.0, 10.0, 2.0),
        None,
        None,
        (59.0, 10.0, 60.0, 60.0),
    )


@pytest.mark.parametrize(
    "frames", [torch.zeros(T, 3, H, W), torch.zeros(3, T, H, W, dtype=torch.uint8), torch.zeros(3, H, W)]
)
def test_frames_of_another_shape_or_type_are_refused(frames: Tensor) -> None:
    with pytest.raises(ValueError, match=r"frames must be uint8 \(T, 3, H, W\)"):
        ClipTransform(32, *IMAGENET)(frames)


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 pixel"):
        ClipTransform(0, *IMAGENET)
    with pytest.raises(ValueError, match="std above 0"):
        ClipTransform(32, IMAGENET.mean, (1.0, 0.0, 1.0))
