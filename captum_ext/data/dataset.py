"""Labelled clips as a dataset for a DataLoader."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_ext.data._padding import pad
from captum_ext.data.records import ActionClip, Box
from captum_ext.data.transforms import ClipTransform
from captum_ext.data.video import read_video


class ClipDataset(Dataset[tuple[Tensor, int]]):
    """Clips read from their files: item ``i`` is the model's input and the label.

    Args:
        clips (sequence of ActionClip): what to read.
        transform (ClipTransform): from frames to the model's input.
        n_frames (int): frames spread uniformly over each clip. Default: 16
        cache (bool): keep the cropped uint8 frames of every clip that was read in memory,
            ``3 * n_frames * h * w`` bytes per clip (and per DataLoader worker), so that later epochs
            decode nothing. Default: False

    Raises:
        ValueError: if ``clips`` is empty or ``n_frames`` is below 1.

    Example::

        >>> import tempfile
        >>> from captum_ext.data import IMAGENET, generate_actions
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dataset = ClipDataset(generate_actions(folder, n_per_class=1), ClipTransform(64, *IMAGENET))
        ...     clip, label = dataset[4]
        >>> clip.shape, label
        (torch.Size([3, 16, 64, 64]), 4)
    """

    def __init__(
        self, clips: Sequence[ActionClip], transform: ClipTransform, n_frames: int = 16, cache: bool = False
    ) -> None:
        if not clips:
            raise ValueError("a ClipDataset needs at least one clip; the list is empty")
        if n_frames < 1:
            raise ValueError(f"n_frames must be at least 1, not {n_frames}")
        self.clips = tuple(clips)
        self.transform = transform
        self.n_frames = n_frames
        self._cache: dict[int, tuple[Tensor, Tensor]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The model's input float32 (3, T, h, w) and the label's index."""
        return self.transform.normalize(self.frames(index)), self.clips[index].label_index

    def frames(self, index: int) -> Tensor:
        """The pixels behind item ``index``, for display: uint8 RGB (T, 3, h, w)."""
        return self._read(index)[0]

    def boxes(self, index: int) -> tuple[Box | None, ...]:
        """The boxes of item ``index``, one per frame, in pixels of the crop; None where there is none."""
        clip = self.clips[index]
        boxes = [clip.boxes[position] for position in self._read(index)[1].tolist()]
        return self.transform.map_boxes(boxes, (clip.height, clip.width))

    def padded_boxes(self, index: int) -> Tensor:
        """All boxes of item ``index``, any number per frame, in pixels of the crop.

        Args:
            index (int): position of the clip.

        Shape:
            - returns: (T, B, 4), with B the largest number of boxes in a frame, at least 1

        Returns:
            Tensor: float64 ``(x0, y0, x1, y1)``, half-open; rows of NaN where a frame has fewer than B, as
            the spatial metrics take them (with a batch axis in front).
        """
        clip = self.clips[index]
        size = (clip.height, clip.width)
        return pad(
            [
                [box for box in self.transform.map_boxes(clip.boxes_in(position), size) if box is not None]
                for position in self._read(index)[1].tolist()
            ]
        )

    def inside(self, index: int) -> Tensor:
        """Which frames of item ``index`` lie in a span of its label.

        Args:
            index (int): position of the clip.

        Shape:
            - returns: (T,)

        Returns:
            Tensor: bool.
        """
        clip = self.clips[index]
        positions = self._read(index)[1]
        inside = torch.zeros(len(positions), dtype=torch.bool)
        for label, start, end in clip.spans:
            if label == clip.label:
                inside |= (positions >= start) & (positions < end)
        return inside

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        """Cropped frames, and their positions among the frames of the file."""
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        video = read_video(self.clips[index].path, self.n_frames)
        entry = (self.transform.crop(video.frames), video.indices)
        if self._cache is not None:
            self._cache[index] = entry
        return entry
