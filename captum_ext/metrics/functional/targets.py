"""Which class of each clip is meant."""

from collections.abc import Sequence

import torch
from torch import Tensor

Target = int | Sequence[int] | Tensor | None


def target_classes(target: Target, n_clips: int, device: torch.device) -> Tensor | None:
    """The class of each clip, (N,) int64 on the device, from one class for all or one per clip."""
    if target is None:
        return None
    classes = torch.as_tensor(target, device=device)
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise TypeError(f"target must be a class index or one per clip, got {classes.dtype}.")
    if classes.dim() == 0:
        classes = classes.expand(n_clips)
    if classes.shape != (n_clips,):
        raise ValueError(
            f"target must be one class, or one per clip, shape (N,) = ({n_clips},), "
            f"got {tuple(classes.shape)}."
        )
    if bool((classes < 0).any()):
        raise ValueError(f"target must count classes from 0, got {classes.tolist()}.")
    return classes.long()
