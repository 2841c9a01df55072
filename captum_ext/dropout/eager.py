"""Running compiled code eagerly, for as long as anybody wants it."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import torch

__all__ = ["Eager", "is_in_compiled_code"]

_wanting: set[int] = set()
_stance = ExitStack()
_WRAPPERS = {"compile_wrapper": True, "_fn": False}
"""Functions of dynamo around what is compiled, and around what is not to be."""


class Eager:
    """One that wants compiled code to run eagerly, or does not: the process does if there is any."""

    def begin(self) -> None:
        """Want it."""
        if not _wanting:
            _stance.enter_context(torch.compiler.set_stance("force_eager"))
        _wanting.add(id(self))

    def end(self) -> None:
        """Want it no longer; without effect if it was not wanted."""
        if id(self) in _wanting:
            _wanting.remove(id(self))
            if not _wanting:
                _stance.close()


def is_in_compiled_code() -> bool:
    """Whether the caller was called by a compiled module or function, which does not run eagerly."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if dynamo is None or dynamo._stance.stance == "force_eager":
        return False
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == dynamo.__file__ and frame.f_code.co_name in _WRAPPERS:
            return _WRAPPERS[frame.f_code.co_name]
        frame = frame.f_back  # type: ignore[assignment]
    return False
