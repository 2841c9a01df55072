"""Pictures for any logger: one function for all, and a register of how each logger takes them.

Lightning's loggers have no common way to take a picture. Known here: TensorBoard, Weights & Biases, MLflow
and Comet, and :class:`PictureFolder` for all others. ``register`` adds one::

    register(MyLogger, lambda logger, key, image, step, caption: logger.client.send(key, image.numpy(), step))
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from captum_ext.visualization import save_animation

__all__ = [
    "ImageWriter",
    "PictureFolder",
    "VideoWriter",
    "log_image",
    "log_video",
    "register",
    "takes_images",
    "takes_videos",
]

ImageWriter = Callable[[Any, str, Tensor, int, str], object]
"""Called with logger, key, image (3, H, W) uint8 on the CPU, step, caption."""

VideoWriter = Callable[[Any, str, Tensor, int, str, float], object]
"""Called with logger, key, frames (T, 3, H, W) uint8 on the CPU, step, caption, frames per second."""


class _Entry(NamedTuple):
    image: ImageWriter
    video: VideoWriter | None


_REGISTER: dict[type | str, _Entry] = {}


@dataclass(frozen=True)
class PictureFolder:
    """Takes pictures as files ``<path>/<key>/step_<step>.png`` and moving ones as ``.webp``.

    No file is overwritten; the next of the same name is ``step_<step>-v1.png``.

    Args:
        path (Path): the folder; made when the first picture comes.
    """

    path: Path


def register(
    logger_type: type | str, image_writer: ImageWriter, video_writer: VideoWriter | None = None
) -> None:
    """Say how a type of logger takes pictures; what was known of it before is replaced.

    Args:
        logger_type (type or str): the class; subclasses take them the same way. By name it stands for the
            class of ``pytorch_lightning`` and the one of ``lightning.pytorch``.
        image_writer (callable): called as ``image_writer(logger, key, image, step, caption)``.
        video_writer (callable, optional): called as
            ``video_writer(logger, key, frames, step, caption, fps)``. Default: the logger takes no moving
            pictures.

    Raises:
        TypeError: ``logger_type`` is neither a class nor a name, or a writer cannot be called.

    Example:
        >>> class Printer:
        ...     pass
        >>> register(Printer, lambda logger, key, image, step, caption: print(key, tuple(image.shape), step))
        >>> import torch
        >>> log_image(Printer(), "saliency/0", torch.zeros(3, 4, 5, dtype=torch.uint8), step=7)
        saliency/0 (3, 4, 5) 7
    """
    if not isinstance(logger_type, (type, str)):
        raise TypeError(f"logger_type must be a class or the name of one, not {logger_type!r}")
    for name, writer in (("image_writer", image_writer), ("video_writer", video_writer)):
        if not callable(writer) and (writer is not None or name == "image_writer"):
            raise TypeError(f"{name} must be a function, not {writer!r}")
    _REGISTER[logger_type] = _Entry(image_writer, video_writer)


def takes_images(logger: object) -> bool:
    """Whether it is known how this logger takes pictures.

    Args:
        logger (Any): one of the trainer's loggers.

    Returns:
        bool: the answer.
    """
    return _find(logger) is not None


def takes_videos(logger: object) -> bool:
    """Whether it is known how this logger takes moving pictures.

    Args:
        logger (Any): one of the trainer's loggers.

    Returns:
        bool: the answer.
    """
    entry = _find(logger)
    return entry is not None and entry.video is not None


def log_image(logger: object, key: str, image: Tensor, step: int, caption: str = "") -> None:
    """Give a picture to a logger.

    Args:
        logger (Any): a logger of a registered type, or a :class:`PictureFolder`.
        key (str): what the picture is called; parts are separated by slashes.
        image (Tensor): RGB, uint8.
        step (int): the optimiser steps taken so far.
        caption (str): shown by loggers that know captions, kept as the ``Description`` of a PNG file.

    Shape:
        image: (3, H, W)

    Raises:
        TypeError: the logger is of no registered type, or the image is not uint8.
        ValueError: the image has another shape.
        Exception: whatever the logger raises.
    """
    entry = _known(logger)
    _check(image, 3, "image", "(3, H, W)")
    entry.image(logger, key, image.cpu(), step, caption)


def log_video(
    logger: object, key: str, frames: Tensor, step: int, caption: str = "", fps: float = 8.0
) -> None:
    """Give a moving picture to a logger.

    TensorBoard shows nothing but an animated GIF; W&B and Comet get one as well, MLflow and folders a WebP.

    Args:
        logger (Any): a logger of a registered type that takes them, or a :class:`PictureFolder`.
        key (str): as in :func:`log_image`.
        frames (Tensor): RGB, uint8.
        step (int): the optimiser steps taken so far.
        caption (str): as in :func:`log_image`, but files have none.
        fps (float): frames per second.

    Shape:
        frames: (T, 3, H, W)

    Raises:
        TypeError: the logger takes no moving pictures, or the frames are not uint8.
        ValueError: the frames have another shape.
        Exception: whatever the logger raises.
    """
    entry = _known(logger)
    if entry.video is None:
        raise TypeError(f"{type(logger).__name__} takes no moving pictures; see register")
    _check(frames, 4, "frames", "(T, 3, H, W)")
    entry.video(logger, key, frames.cpu(), step, caption, fps)


def _find(logger: object) -> _Entry | None:
    for cls in type(logger).__mro__:
        for name in (cls, cls.__name__):
            if name in _REGISTER:
                return _REGISTER[name]
    return None


def _known(logger: object) -> _Entry:
    entry = _find(logger)
    if entry is None:
        raise TypeError(
            f"it is not known how {type(logger).__name__} takes pictures: "
            f"register({type(logger).__name__}, writer) says so, PictureFolder(path) writes files"
        )
    return entry


def _check(pixels: Tensor, dims: int, name: str, shape: str) -> None:
    if str(pixels.dtype) != "torch.uint8":
        raise TypeError(f"{name} must be uint8, not {pixels.dtype}")
    if pixels.dim() != dims or pixels.shape[-3] != 3 or 0 in pixels.shape:
        raise ValueError(f"{name} must have the shape {shape}, not {tuple(pixels.shape)}")


def _array(image: Tensor) -> Any:
    """(3, H, W) as an array (H, W, 3)."""
    return image.permute(1, 2, 0).contiguous().numpy()


def _gif(frames: Tensor, fps: float) -> bytes:
    images = [Image.fromarray(_array(frame)).quantize() for frame in frames]
    # A GIF counts hundredths of a second: rounding the running time, not each frame, keeps the length right.
    times = [10 * round(100 * t / fps) for t in range(len(images) + 1)]
    durations = [end - start for start, end in pairwise(times)]
    encoded = io.BytesIO()
    images[0].save(
        encoded, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1
    )
    return encoded.getvalue()


# How each logger takes them


def _tensorboard_image(logger: Any, key: str, image: Tensor, step: int, caption: str) -> None:
    logger.experiment.add_image(key, image, step)


def _tensorboard_video(logger: Any, key: str, frames: Tensor, step: int, caption: str, fps: float) -> None:
    # add_video needs moviepy, fails with its second version, and says so in a print only. Its result is this.
    from tensorboard.compat.proto.summary_pb2 import Summary

    *_, H, W = frames.shape
    gif = Summary.Image(height=H, width=W, colorspace=3, encoded_image_string=_gif(frames, fps))
    summary = Summary(value=[Summary.Value(tag=key, image=gif)])
    logger.experiment._get_file_writer().add_summary(summary, step)


def _wandb_image(logger: Any, key: str, image: Tensor, step: int, caption: str) -> None:
    logger.log_image(key, [_array(image)], step=step, caption=[caption])


def _wandb_video(logger: Any, key: str, frames: Tensor, step: int, caption: str, fps: float) -> None:
    # Encoded, since W&B itself encodes by moviepy only.
    logger.log_video(key, [io.BytesIO(_gif(frames, fps))], step=step, caption=[caption], format=["gif"])


def _mlflow_image(logger: Any, key: str, image: Tensor, step: int, caption: str) -> None:
    log = logger.experiment.log_image
    if "key" in inspect.signature(log).parameters:
        log(logger.run_id, _array(image), key=key, step=step)
    else:  # before MLflow 2.13
        log(logger.run_id, _array(image), artifact_file=f"{key}/{_file_name(step)}.png")


def _mlflow_video(logger: Any, key: str, frames: Tensor, step: int, caption: str, fps: float) -> None:
    with TemporaryDirectory() as folder:
        path = save_animation(Path(folder, f"{_file_name(step)}.webp"), frames, fps)
        logger.experiment.log_artifact(logger.run_id, str(path), key)


def _comet_image(logger: Any, key: str, image: Tensor, step: int, caption: str) -> None:
    logger.experiment.log_image(_array(image), name=key, step=step)


def _comet_video(logger: Any, key: str, frames: Tensor, step: int, caption: str, fps: float) -> None:
    logger.experiment.log_video(io.BytesIO(_gif(frames, fps)), name=key, format="gif", step=step)


def _image_file(folder: PictureFolder, key: str, image: Tensor, step: int, caption: str) -> None:
    description = PngInfo()
    description.add_itxt("Description", caption)
    path = _file(folder, key, step, ".png")
    Image.fromarray(_array(image)).save(path, pnginfo=description)


def _video_file(folder: PictureFolder, key: str, frames: Tensor, step: int, caption: str, fps: float) -> None:
    save_animation(_file(folder, key, step, ".webp"), frames, fps)


def _file(folder: PictureFolder, key: str, step: int, suffix: str) -> Path:
    path = folder.path / key / f"{_file_name(step)}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    version = 0
    while path.exists():
        version += 1
        path = path.with_name(f"{_file_name(step)}-v{version}{suffix}")
    return path


def _file_name(step: int) -> str:
    return f"step_{step:07d}"


def _nothing(*_: object) -> None:
    """For the stand-in that a trainer has under ``fast_dev_run``."""


register("TensorBoardLogger", _tensorboard_image, _tensorboard_video)
register("WandbLogger", _wandb_image, _wandb_video)
register("MLFlowLogger", _mlflow_image, _mlflow_video)
register("CometLogger", _comet_image, _comet_video)
register("DummyLogger", _nothing, _nothing)
register(PictureFolder, _image_file, _video_file)
