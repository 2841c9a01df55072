"""What saliency maps per frame must be, for every function that points into them."""

import torch
from torch import Tensor

from captum_ext._floating import check_floating


def check_maps(maps: Tensor, frame_size: tuple[int, int]) -> None:
    """Refuse anything but finite floating-point maps (N, T, h, w) that are no larger than the frame."""
    check_floating(maps, "maps", "(N, T, h, w)")
    if maps.dim() != 4 or 0 in maps.shape:
        raise ValueError(
            f"maps must have shape (N, T, h, w) with no empty axis, got {tuple(maps.shape)}; "
            "sum over channels first."
        )
    if maps.shape[2] > frame_size[0] or maps.shape[3] > frame_size[1]:
        raise ValueError(
            f"maps of {maps.shape[2]} x {maps.shape[3]} (h x w) are larger than frame_size {frame_size} "
            "(H, W); is frame_size height first, in pixels of the input?"
        )
    finite = torch.isfinite(maps).all(dim=(2, 3))
    if not bool(finite.all()):
        clip, frame = (~finite).nonzero()[0].tolist()
        raise ValueError(f"maps must be finite, but clip {clip}, frame {frame} holds NaN or infinite values.")
