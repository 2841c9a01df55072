"""Video files in and out: what is written comes back, by timestamp, and bad files say what is wrong."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_ext.data import SyntheticActions, VideoReadError, read_video, write_video

av = pytest.importorskip("av")

T, H, W = 10, 48, 64
REAL_CLIPS = Path(__file__).parents[2].parent / "shared" / "data" / "clips"


def grey_ramp(n_frames: int = T, height: int = H, width: int = W) -> Tensor:
    """Frame t is grey, of level 20 + 20 t: the level tells which frame it is."""
    levels = torch.arange(n_frames, dtype=torch.uint8) * 20 + 20
    return levels.view(-1, 1, 1, 1).expand(n_frames, 3, height, width).contiguous()


def frame_numbers(frames: Tensor) -> list[int]:
    return ((frames.float().mean(dim=(1, 2, 3)) - 20) / 20).round().int().tolist()


def quadrants(n_frames: int, height: int, width: int) -> Tensor:
    """Red top left, green top right, blue bottom left, white bottom right."""
    frames = torch.zeros(n_frames, 3, height, width, dtype=torch.uint8)
    y, x = height // 2, width // 2
    frames[:, 0, :y, :x] = 220
    frames[:, 1, :y, x:] = 220
    frames[:, 2, y:, :x] = 220
    frames[:, :, y:, x:] = 220
    return frames


def encode(
    path: Path,
    frames: Tensor,
    *,
    pts_ms: list[int] | None = None,
    container: str = "mp4",
    codec: str = "libx264",
    rotation: tuple[int, bool, bool] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A file as others make them; ``pts_ms`` are the times of the frames in milliseconds."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=8, options=options or {})
        stream.height, stream.width = frames.shape[2:]
        stream.pix_fmt = "yuv420p"
        if rotation is not None:
            degrees, hflip, vflip = rotation
            stream.set_display_rotation(degrees, hflip=hflip, vflip=vflip)
        if pts_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for t, picture in enumerate(frames.permute(0, 2, 3, 1).contiguous().numpy()):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pts_ms is not None:
                frame.pts, frame.time_base = pts_ms[t], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    path = tmp_path / "ramp.mp4"
    write_video(path, grey_ramp(), fps=5)
    return path


class TestRoundTrip:
    def test_pixels_come_back_within_the_coding_error(self, tmp_path: Path) -> None:
        frames = quadrants(T, H, W)
        write_video(tmp_path / "a.mp4", frames, fps=8)
        difference = (read_video(tmp_path / "a.mp4", None).frames.int() - frames.int()).abs()
        assert difference.float().mean() < 3
        away_from_edges = difference[:, :, 4:20, 4:28]
        assert away_from_edges.max() <= 6

    def test_channels_are_rgb(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mp4", quadrants(T, H, W), fps=8)
        red = read_video(tmp_path / "a.mp4", 1).frames[0, :, 4:20, 4:28].float().mean(dim=(1, 2))
        assert red[0] > 200
        assert red[1] < 20
        assert red[2] < 20

    def test_every_frame_has_its_time_rate_and_position(self, ramp: Path) -> None:
        clip = read_video(ramp, n_frames=None)
        assert clip.frames.shape == (T, 3, H, W)
        assert clip.frames.dtype == torch.uint8
        assert clip.timestamps.dtype == torch.float64
        torch.testing.assert_close(clip.timestamps, torch.arange(T, dtype=torch.float64) / 5)
        assert clip.fps == pytest.approx(5)
        assert clip.indices.tolist() == list(range(T))
        assert clip.path == str(ramp)
        assert frame_numbers(clip.frames) == list(range(T))

    @pytest.mark.parametrize("rate", [29.97, 30000 / 1001, 12.5])
    def test_fractional_rates_survive(self, tmp_path: Path, rate: float) -> None:
        write_video(tmp_path / "a.mp4", grey_ramp(), fps=rate)
        assert read_video(tmp_path / "a.mp4").fps == pytest.approx(rate, rel=1e-3)

    def test_the_same_frames_give_the_same_bytes(self, tmp_path: Path) -> None:
        frames = SyntheticActions(size=(H, W), n_frames=T).render(0).frames
        contents = set()
        for _ in range(20):  # x264's defaults give two different files within a few tries
            write_video(tmp_path / "a.mp4", frames, fps=8)
            contents.add((tmp_path / "a.mp4").read_bytes())
        assert len(contents) == 1

    def test_the_index_stands_before_the_pictures(self, ramp: Path) -> None:
        content = ramp.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")

    def test_one_frame_is_a_video(self, tmp_path: Path) -> None:
        write_video(tmp_path / "a.mp4", grey_ramp(1), fps=8)
        clip = read_video(tmp_path / "a.mp4", n_frames=3)
        assert clip.frames.shape == (3, 3, H, W)
        assert clip.indices.tolist() == [0, 0, 0]

    @pytest.mark.parametrize(("height", "width"), [(47, 64), (48, 63), (33, 35)])
    def test_odd_sizes_repeat_the_last_row_and_column(self, tmp_path: Path, height: int, width: int) -> None:
        frames = quadrants(T, height, width)
        write_video(tmp_path / "a.mp4", frames, fps=8)
        read = read_video(tmp_path / "a.mp4").frames
        assert read.shape[2:] == (height + height % 2, width + width % 2)
        assert (read[:, :, 4:12, 4:12].int() - frames[:1, :, 4:12, 4:12].int()).abs().max() <= 6
        assert read[0, :, -1, -1].float().mean() > 190  # white, as its neighbours: no black seam


class TestSampling:
    def test_a_clip_of_exactly_n_frames_comes_back_whole(self, ramp: Path) -> None:
        assert read_video(ramp, n_frames=T).indices.tolist() == list(range(T))

    def test_the_frame_at_the_centre_of_each_segment_is_taken(self, ramp: Path) -> None:
        clip = read_video(ramp, n_frames=4)  # segments of 0.5 s, centres 0.25, 0.75, 1.25, 1.75 s at 5 fps
        assert clip.indices.tolist() == [1, 3, 6, 8]
        assert frame_numbers(clip.frames) == [1, 3, 6, 8]

    def test_too_few_frames_are_repeated_in_order(self, ramp: Path) -> None:
        assert read_video(ramp, n_frames=2 * T).indices.tolist() == [t // 2 for t in range(2 * T)]

    def test_windows_are_half_open(self, ramp: Path) -> None:
        clip = read_video(ramp, n_frames=None, start=0.4, end=1.2)
        assert clip.indices.tolist() == [2, 3, 4, 5]
        assert frame_numbers(clip.frames) == [2, 3, 4, 5]

    def test_a_window_is_sampled_like_a_clip(self, ramp: Path) -> None:
        clip = read_video(ramp, n_frames=2, start=1.0, end=99.0)
        assert clip.indices.tolist() == [6, 8]
        assert frame_numbers(clip.frames) == [6, 8]

    def test_seeking_gives_the_same_frames_as_reading_on(self, tmp_path: Path) -> None:
        path = encode(tmp_path / "a.mp4", grey_ramp(), options={"g": "4", "bf": "2"})
        assert frame_numbers(read_video(path, None, start=0.875).frames) == [7, 8, 9]

    def test_variable_frame_rate_goes_by_time_not_by_index(self, tmp_path: Path) -> None:
        times = [0, 100, 200, 300, 400, 500, 600, 700, 2000, 3000]
        path = encode(tmp_path / "vfr.mp4", grey_ramp(), pts_ms=times)
        clip = read_video(path, n_frames=None)
        torch.testing.assert_close(clip.timestamps, torch.tensor(times, dtype=torch.float64) / 1000)
        sampled = read_video(path, n_frames=3, end=3.0)  # centres 0.5, 1.5, 2.5 s
        assert sampled.indices.tolist() == [5, 7, 8]
        assert frame_numbers(sampled.frames) == [5, 7, 8]

    @pytest.mark.parametrize(
        ("container", "codec"),
        [("matroska", "libx264"), ("webm", "libvpx-vp9"), ("mpegts", "libx264"), ("avi", "mpeg4")],
    )
    def test_containers_without_a_frame_count_or_that_start_late(
        self, tmp_path: Path, container: str, codec: str
    ) -> None:
        path = encode(tmp_path / "a.bin", grey_ramp(), container=container, codec=codec)
        clip = read_video(path, n_frames=None)
        assert frame_numbers(clip.frames) == list(range(T))
        torch.testing.assert_close(clip.timestamps, torch.arange(T, dtype=torch.float64) / 8)
        assert frame_numbers(read_video(path, None, start=0.5).frames) == list(range(4, T))

    def test_avi_with_reordered_frames_keeps_display_order(self, tmp_path: Path) -> None:
        path = encode(tmp_path / "a.avi", grey_ramp(), container="avi", options={"bf": "2", "crf": "10"})
        assert frame_numbers(read_video(path, None).frames) == list(range(T))


class TestOrientation:
    @pytest.mark.parametrize("hflip", [False, True])
    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_rotation_and_mirroring_are_applied(self, tmp_path: Path, degrees: int, hflip: bool) -> None:
        stored = quadrants(3, H, W)
        path = encode(tmp_path / "a.mp4", stored, rotation=(degrees, hflip, False))
        shown = torch.rot90(stored, degrees // 90, dims=(2, 3))  # counter-clockwise, y pointing down
        if hflip:
            shown = shown.flip(3)
        read = read_video(path, None).frames
        assert read.shape == shown.shape
        assert (read.float() - shown.float()).abs().mean() < 4

    def test_without_metadata_nothing_turns(self, tmp_path: Path) -> None:
        path = encode(tmp_path / "a.mp4", quadrants(3, H, W))
        turned = torch.rot90(quadrants(3, H, W), 2, dims=(2, 3))
        assert (read_video(path, None).frames.float() - turned.float()).abs().mean() > 50


class TestBadFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no video at .*nowhere\.mp4"):
            read_video(tmp_path / "nowhere.mp4")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(VideoReadError, match="is not a file"):
            read_video(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"this is a text\n" * 40])
    def test_not_a_video(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "odd.mp4"
        path.write_bytes(content)
        with pytest.raises(VideoReadError, match=r"odd\.mp4 cannot be decoded: it is not a video"):
            read_video(path)

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
    @pytest.mark.parametrize("where", ["start", "end"])
    def test_truncated_mp4(self, tmp_path: Path, share: float, where: str) -> None:
        noise = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (T, 3, H, W), dtype=np.uint8))
        whole = tmp_path / "whole.mp4"
        if where == "start":
            write_video(whole, noise, fps=8)
        else:
            encode(whole, noise)  # without fast start the index stands at the end, and goes first
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
        with pytest.raises(VideoReadError, match=r"cut\.mp4 .*(truncated|damaged)"):
            read_video(cut, n_frames=2, end=0.2)

    def test_truncated_matroska_is_not_taken_for_a_short_video(self, tmp_path: Path) -> None:
        noise = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3 * T, 3, H, W), dtype=np.uint8))
        whole = encode(tmp_path / "whole.mkv", noise, container="matroska")
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(VideoReadError, match=r"cut\.mkv is truncated: it ends at .* of 3\.750 s"):
            read_video(cut)

    def test_damaged_pictures(self, tmp_path: Path, ramp: Path) -> None:
        content = bytearray(ramp.read_bytes())
        data = content.index(b"mdat") + 4
        content[data:] = bytes(len(content) - data)
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(content)
        with pytest.raises(VideoReadError, match=r"broken\.mp4 .*damaged"):
            read_video(broken)

    @pytest.mark.parametrize("with_cover", [False, True])
    def test_audio_only(self, tmp_path: Path, with_cover: bool) -> None:
        path = tmp_path / "sound.mp3"
        with av.open(str(path), "w") as output:
            sound = output.add_stream("mp3", rate=16000, layout="mono")
            if with_cover:  # to FFmpeg a video stream of one frame
                cover = output.add_stream("mjpeg", rate=1)
                cover.width, cover.height, cover.pix_fmt = W, H, "yuvj420p"
                cover.disposition = av.stream.Disposition.attached_pic
                picture = av.VideoFrame.from_ndarray(np.zeros((H, W, 3), np.uint8), format="rgb24")
                output.mux(cover.encode(picture) + cover.encode())
            samples = np.zeros((1, 1152), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="mono")
            frame.sample_rate = 16000
            output.mux(sound.encode(frame) + sound.encode())
        with pytest.raises(VideoReadError, match=r"sound\.mp3 has no video stream \(its streams: audio\)"):
            read_video(path)

    def test_mp4_with_sound_only(self, tmp_path: Path) -> None:
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            output.mux(stream.encode(frame) + stream.encode())
        with pytest.raises(VideoReadError, match=r"sound\.mp4 has no video stream \(its streams: audio\)"):
            read_video(path)

    def test_no_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "none.mkv"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("libx264", rate=8)
            stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
            output.start_encoding()
        with pytest.raises(VideoReadError, match=r"none\.mkv"):
            read_video(path)

    def test_start_beyond_the_end(self, ramp: Path) -> None:
        with pytest.raises(
            VideoReadError, match=r"start=2\.0 s is beyond the end of .*, which lasts 2\.000 s"
        ):
            read_video(ramp, start=2.0)

    def test_a_window_between_two_frames(self, ramp: Path) -> None:
        with pytest.raises(VideoReadError, match=r"no frame .* begins in \[0\.25, 0\.3\) s"):
            read_video(ramp, None, start=0.25, end=0.3)
        assert read_video(ramp, 1, start=0.25, end=0.3).indices.tolist() == [1]  # but one is on display

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"n_frames": 0}, "n_frames must be at least 1"),
            ({"start": -0.1}, "start must be"),
            ({"start": float("nan")}, "start must be"),
            ({"start": 1.0, "end": 1.0}, r"end must be above start=1\.0"),
            ({"end": float("nan")}, "end must be above"),
        ],
    )
    def test_arguments_that_make_no_sense(
        self, ramp: Path, arguments: dict[str, float], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            read_video(ramp, **arguments)  # type: ignore[arg-type]


class TestWriting:
    @pytest.mark.parametrize(
        ("frames", "message"),
        [
            (torch.zeros(T, H, W, 3, dtype=torch.uint8), r"\(T, 3, H, W\)"),
            (torch.zeros(T, 3, H, W), "uint8"),
            (torch.zeros(0, 3, H, W, dtype=torch.uint8), "none of them 0"),
        ],
    )
    def test_wrong_frames(self, tmp_path: Path, frames: Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            write_video(tmp_path / "a.mp4", frames, fps=8)
        assert list(tmp_path.iterdir()) == []

    def test_wrong_numbers_and_names(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="fps"):
            write_video(tmp_path / "a.mp4", grey_ramp(), fps=0)
        with pytest.raises(ValueError, match="crf"):
            write_video(tmp_path / "a.mp4", grey_ramp(), fps=8, crf=52)
        with pytest.raises(ValueError, match=r"should end in \.mp4"):
            write_video(tmp_path / "a.avi", grey_ramp(), fps=8)
        with pytest.raises(FileNotFoundError, match="does not exist"):
            write_video(tmp_path / "no" / "a.mp4", grey_ramp(), fps=8)

    def test_a_failed_write_leaves_the_old_file_and_nothing_else(
        self, ramp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = ramp.read_bytes()

        def fail(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        # The rate is made while the temporary file is open.
        monkeypatch.setattr("captum_ext.data.video.Fraction", fail)
        with pytest.raises(KeyboardInterrupt):
            write_video(ramp, quadrants(T, H, W), fps=8)
        assert ramp.read_bytes() == before
        assert os.listdir(ramp.parent) == [ramp.name]  # noqa: PTH208


class TestOptionalDependency:
    def test_the_package_imports_without_av_and_the_error_says_what_to_install(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_bytes(b"")
        script = (
            "import sys, captum_ext.data\n"
            "assert 'av' not in sys.modules\n"
            "sys.modules['av'] = None  # as if it were not installed\n"
            f"try: captum_ext.data.read_video({str(tmp_path / 'a.mp4')!r})\n"
            "except ImportError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert 'pip install "captum-ext[video]"' in done.stdout


class TestRealClips:
    @pytest.fixture
    def paths(self) -> list[Path]:
        paths = sorted(REAL_CLIPS.glob("*.mp4"))
        if not paths:
            pytest.skip(f"no real clips at {REAL_CLIPS}")
        return paths

    def test_all_sixteen_frames_of_each_are_read(self, paths: list[Path]) -> None:
        for path in paths:
            clip = read_video(path)
            assert clip.frames.shape == (16, 3, 256, 344)
            assert clip.indices.tolist() == list(range(16))
            assert clip.fps == pytest.approx(8)
            assert clip.frames.float().std() > 10

    def test_sampled_frames_equal_those_of_a_full_read(self, paths: list[Path]) -> None:
        everything = read_video(paths[0], None).frames
        clip = read_video(paths[0], 5, start=0.5)
        assert torch.equal(clip.frames, everything[clip.indices])
