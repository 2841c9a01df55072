"""Hooks that a model sets on its activations while it runs: they are for gradients, and mass is none."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from captum_ext.excitation.mode import Args, ExcitationMode, Kwargs, rule

__all__: list[str] = []


@rule(Tensor.register_hook)
def register_hook(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Not set: it would change the mass, or hand it to the user as a gradient."""
    return RemovableHandle(OrderedDict())


@rule(Tensor.retain_grad)
def retain_grad(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Not done: the mass would be left behind as a gradient."""
    return None
