"""Clips as moving pictures: video files, animated images, several clips beside each other."""

from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from captum_ext.visualization._checks import check_fps, check_frames


def save_animation(path: str | Path, frames: Tensor, fps: float) -> Path:
    """Write a clip as an H.264 video (``.mp4``) or as an animated image (``.webp``).

    A WebP loops in every browser and README; an mp4 is half its size. GIF is refused: the same clip takes
    ten times the bytes in 256 colours.

    Args:
        path (str or Path): Where to; the suffix picks the format. The folder must exist.
        frames (Tensor): The clip, uint8 RGB.
        fps (float): Frames per second.

    Shape:
        - frames: (T, 3, H, W)

    Returns:
        Path: The file written. In a WebP, runs of identical frames are stored as one longer frame.

    Raises:
        TypeError: If ``frames`` is not uint8.
        ValueError: If the suffix, a shape or ``fps`` does not fit.
        ImportError: For mp4, if PyAV is missing (``pip install "captum-ext[video]"``).

    Example:
        >>> import tempfile
        >>> frames = torch.randint(256, (5, 3, 16, 24), dtype=torch.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_animation(f"{folder}/clip.webp", frames, fps=10).name
        'clip.webp'
    """
    check_frames(frames)
    check_fps(fps)
    path = Path(path)
    match path.suffix.lower():
        case ".mp4":
            from captum_ext.data.video import write_video  # needs PyAV, which is optional

            write_video(path, frames.cpu(), fps=fps)
        case ".webp":
            _write_webp(path, frames, fps)
        case ".gif":
            raise ValueError(
                f"{path.name}: GIF has 256 colours and takes ten times the bytes; use .webp, which loops and "
                "shows wherever a GIF does, or .mp4."
            )
        case suffix:
            raise ValueError(f"{path.name}: the suffix {suffix!r} is neither .mp4 nor .webp.")
    return path


def side_by_side(*clips: Tensor, gap: int = 4) -> Tensor:
    """Put clips of the same length and height next to each other.

    Args:
        *clips (Tensor): Clips, uint8 RGB, on one device.
        gap (int): Width of the white bar between them, in pixels. Default: 4.

    Shape:
        - clips: (T, 3, H, W_i)
        - returns: (T, 3, H, sum of W_i + gap * (n - 1))

    Returns:
        Tensor: One clip, uint8 RGB.

    Raises:
        TypeError: If a clip is not uint8.
        ValueError: If there is no clip, or lengths or heights differ.

    Example:
        >>> clip = torch.zeros(5, 3, 16, 24, dtype=torch.uint8)
        >>> side_by_side(clip, clip, gap=2).shape
        torch.Size([5, 3, 16, 50])
    """
    if not clips:
        raise ValueError("side_by_side needs at least one clip.")
    for i, clip in enumerate(clips):
        check_frames(clip, f"clip {i}")
        if clip.shape[:3] != clips[0].shape[:3]:
            raise ValueError(
                f"clips must agree in frames and height: clip {i} has (T, 3, H) = {tuple(clip.shape[:3])}, "
                f"clip 0 has {tuple(clips[0].shape[:3])}."
            )
    spaced = [F.pad(clip, (0, gap), value=255) for clip in clips[:-1]]
    return torch.cat([*spaced, clips[-1]], dim=3)


def _write_webp(path: Path, frames: Tensor, fps: float) -> None:
    images = [Image.fromarray(frame.numpy()) for frame in frames.permute(0, 2, 3, 1).contiguous().cpu()]
    # WebP counts whole milliseconds: rounding the running time, not each frame, keeps the length right.
    times = [round(1000 * t / fps) for t in range(len(images) + 1)]
    durations = [end - start for start, end in pairwise(times)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, quality=80)
