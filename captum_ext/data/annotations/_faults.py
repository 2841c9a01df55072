"""What is wrong with an annotation file, told once and precisely."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

OnError = Literal["raise", "skip"]


class AnnotationError(ValueError):
    """A record that cannot be right; the message names the file, the line or key, and the reason."""


class Faults:
    """Turns the ``ValueError`` of a record into an :class:`AnnotationError`, or leaves the record out.

    Used as a context around the whole file; :meth:`at` goes around each record. With ``on_error="skip"`` one
    warning at the end of the file says how many records were left out, and why the first was.
    """

    def __init__(self, file: Path, on_error: OnError) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", not {on_error!r}')
        self._file = file
        self._on_error = on_error
        self._skipped: list[AnnotationError] = []

    def __enter__(self) -> "Faults":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._skipped and error is None:
            # 3: the caller of the reader, behind the reader's own frame.
            warnings.warn(
                f"{len(self._skipped)} faulty record(s) left out; the first: {self._skipped[0]}", stacklevel=3
            )

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Around one record; ``where`` is its line or key."""
        try:
            yield
        except AnnotationError:
            raise  # located already, by an inner record
        except ValueError as error:
            located = AnnotationError(f"{self._file}, {where}: {error}")
            if self._on_error == "raise":
                raise located from error
            self._skipped.append(located)


@contextmanager
def within(where: str) -> Iterator[None]:
    """Around a part of a record: puts ``where`` in front of the reason."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def member(record: Any, name: str) -> Any:
    """``record[name]``, or a ``ValueError`` that says what there is instead."""
    if not isinstance(record, Mapping):
        raise ValueError(f"expected an object with {name!r}, found {type(record).__name__} {record!r:.60}")
    if name not in record:
        raise ValueError(f"has no {name!r}; it has {', '.join(map(repr, record)) or 'nothing'}")
    return record[name]


def number(value: Any, name: str) -> float:
    """A finite number, also from text, as derived files write ``"18.6"``."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{name} must be a number, not {value!r:.60}")
    try:
        result = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, not {value!r:.60}") from None
    if not math.isfinite(result):
        raise ValueError(f"{name} must be finite, not {value!r}")
    return result


def whole(value: Any, name: str) -> int:
    """A whole number, also from text, and from ``"33.0"``."""
    result = number(value, name)
    if result != int(result):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(result)


def text(value: Any, name: str) -> str:
    """A string with something in it, without white space around it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text that is not empty, not {value!r:.60}")
    return value.strip()
