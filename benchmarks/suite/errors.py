"""What is the matter with a run and not with the code: told in one line instead of a traceback."""

from __future__ import annotations

__all__ = ["RunError"]


class RunError(RuntimeError):
    """A run cannot begin or go on; the message says why and what to do."""
