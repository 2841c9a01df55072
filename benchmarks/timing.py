"""How speed is measured: against a plain forward and input-gradient backward pass."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

__all__ = ["input_gradient", "now"]


def input_gradient(model: nn.Module, x: Tensor, target: int | tuple[int, int]) -> Tensor:
    """The plain pass that explanations are compared with: forward, and backward to the input alone."""
    x = x.detach().requires_grad_()
    index = (slice(None), *((target,) if isinstance(target, int) else target))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        # An LSTM of cuDNN has no backward pass in evaluation mode.
        with torch.backends.cudnn.flags(enabled=not any(isinstance(m, nn.LSTM) for m in model.modules())):
            return torch.autograd.grad(model(x)[index].sum(), x)[0]
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def now(device: str) -> float:
    """CPU time on the CPU, which leaves out waiting for other jobs; the clock after all work on a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
