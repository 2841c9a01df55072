import pytest
import torch
from PIL import Image

from captum_ext.visualization import save_animation, side_by_side

T, H, W = 7, 32, 48


def clip():
    """Frame t is a grey of 30 t with a dark left half, so that order and orientation can be told."""
    frames = (30 * torch.arange(T)).to(torch.uint8)[:, None, None, None].repeat(1, 3, H, W)
    frames[:, :, :, : W // 2] = 0
    return frames


def greys(images):
    return [image.convert("RGB").getpixel((3 * W // 4, H // 2))[0] for image in images]


def test_a_webp_holds_every_frame_its_time_and_loops(tmp_path):
    path = save_animation(tmp_path / "clip.webp", clip(), fps=30)
    with Image.open(path) as image:
        assert (image.size, image.n_frames, image.info["loop"]) == ((W, H), T, 0)
        frames, times = [], []
        for t in range(T):
            image.seek(t)
            frames.append(image.copy())
            image.load()
            times.append(image.info["duration"])
    assert greys(frames) == pytest.approx([30 * t for t in range(T)], abs=6)
    assert sum(times) == round(1000 * T / 30), "rounding every frame to 33 ms would lose time"
    assert frames[-1].convert("RGB").getpixel((W // 4, H // 2))[0] < 10


def test_an_mp4_holds_every_frame_in_a_form_browsers_play(tmp_path):
    av = pytest.importorskip("av")
    pytest.importorskip("captum_ext.data.video")
    path = save_animation(tmp_path / "clip.mp4", clip(), fps=12)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, float(stream.average_rate)) == (W, H, 12)
        images = [frame.to_image() for frame in container.decode(stream)]
    assert greys(images) == pytest.approx([30 * t for t in range(T)], abs=8)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "not faststart: a browser would have to load it whole"


def test_gif_is_refused_with_advice_and_other_suffixes_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"use \.webp"):
        save_animation(tmp_path / "clip.gif", clip(), fps=10)
    with pytest.raises(ValueError, match=r"'\.avi' is neither"):
        save_animation(tmp_path / "clip.avi", clip(), fps=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_fps_must_be_positive(tmp_path, fps):
    with pytest.raises(ValueError, match="fps"):
        save_animation(tmp_path / "clip.webp", clip(), fps=fps)


def test_clips_stand_side_by_side_in_order():
    both = side_by_side(clip(), 255 - clip()[..., :20], gap=3)
    assert both.shape == (T, 3, H, W + 3 + 20)
    assert both[..., :W].equal(clip())
    assert both[..., W : W + 3].eq(255).all()
    assert both[..., W + 3 :].equal(255 - clip()[..., :20])


def test_clips_that_do_not_fit_together_are_named():
    with pytest.raises(ValueError, match=r"clip 1 has \(T, 3, H\) = \(6, 3, 32\)"):
        side_by_side(clip(), clip()[1:])
    with pytest.raises(ValueError, match="at least one"):
        side_by_side()
