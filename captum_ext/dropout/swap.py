"""A dropout layer put into a model, in the place of another one or behind a module, and taken out again."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from captum_ext.dropout.copies import StandIn, no_hook
from captum_ext.excitation import unwrap

__all__ = ["Swap", "ancestors", "dropout_names", "find_module"]


def dropout_names(model: nn.Module) -> list[str]:
    """Dotted names of the dropout layers of a model, lowest first as they were defined.

    Args:
        model (nn.Module): any model.

    Returns:
        *list[str]*.

    Example:
        >>> dropout_names(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)))
        ['2']
    """
    return [name for name, module in unwrap(model).named_modules() if isinstance(module, _DROPOUTS)]


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_TAKEN: WeakSet[nn.Module] = WeakSet()
"""Layers that were put in, and modules that one was put behind."""
_REFUSED = (nn.AlphaDropout, nn.FeatureAlphaDropout)


def find_module(model: nn.Module, name: str) -> nn.Module:
    """The module with a dotted name, also inside of compiled modules.

    Raises:
        ValueError: there is none; the message names similar ones and the dropout layers.
    """
    module = unwrap(model)
    for part in _parts(name):
        child = getattr(module, part, None)
        if not isinstance(child, nn.Module):
            names = [".".join(_parts(n)) for n, _ in unwrap(model).named_modules() if n]
            close = difflib.get_close_matches(name, names, n=3)
            dropouts = dropout_names(model)[:8]
            hints = [f"did you mean {' or '.join(map(repr, close))}?"] if close else []
            hints += [
                f"its dropout layers are {', '.join(map(repr, dropouts))}"
                if dropouts
                else "it has no dropout layer"
            ]
            raise ValueError(f"the model has no module named {name!r}; {'; '.join(hints)}")
        module = unwrap(child)
    return module


def ancestors(model: nn.Module, name: str) -> list[nn.Module]:
    """The modules that contain the named one, outermost first."""
    parts = _parts(name)
    return [find_module(model, ".".join(parts[:depth])) for depth in range(len(parts))]


def _parts(name: str) -> list[str]:
    """Of a dotted name; wrappers of compiled modules, which ``named_modules`` shows, are none."""
    return [part for part in name.split(".") if part not in ("", "_orig_mod")]


class Swap:
    """A dropout layer in the place of another, or behind a module of any other kind.

    Args:
        model (nn.Module): the model.
        name (str): dotted name of a dropout layer, or of the module whose output is to be dropped from.
        make (Callable): ``make(p, is_channelwise)`` returns the new layer, with the rate of the layer whose
            place it takes (None behind another module) and whether that dropped channels.
    """

    def __init__(self, model: nn.Module, name: str, make: Callable[[float | None, bool], nn.Module]) -> None:
        if not name:
            raise ValueError("the model itself cannot be its dropout layer; name a layer inside of it")
        self.name, self._original = name, find_module(model, name)
        if isinstance(self._original, _REFUSED):
            raise ValueError(
                f"layer {name!r} is {type(self._original).__name__}, which keeps mean and variance of SELU "
                "networks; no other dropout can take its place"
            )
        if self._original in _TAKEN:
            raise ValueError(f"layer {name!r} is taken already, by another attachment or callback")
        takes_place = isinstance(self._original, _DROPOUTS)
        rate = getattr(self._original, "p", None) if takes_place else None
        self.layer = make(rate, isinstance(self._original, _CHANNELS))
        self.layer.train(self._original.training)
        self._hook = None
        self._places: list[tuple[nn.Module, str, nn.Module]] = []
        if takes_place:
            # One layer may go by several names, and be compiled by itself.
            self._places = [
                (parent, leaf, child)
                for parent in unwrap(model).modules()
                for leaf, child in parent._modules.items()
                if leaf != "_orig_mod" and child is not None and unwrap(child) is self._original
            ]
            for parent, leaf, _ in self._places:
                setattr(parent, leaf, self.layer)
            _TAKEN.add(self.layer)
            if isinstance(self.layer, StandIn):
                self.layer.stand_in_for(self._original)
        else:
            self._hook = self._original.register_forward_hook(_Follow(self._original, self.layer, name))
            _TAKEN.add(self._original)

    @property
    def is_behind(self) -> bool:
        """Whether the layer was put behind a module, by a hook."""
        return self._hook is not None

    def undo(self) -> None:
        """Restore the model."""
        if self._hook is not None:
            self._hook.remove()
            _TAKEN.discard(self._original)
            return
        self._original.train(self.layer.training)
        for parent, leaf, child in self._places:
            if getattr(parent, leaf, None) is self.layer:
                setattr(parent, leaf, child)


class _Follow:
    """A forward hook that passes a module's output through a layer.

    In a copy of the model a layer that stands in is gone, and another acts there, too.
    """

    def __init__(self, owner: nn.Module, layer: nn.Module, name: str) -> None:
        self._owner, self._layer, self._name = owner, layer, name

    def __call__(self, module: nn.Module, _: Any, output: Any) -> Any:
        if module is not self._owner:
            return None
        if not isinstance(output, Tensor):
            raise TypeError(
                f"the output of module {self._name!r} is a {type(output).__name__}, not a tensor to drop "
                "from; name a module inside of it or behind it"
            )
        self._layer.training = module.training
        return self._layer(output)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if isinstance(self._layer, StandIn):
            return no_hook, ()
        return _Follow, (self._owner, self._layer, self._name)
