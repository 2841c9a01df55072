"""From the frames of a file to a model's input, and the same geometry for boxes and for pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.data.records import Box


class Normalization(NamedTuple):
    """Channel statistics of the pixels a model was trained on, in RGB order, for pixels in [0, 1].

    Attributes:
        mean (tuple of float): subtracted.
        std (tuple of float): divided by.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""torchvision's image models, and video models that start from them (also s3d, swin3d)."""

KINETICS = Normalization((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
"""torchvision's r3d_18, mc3_18 and r2plus1d_18 trained on Kinetics-400."""


@dataclass(frozen=True)
class ClipTransform:
    """Resize the short side, crop the centre, normalise.

    The clip is scaled isotropically (bilinear, antialiased) until its short side is ``resize`` pixels, or,
    by default, until it just covers the crop; then the centre is cut out, rounded to uint8 and normalised.
    So :meth:`crop` returns exactly the pixels the model sees.

    Args:
        size (int or tuple[int, int]): the crop, (h, w) in pixels, or the side of a square one.
        mean (tuple of float): per RGB channel, for pixels in [0, 1].
        std (tuple of float): per RGB channel, above 0.
        resize (int, optional): short side before cropping, in pixels; None for the scale at which the crop
            just fits into the clip. Default: None

    Raises:
        ValueError: if a size or a std is not positive.

    Example::

        >>> transform = ClipTransform(112, *KINETICS, resize=128)
        >>> frames = torch.zeros(16, 3, 240, 320, dtype=torch.uint8)
        >>> transform(frames).shape
        torch.Size([3, 16, 112, 112])
        >>> ClipTransform(120, *IMAGENET).map_boxes([(40.0, 0.0, 140.0, 60.0)], frame_size=(240, 320))
        ((0.0, 0.0, 50.0, 30.0),)
    """

    size: int | tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: int | None = None

    def __post_init__(self) -> None:
        if min(self.crop_size) < 1 or (self.resize is not None and self.resize < 1):
            raise ValueError(f"size={self.size} and resize={self.resize} must be at least 1 pixel")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean={self.mean} and std={self.std} need 3 channels and a std above 0")

    @property
    def crop_size(self) -> tuple[int, int]:
        """(h, w) of the result, in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def __call__(self, frames: Tensor) -> Tensor:
        """The model's input for one clip.

        Args:
            frames (Tensor): uint8 RGB.

        Shape:
            - frames: (T, 3, H, W)
            - returns: (3, T, h, w)

        Returns:
            Tensor: float32, ``(pixel / 255 - mean) / std``; add the batch axis in front.

        Raises:
            ValueError: if ``frames`` has another shape or type, or is smaller than the crop after resizing.
        """
        return self.normalize(self.crop(frames))

    def normalize(self, cropped: Tensor) -> Tensor:
        """The second half of the transform: from the crop's pixels to the model's input.

        Args:
            cropped (Tensor): uint8 RGB, as :meth:`crop` returns it.

        Shape:
            - cropped: (T, 3, h, w)
            - returns: (3, T, h, w)

        Returns:
            Tensor: float32.
        """
        pixels = cropped.transpose(0, 1).to(torch.float32) / 255
        mean, std = (pixels.new_tensor(values).view(3, 1, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    def crop(self, frames: Tensor) -> Tensor:
        """The pixels the model sees, before normalisation, for display.

        Args:
            frames (Tensor): uint8 RGB.

        Shape:
            - frames: (T, 3, H, W)
            - returns: (T, 3, h, w)

        Returns:
            Tensor: uint8 RGB.

        Raises:
            ValueError: as for a call of the transform.
        """
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"frames must be uint8 (T, 3, H, W), not {frames.dtype} {tuple(frames.shape)}")
        H, W = frames.shape[2:]
        resized, (top, left) = self._geometry((H, W))
        if resized != (H, W):
            scaled = F.interpolate(
                frames.to(torch.float32), resized, mode="bilinear", align_corners=False, antialias=True
            )
            frames = scaled.round_().clamp_(0, 255).to(torch.uint8)
        h, w = self.crop_size
        return frames[:, :, top : top + h, left : left + w].contiguous()

    def map_boxes(self, boxes: Sequence[Box | None], frame_size: tuple[int, int]) -> tuple[Box | None, ...]:
        """Boxes in pixels of the source, in pixels of the crop.

        Args:
            boxes (sequence of Box or None): float ``(x0, y0, x1, y1)``, half-open, one per frame.
            frame_size (tuple[int, int]): (H, W) of the source.

        Returns:
            tuple of Box or None: cut off at the crop's border; None where there was no box or where it lies
            outside the crop.

        Raises:
            ValueError: if the source is smaller than the crop after resizing.
        """
        (H, W) = frame_size
        (resized_h, resized_w), (top, left) = self._geometry(frame_size)
        h, w = self.crop_size
        mapped: list[Box | None] = []
        for box in boxes:
            if box is None:
                mapped.append(None)
                continue
            x0, x1 = (min(max(x * resized_w / W - left, 0.0), float(w)) for x in (box[0], box[2]))
            y0, y1 = (min(max(y * resized_h / H - top, 0.0), float(h)) for y in (box[1], box[3]))
            mapped.append((x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None)
        return tuple(mapped)

    def _geometry(self, frame_size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """(H, W) after resizing, and (top, left) of the crop in it."""
        H, W = frame_size
        h, w = self.crop_size
        scale = max(h / H, w / W) if self.resize is None else self.resize / min(H, W)
        resized = (round(H * scale), round(W * scale))
        if resized[0] < h or resized[1] < w:
            raise ValueError(
                f"a clip of {H} x {W} resized to {resized[0]} x {resized[1]} (short side {self.resize}) "
                f"does not hold a crop of {h} x {w}: raise resize"
            )
        return resized, ((resized[0] - h) // 2, (resized[1] - w) // 2)
