"""Standard dropout with one mask for the whole batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SharedDropout"]


class SharedDropout(nn.Dropout):
    """Standard dropout whose mask all examples of a batch share, as in the thesis' baseline.

    The thesis' "Standard Dropout + Mask/Img" draws a mask per example, which is :class:`torch.nn.Dropout`.

    Args:
        p (float, optional): probability that a unit is dropped. Default: 0.5

    Shape:
        (N, *); the result has the same shape. Kept values are multiplied by 1 / (1 - p).

    Example:
        >>> import torch
        >>> y = SharedDropout(0.5)(torch.ones(3, 8))
        >>> torch.equal(y[0], y[1]) and torch.equal(y[1], y[2])
        True

    References:
        Bargal, thesis 2019, section 5.2.2.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name in torch)
        """Drop in training, the identity otherwise."""
        if not self.training or self.p == 0:
            return input
        if self.p == 1:
            return input * 0.0
        keep = torch.rand(input.shape[1:], dtype=torch.float32, device=input.device) >= self.p
        return input * (keep / (1.0 - self.p)).to(input.dtype)
