"""Running compiled code eagerly, for as long as anybody wants it."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import torch

__all__ = ["Eager", "is_in_compiled_code"]

_wanting: set[int] = set()
_stance = ExitStack()


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
    if _wanting or "torch._dynamo" not in sys.modules:
        return False
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "compile_wrapper" and code.co_filename.endswith("eval_frame.py"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
