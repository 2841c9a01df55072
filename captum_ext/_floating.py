"""The check that comes before all others of a tensor of values."""

from torch import Tensor


def check_floating(value: Tensor, name: str, shape: str) -> None:
    """Refuse anything but a floating-point tensor; ``shape`` tells the user which."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        what = str(value.dtype) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating-point tensor of shape {shape}, got {what}.")
