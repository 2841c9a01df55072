"""What hooks become in a copy of a model, such as weight averaging makes: nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["no_hook"]


def no_hook() -> Callable[..., None]:
    """A hook that does nothing, in the place of one that belongs to the original."""
    return _nothing


def _nothing(*_: Any) -> None:
    pass
