"""A function or model that a metric uses and that is not a part of it."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Reference"]

F = TypeVar("F", bound=Callable[..., Any])


class Reference(Generic[F]):
    """Hides a callable from its owner, so that a model given to a metric stays the user's.

    Held plainly, a model would become a submodule: its weights would be saved with the metric's states, and
    ``train()`` or ``to()`` of the metric would reach it. Copies of the metric (``clone``) refer to the same
    model, which may be training on; pickles carry it along.

    Args:
        function (Callable): What is referred to.
    """

    def __init__(self, function: F) -> None:
        if not callable(function):
            raise TypeError(f"expected a function or module to call, got {type(function).__name__}.")
        self.function = function

    def __deepcopy__(self, memo: dict[int, Any]) -> "Reference[F]":
        return self
