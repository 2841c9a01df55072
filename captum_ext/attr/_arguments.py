"""Further arguments of the model, which it may write to or take gradients through."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from torch import Tensor

from captum_ext._compat import expand_additional_forward_args

__all__ = ["private", "repeated"]


def private(value: Any) -> Any:
    """A copy whose tensors are cut off from the caller's graph, memory and inference mode.

    Tensors are found in tuples (named ones and packed sequences too), lists, dicts and data classes, however
    deep. Any other object is passed on as it is.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple):
        parts = [private(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, list | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        container = copy.copy(value)
        for key, part in items:
            container[key] = private(part)
        return container
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        record = copy.copy(value)
        for field in dataclasses.fields(value):
            # Data classes may be frozen.
            object.__setattr__(record, field.name, private(getattr(value, field.name)))
        return record
    return value


def repeated(extra: tuple[object, ...] | None, times: int) -> tuple[object, ...] | None:
    """Further arguments repeated with the examples, in memory that a call may write to."""
    if extra is None:
        return None
    more = expand_additional_forward_args(extra, times)
    return tuple(private(new) if new is old else new for new, old in zip(more, extra, strict=True))
