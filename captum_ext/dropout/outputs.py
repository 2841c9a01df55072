"""Walking through the arguments and results of functions and networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

__all__ = ["each_tensor", "map_arguments", "map_output"]


def each_tensor(value: Any) -> list[Tensor]:
    """The tensors in the arguments of a function of torch, or in its result."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in each_tensor(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in each_tensor(item)]
    return []


def map_arguments(value: Any, change: Callable[[Any], Any]) -> Any:
    """``change`` applied to everything that is no list, tuple or dict."""
    if type(value) in (list, tuple):
        return type(value)(map_arguments(item, change) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_arguments(item, change) for item in value))
    if isinstance(value, list | tuple):  # torch.Size, torch.return_types
        return value
    if type(value) is dict:
        return {name: map_arguments(item, change) for name, item in value.items()}
    return change(value)


def map_output(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What a network returned, with ``change`` applied to each tensor in it; it is not written to."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        items = [map_output(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, Mapping):
        changed: Any = copy.copy(value)
        for name, item in value.items():
            changed[name] = map_output(item, change)
        return changed
    if is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for field in fields(value):
            object.__setattr__(changed, field.name, map_output(getattr(value, field.name), change))
        return changed
    return value
