"""Warnings that point at the user's line."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

# Captum wraps `attribute` in a function of its own, torch wraps functions with a grad mode.
_NOT_THE_USER = {"captum_ext", "captum", "torch", "contextlib"}


def warn(message: str) -> None:
    """Warn at the innermost call that was made outside of the library."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
