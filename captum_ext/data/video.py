"""Video files in and out, through PyAV: frames by timestamp, and one clear error for a bad file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_ext.data._atomic import replacing
from captum_ext.data.sampling import frames_on_display, segment_centres

if TYPE_CHECKING:
    import os

# A file whose packets end this much before the duration in its header has lost its tail.
_MISSING_TAIL_S = 0.5


class VideoReadError(ValueError):
    """A file that exists but does not give the frames asked for; the message names the file and why."""


@dataclass(frozen=True, eq=False)
class VideoClip:
    """Frames of a video file.

    Attributes:
        frames (Tensor): uint8 RGB, upright (the file's rotation is applied).
        timestamps (Tensor): float64 seconds since the first frame of the *file*, at which each frame
            appears.
        fps (float): mean frame rate of the whole file, frames per second, not of the sample.
        path (str): the file, as it was given.
        indices (Tensor): int64 positions of the frames among all frames of the file, from 0 in the order
            they are shown; index per-frame annotations of the file with it.

    Shape:
        - frames: (T, 3, H, W)
        - timestamps, indices: (T,)
    """

    frames: Tensor
    timestamps: Tensor
    fps: float
    path: str
    indices: Tensor


@dataclass(frozen=True, eq=False)
class VideoInfo:
    """What a video file holds, without its pictures.

    Attributes:
        n_frames (int): frames in the file.
        fps (float): mean frame rate, frames per second.
        duration_s (float): seconds from the first frame's appearance to the last one's end.
        frame_size (tuple[int, int]): (H, W) in pixels, upright.
        timestamps (Tensor): float64 seconds since the first frame, at which each frame appears.

    Shape:
        - timestamps: (n_frames,)
    """

    n_frames: int
    fps: float
    duration_s: float
    frame_size: tuple[int, int]
    timestamps: Tensor


@dataclass(frozen=True)
class _FrameIndex:
    """When each frame of a file is shown, from its packets alone (nothing is decoded)."""

    ticks: npt.NDArray[np.int64]  # distinct, increasing
    time_base: Fraction  # seconds per tick
    duration: float  # seconds from the first frame's appearance to the last one's end
    stores_display_times: bool  # AVI does not: its ticks only count frames

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """Seconds since the first frame."""
        return np.asarray((self.ticks - self.ticks[0]) * float(self.time_base), dtype=np.float64)


def read_video(
    path: str | os.PathLike[str], n_frames: int | None = 16, start: float = 0.0, end: float | None = None
) -> VideoClip:
    """Read ``n_frames`` spread uniformly in time over ``[start, end)``, or every frame of it.

    The window is cut into ``n_frames`` equal segments, and each segment is represented by the frame that a
    player shows at its centre. Sampling goes by timestamps, so a variable frame rate is sampled right; a
    window with fewer frames than asked repeats frames; a clip of exactly ``n_frames`` at a constant rate
    comes back whole. Pixels are taken as square.

    Args:
        path (str or os.PathLike): a video file in any container and codec that FFmpeg reads.
        n_frames (int, optional): number of frames; None for every frame that appears in the window.
            Default: 16
        start (float, optional): seconds since the first frame. Default: 0.0
        end (float, optional): seconds since the first frame, exclusive; one beyond the end of the video,
            or None, means the end of the video. Default: None

    Returns:
        VideoClip: frames (T, 3, H, W) uint8 RGB, with their times and positions in the file.

    Raises:
        FileNotFoundError: if there is no such file.
        VideoReadError: if the file is not a video, is truncated or damaged, has no video stream or no
            frames, or if the window holds none.
        ValueError: if ``n_frames``, ``start`` or ``end`` make no sense.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(f"{folder}/ramp.mp4", torch.zeros(8, 3, 32, 48, dtype=torch.uint8), fps=4)
        ...     clip = read_video(f"{folder}/ramp.mp4", n_frames=4)
        >>> clip.frames.shape, clip.timestamps.tolist(), clip.fps
        (torch.Size([4, 3, 32, 48]), [0.25, 0.75, 1.25, 1.75], 4.0)
    """
    _check_window(n_frames, start, end)
    file = Path(path)
    _check_file(file)
    av = _import_av()
    try:
        index = _index_frames(av, file)
        positions = _choose(index, n_frames, start, end, file)
        pictures = _decode(av, file, index, set(positions.tolist()))
    except av.error.FFmpegError as error:
        raise _undecodable(file, error) from error
    return VideoClip(
        frames=torch.stack([pictures[position] for position in positions.tolist()])
        .permute(0, 3, 1, 2)
        .contiguous(),
        timestamps=torch.from_numpy(index.times[positions]),
        fps=len(index.ticks) / index.duration,
        path=str(path),
        indices=torch.from_numpy(positions),
    )


def probe_video(path: str | os.PathLike[str]) -> VideoInfo:
    """Count the frames of a video file and find their times, from its packets; decode one for its size.

    Args:
        path (str or os.PathLike): a video file in any container and codec that FFmpeg reads.

    Returns:
        VideoInfo: number of frames, rate, duration, frame size and times.

    Raises:
        FileNotFoundError: if there is no such file.
        VideoReadError: as for :func:`read_video`.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(f"{folder}/a.mp4", torch.zeros(6, 3, 32, 48, dtype=torch.uint8), fps=4)
        ...     info = probe_video(f"{folder}/a.mp4")
        >>> info.n_frames, info.fps, info.duration_s, info.frame_size
        (6, 4.0, 1.5, (32, 48))
    """
    file = Path(path)
    _check_file(file)
    av = _import_av()
    try:
        index = _index_frames(av, file)
        picture = _decode(av, file, index, {0})[0]
    except av.error.FFmpegError as error:
        raise _undecodable(file, error) from error
    return VideoInfo(
        n_frames=len(index.ticks),
        fps=len(index.ticks) / index.duration,
        duration_s=index.duration,
        frame_size=(picture.shape[0], picture.shape[1]),
        timestamps=torch.from_numpy(index.times),
    )


def write_video(path: str | os.PathLike[str], frames: Tensor, fps: float, crf: int = 18) -> None:
    """Write frames as H.264 (yuv420p, fast start), which every browser and player shows.

    On one kind of machine and with one version of PyAV, the same frames give the same bytes. The file
    appears at ``path`` only when it is complete. yuv420p has no odd sizes: an odd height or width gets one
    more row or column at the bottom or right, a copy of the last one, so boxes in pixels stay valid.

    Args:
        path (str or os.PathLike): ends in ``.mp4``; an existing file is replaced.
        frames (Tensor): uint8 RGB.
        fps (float): frames per second.
        crf (int, optional): x264's quality, 0 (best) to 51. 18 is visually lossless. Default: 18

    Shape:
        - frames: (T, 3, H, W), T at least 1

    Raises:
        ValueError: if an argument is out of range or ``frames`` has another shape or type.
        FileNotFoundError: if the folder does not exist.
        ImportError: if PyAV is not installed.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(f"{folder}/odd.mp4", torch.zeros(2, 3, 31, 47, dtype=torch.uint8), fps=25)
        ...     read_video(f"{folder}/odd.mp4", n_frames=None).frames.shape
        torch.Size([2, 3, 32, 48])
    """
    file = Path(path)
    if file.suffix != ".mp4":
        raise ValueError(f"write_video writes mp4 files: {file} should end in .mp4")
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise ValueError(
            f"frames must be uint8 (T, 3, H, W) with none of them 0, not {frames.dtype} {tuple(frames.shape)}"
        )
    if not (math.isfinite(fps) and fps >= 0.001):
        raise ValueError(f"fps must be at least 0.001 frames per second, not {fps}")
    if not 0 <= crf <= 51:
        raise ValueError(f"crf must be in [0, 51], not {crf}")
    av = _import_av()
    pictures = _pad_to_even(frames).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    with (
        replacing(file) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        rate = Fraction(fps).limit_denominator(1001)  # 1001: the denominator of the NTSC rates
        # x264's macroblock tree is switched off because with it the same frames gave two different files
        # (seen on small frames, one time in ten to two).
        options = {"crf": str(crf), "threads": "1", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=rate, options=options)
        _, stream.height, stream.width, _ = pictures.shape
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _check_file(file: Path) -> None:
    if not file.exists():
        raise FileNotFoundError(f"there is no video at {file}")
    if not file.is_file():
        raise VideoReadError(f"{file} is not a file")


def _undecodable(file: Path, error: Any) -> VideoReadError:
    return VideoReadError(
        f"{file} cannot be decoded: it is not a video, or it is truncated or damaged ({error.strerror})"
    )


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            'reading and writing video files needs PyAV: pip install "captum-ext[video]"'
        ) from (error)
    return av


def _check_window(n_frames: int | None, start: float, end: float | None) -> None:
    if n_frames is not None and n_frames < 1:
        raise ValueError(f"n_frames must be at least 1, or None for every frame, not {n_frames}")
    if not (math.isfinite(start) and start >= 0):
        raise ValueError(f"start must be a number of seconds, at least 0, not {start}")
    if end is not None and not end > start:
        raise ValueError(f"end must be above start={start} s, not {end}")


def _video_stream(av: Any, container: Any, file: Path) -> Any:
    # A cover picture inside a music file is a video stream of one frame to FFmpeg.
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams if not stream.disposition & cover]
    for stream in streams:
        if stream.type == "video":
            return stream
    kinds = ", ".join(sorted({stream.type for stream in streams})) or "none"
    raise VideoReadError(f"{file} has no video stream (its streams: {kinds}), or it is truncated")


def _index_frames(av: Any, file: Path) -> _FrameIndex:
    with av.open(str(file)) as container:
        stream = _video_stream(av, container, file)
        shown: dict[int, int] = {}  # tick of appearance: ticks on display
        end_of_packets = 0.0
        for packet in container.demux():
            if packet.is_corrupt:
                raise VideoReadError(f"{file} is truncated or damaged behind {end_of_packets:.3f} s")
            if packet.pts is None:  # the empty packet at the end of each stream
                continue
            end_of_packets = max(end_of_packets, float((packet.pts + packet.duration) * packet.time_base))
            if packet.stream_index == stream.index and not packet.is_discard:
                shown[packet.pts] = packet.duration
        if not shown:
            raise VideoReadError(f"{file} has a video stream without frames")
        # Matroska does not mark a packet that was cut off; it merely ends early.
        end_of_header = (container.duration or 0) / av.time_base + (container.start_time or 0) / av.time_base
        if end_of_header - end_of_packets > _MISSING_TAIL_S:
            raise VideoReadError(
                f"{file} is truncated: it ends at {end_of_packets:.3f} s of {end_of_header:.3f} s"
            )
        ticks = np.array(sorted(shown), dtype=np.int64)
        last = shown[int(ticks[-1])] * float(stream.time_base)
        if last <= 0:  # the container does not say how long the last frame stays: one frame period
            last = 1 / float(stream.guessed_rate)
        return _FrameIndex(
            ticks=ticks,
            time_base=stream.time_base,
            duration=float(ticks[-1] - ticks[0]) * float(stream.time_base) + last,
            stores_display_times=container.format.name != "avi",
        )


def _choose(
    index: _FrameIndex, n_frames: int | None, start: float, end: float | None, file: Path
) -> npt.NDArray[np.int64]:
    if start >= index.duration:
        raise VideoReadError(
            f"start={start} s is beyond the end of {file}, which lasts {index.duration:.3f} s"
        )
    stop = index.duration if end is None else min(end, index.duration)
    if n_frames is not None:
        return frames_on_display(index.times, segment_centres(n_frames, start, stop))
    inside = np.flatnonzero((index.times >= start) & (index.times < stop)).astype(np.int64)
    if not len(inside):
        raise VideoReadError(f"no frame of {file} begins in [{start}, {stop}) s")
    return inside


def _decode(av: Any, file: Path, index: _FrameIndex, wanted: set[int]) -> dict[int, Tensor]:
    """RGB pictures (H, W, 3) of the wanted positions; only these are converted from YUV."""
    pictures = _decode_from(av, file, index, wanted, seek=index.stores_display_times and min(wanted) > 0)
    if len(pictures) < len(wanted):  # some containers seek past the keyframe: then from the beginning
        pictures = _decode_from(av, file, index, wanted, seek=False)
    if len(pictures) < len(wanted):
        missing = index.times[min(wanted - pictures.keys())]
        raise VideoReadError(f"{file} is damaged: the frame at {missing:.3f} s cannot be decoded")
    sizes = {tuple(picture.shape[:2]) for picture in pictures.values()}
    if len(sizes) > 1:
        raise VideoReadError(f"{file} changes its frame size midway: (H, W) in {sorted(sizes)}")
    return pictures


def _decode_from(av: Any, file: Path, index: _FrameIndex, wanted: set[int], seek: bool) -> dict[int, Tensor]:
    position_at = {int(tick): position for position, tick in enumerate(index.ticks)}
    pictures: dict[int, Tensor] = {}
    with av.open(str(file)) as container:
        stream = _video_stream(av, container, file)
        stream.thread_type = "AUTO"
        if seek:
            container.seek(int(index.ticks[min(wanted)]), stream=stream)
        for order, frame in enumerate(container.decode(stream)):
            # The decoder puts frames into display order; without display times, that order is the position.
            position = position_at.get(frame.pts) if index.stores_display_times else order
            if position in wanted and not frame.is_corrupt:
                pictures[position] = _upright(frame)
            if len(pictures) == len(wanted):
                break
    return pictures


def _upright(frame: Any) -> Tensor:
    """The frame as RGB (H, W, 3), turned and mirrored as the file's display matrix says."""
    picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        # Stored point (x, y) is shown at (a x + c y, b x + d y); multiples of 90 degrees and mirrorings have
        # either b = c = 0 or a = d = 0, and a negative factor mirrors that axis of the shown picture.
        a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
        if abs(b) > abs(a):
            picture, a, d = picture.transpose(0, 1), c, b
        flipped = [axis for axis, factor in ((1, a), (0, d)) if factor < 0]
        picture = picture.flip(flipped)
    return picture


def _pad_to_even(frames: Tensor) -> Tensor:
    if frames.shape[2] % 2:
        frames = torch.cat([frames, frames[:, :, -1:]], dim=2)
    if frames.shape[3] % 2:
        frames = torch.cat([frames, frames[:, :, :, -1:]], dim=3)
    return frames
