"""Names of videos as numbers, so that processes can exchange them."""

import hashlib
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

_EXACT = 2**53  # whole numbers up to here are exact in float64


def video_ids(videos: Tensor | Sequence[int] | Sequence[str], n: int) -> Tensor:
    """Turn n ids of videos into float64: whole numbers stay, names become 52 bits of their hash.

    The hash is the same in every process and run. Two of a million names share it with a probability of about
    one in 9,000.
    """
    if isinstance(videos, Tensor):
        videos = videos.tolist()
    if isinstance(videos, str) or not isinstance(videos, Sequence):
        raise TypeError(f"videos must be one id per example, whole numbers or names, got {videos!r}.")
    if len(videos) != n:
        raise ValueError(f"videos must hold one id per example: {n} examples, got {len(videos)}.")
    numbers = []
    for row, video in enumerate(videos):
        if isinstance(video, str):
            digest = hashlib.blake2b(video.encode(), digest_size=8).digest()
            numbers.append(int.from_bytes(digest, "big") >> 12)
        elif isinstance(video, Integral) and not isinstance(video, bool):
            number = int(video)
            if abs(number) > _EXACT:
                raise ValueError(f"ids of videos must lie within +-2^53, got {video}; give them as names.")
            numbers.append(number)
        else:
            raise TypeError(
                f"ids of videos must be whole numbers or names, got {video!r} "
                f"({type(video).__name__}) in row {row}."
            )
    return torch.tensor(numbers, dtype=torch.float64)


def check_labels(labels: Tensor, n: int, num_classes: int | None, name: str = "labels") -> None:
    """Refuse anything but n whole numbers from 0 (to below the number of classes, if known)."""
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        what = str(labels.dtype) if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"{name} must be an integer tensor of classes, got {what}.")
    if labels.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one class each, got {tuple(labels.shape)}.")
    outside = labels < 0
    if num_classes is not None:
        outside |= labels >= num_classes
    if bool(outside.any()):
        limit = "at least 0" if num_classes is None else f"in 0..{num_classes - 1} (num_classes)"
        raise ValueError(f"{name} must be {limit}, got {int(labels[outside][0])}.")
