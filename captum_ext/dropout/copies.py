"""What is left of Excitation Dropout in a copy of a model, such as weight averaging makes: nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["StandIn", "no_hook"]


class StandIn(nn.Module):
    """A layer that took another's place for a while: in a copy, or a file, the other one is back."""

    _stands_for: tuple[nn.Module, ...] = ()

    def stand_in_for(self, original: nn.Module) -> None:
        """Take its place."""
        self._stands_for = (original,)  # in a tuple it is no submodule

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self._stands_for:
            return super().__reduce_ex__(protocol)
        return _same, (self._stands_for[0].train(self.training),)


def no_hook() -> Callable[..., None]:
    """A hook that does nothing, in the place of one that belongs to the original."""
    return _nothing


def _nothing(*_: Any) -> None:
    pass


def _same(module: nn.Module) -> nn.Module:
    return module
