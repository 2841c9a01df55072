"""A model and the random numbers as they were, whatever is done in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

__all__ = ["unchanged"]


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Give back training flags, hooks, buffers, gradients, ``requires_grad`` and random states at the end.

    Inside, the module is in evaluation mode and its parameters have no ``.grad``: what a method adds to them
    is dropped.

    Args:
        module (nn.Module): with all that it holds.
    """
    flags = [(part, part.training) for part in module.modules()]
    hooks = [(found, dict(found)) for part in module.modules() for found in _hooks(part)]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    parameters = [(p, p.grad, p.requires_grad) for p in module.parameters()]
    devices = sorted({p.device.index for p, *_ in parameters if p.device.type == "cuda"})
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices):
            for parameter, *_ in parameters:
                parameter.grad = None
            module.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for part, training in flags:
            part.training = training
        for found, before in hooks:
            found.clear()
            found.update(before)
        for buffer, value in buffers:
            buffer.data.copy_(value)
        for parameter, grad, requires_grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad


def _hooks(module: nn.Module) -> list[dict[int, object]]:
    """Every dictionary in which ``torch.nn.Module`` keeps hooks of its forward and backward pass."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    flagged = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")
    return [vars(module)[name] for name in (*names, *flagged) if name in vars(module)]
