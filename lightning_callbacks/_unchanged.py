"""A model and the random numbers as they were, whatever is done in between."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics import Metric

__all__ = ["unchanged"]


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Give back flags, hooks, buffers, metrics, gradients, ``requires_grad`` and random states at the end.

    Inside, the module is in evaluation mode, its parameters have no ``.grad`` (what a method adds to them is
    dropped), what was compiled runs as it is written, hooks and all, and a LightningModule logs nothing.

    Args:
        module (nn.Module): with all that it holds.
    """
    flags = [(part, part.training) for part in module.modules()]
    tables = [(found, dict(found)) for part in module.modules() for found in _tables(part)]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    with torch.inference_mode(False):  # they are updated in place when this is over
        metrics = [(part, _attributes(part)) for part in module.modules() if isinstance(part, Metric)]
    parameters = [(p, p.grad, p.requires_grad) for p in module.parameters()]
    devices = sorted({p.device.index for p, *_ in parameters if p.device.type == "cuda"})
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"), _silent(module):
            for parameter, *_ in parameters:
                parameter.grad = None
            module.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for part, training in flags:
            part.training = training
        for found, before in tables:
            found.clear()
            found.update(before)
        for buffer, value in buffers:
            buffer.data.copy_(value)
        for metric, attributes in metrics:
            vars(metric).update(attributes)
        for parameter, grad, requires_grad in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad


def _tables(module: nn.Module) -> list[dict[Any, object]]:
    """The dictionaries in which ``torch.nn.Module`` keeps buffers, and hooks of its two passes."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_buffers")
    flagged = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")
    return [vars(module)[name] for name in (*names, *flagged) if name in vars(module)]


def _attributes(metric: Metric) -> dict[str, Any]:
    """What a metric holds; of its states copies, since an update may change them in place."""
    return {**vars(metric), **metric._copy_state_dict()}


@contextmanager
def _silent(module: nn.Module) -> Iterator[None]:
    """What ``forward`` logs belongs to the passes of the run, not to those of a callback."""
    if not inspect.ismethod(getattr(module, "log", None)):
        yield
        return
    own = {name: value for name, value in vars(module).items() if name == "log"}
    vars(module)["log"] = lambda *_, **__: None
    try:
        yield
    finally:
        del vars(module)["log"]
        vars(module).update(own)
