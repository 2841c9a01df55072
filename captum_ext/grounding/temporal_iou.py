"""How well two windows in time agree."""

import torch
from torch import Tensor


def temporal_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of windows, pair by pair.

    Args:
        a (Tensor): Half-open windows ``[start, end)``, in frames or in seconds.
        b (Tensor): Windows in the same unit; leading axes broadcast against those of ``a``.

    Shape:
        - a, b: (..., 2)
        - returns: (...)

    Returns:
        Tensor: IoU in 0..1, float64.

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If the last axis is not 2, or a window is empty, reversed or not finite.

    Example:
        >>> temporal_iou(torch.tensor([[0, 10], [0, 10]]), torch.tensor([[5, 15], [10, 20]]))
        tensor([0.3333, 0.0000], dtype=torch.float64)
    """
    for name, windows in (("a", a), ("b", b)):
        if not isinstance(windows, Tensor):
            raise TypeError(f"{name} must be a tensor of shape (..., 2), got {type(windows).__name__}.")
        if windows.dim() == 0 or windows.shape[-1] != 2:
            raise ValueError(f"{name} must have shape (..., 2), [start, end), got {tuple(windows.shape)}.")
        bad = ~((windows[..., 1] > windows[..., 0]) & torch.isfinite(windows).all(dim=-1))
        if bool(bad.any()):
            raise ValueError(
                f"{name} must hold finite windows with start < end, got {windows[bad][0].tolist()}."
            )
    a, b = a.double(), b.double()
    overlap = torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])
    overlap = overlap.clamp(min=0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - overlap
    return overlap / union
