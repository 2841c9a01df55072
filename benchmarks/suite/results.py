"""Results on disk, one JSON line per clip and cell, which no kill, full disk or second run can spoil."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.suite.errors import RunError
from captum_ext.data._atomic import replacing

__all__ = ["Record", "ResultsError", "ResultsFolder"]

Value = float | list[float]
Parsed = TypeVar("Parsed")


class ResultsError(RunError):
    """Results cannot be written, or do not belong to this run."""


@dataclass(frozen=True)
class Record:
    """What came out for one clip in one cell of a table.

    Args:
        clip (str): the clip, unique in its run.
        cell (str): the method or baseline.
        values (Mapping[str, Value]): measure to its value for this clip; NaN where there is none.
        seconds (float): CPU seconds that the explanation took (its share of the batch).
    """

    clip: str
    cell: str
    values: Mapping[str, Value]
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """What may be counted once only."""
        return self.clip, self.cell

    def line(self) -> bytes:
        """One line of JSON; NaN is null, which every reader of JSON understands.

        Raises:
            ResultsError: if a value is infinite.
        """
        values = {name: _without_nan(value) for name, value in self.values.items()}
        record = {"clip": self.clip, "cell": self.cell, "values": values, "seconds": self.seconds}
        try:
            return json.dumps(record, allow_nan=False).encode() + b"\n"
        except ValueError as error:
            raise ResultsError(
                f"{self.cell} of clip {self.clip!r} has an infinite value: {values}"
            ) from error

    @classmethod
    def of(cls, content: dict[str, Any]) -> Record:
        """The record that a line holds."""
        values = {name: _with_nan(value) for name, value in content["values"].items()}
        return cls(content["clip"], content["cell"], values, content["seconds"])


class ResultsFolder:
    """The results of one run: ``run.json`` says of which, and every process appends to a file of its own.

    A line counts when it ends in a newline. What a killed process left behind its last newline is cut off
    before anything is appended, and ignored when reading.

    Args:
        folder (Path): made by :meth:`begin`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, settings: Mapping[str, Any], resume: bool) -> None:
        """Make the folder, or go on with the run in it.

        Args:
            settings (Mapping): what decides the figures; a run may only be resumed with the same.
            resume (bool): go on with a run that is there.

        Raises:
            ResultsError: if there are results and ``resume`` is False, or they belong to other settings, or
                the folder cannot be written to.
        """
        file = self.folder / "run.json"
        wanted = json.loads(json.dumps(settings))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            has_results = any(self.folder.glob("results-*.jsonl"))
            if not file.exists():
                if has_results:
                    raise FileNotFoundError(f"there are results, but no {file.name} that says of which run")
                with replacing(file) as temporary:
                    temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
                return
            earlier = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ResultsError(f"{self.folder} cannot hold results: {error}") from error
        names = sorted(earlier.keys() | wanted.keys())
        changed = [name for name in names if earlier.get(name) != wanted.get(name)]
        if not resume and has_results:
            raise ResultsError(
                f"{self.folder} holds the results of an earlier run; give --resume to go on with it, or "
                "another --output."
            )
        if changed:
            listed = ", ".join(f"{name}: {earlier.get(name)!r}, now {wanted.get(name)!r}" for name in changed)
            raise ResultsError(
                f"{self.folder} belongs to a run with other settings ({listed}); give the same settings, or "
                f"another --output{'' if has_results else f', or remove {file}: it has no results yet'}."
            )

    def append(self, rank: int, records: Iterable[Record]) -> None:
        """Write records in one piece to the file of this process.

        Raises:
            ResultsError: if they cannot be written; what was there before is intact.
        """
        self._append(self._part(rank), b"".join(record.line() for record in records))

    def skip(self, rank: int, clip: str, reason: str) -> None:
        """Remember that a clip could not be read.

        Raises:
            ResultsError: as for :meth:`append`.
        """
        line = json.dumps({"clip": clip, "reason": reason}).encode() + b"\n"
        self._append(self._skipped(rank), line)

    def _append(self, file: Path, data: bytes) -> None:
        try:
            with file.open("ab", buffering=0) as stream:
                length = stream.tell()
                try:
                    written = stream.write(data)
                    if written != len(data):
                        raise OSError("the disk is full")
                except OSError:
                    with suppress(OSError):  # the first error says more, and mend() cuts off a torn line too
                        stream.truncate(length)
                    raise
        except OSError as error:
            raise ResultsError(
                f"results cannot be written to {file}: {error}. Earlier results are intact: make room or "
                "mend the permissions, then run the same command with --resume."
            ) from error

    def mend(self, rank: int) -> None:
        """Cut off what a killed process wrote of a line without finishing it.

        Raises:
            ResultsError: if the file cannot be changed.
        """
        try:
            for file in (self._part(rank), self._skipped(rank)):
                if file.exists():
                    whole = file.read_bytes().rfind(b"\n") + 1
                    os.truncate(file, whole)
        except OSError as error:
            raise ResultsError(f"the results in {self.folder} cannot be continued: {error}") from error

    def read(self) -> list[Record]:
        """All finished records of all processes in a fixed order, none twice.

        Raises:
            ResultsError: if a finished line is no record.
        """
        found: dict[tuple[str, str], Record] = {}
        for record in self._finished("results-*.jsonl", Record.of):
            found.setdefault(record.key, record)
        return [found[key] for key in sorted(found)]

    def skipped(self) -> dict[str, str]:
        """Clips that could not be read in this run or an earlier one, and why.

        Raises:
            ResultsError: if a finished line names no clip.
        """
        return dict(self._finished("skipped-*.jsonl", lambda line: (str(line["clip"]), str(line["reason"]))))

    def _finished(self, pattern: str, parse: Callable[[dict[str, Any]], Parsed]) -> Iterator[Parsed]:
        """What the finished lines of all processes say."""
        for file in sorted(self.folder.glob(pattern)):
            content = file.read_bytes()
            finished = content[: content.rfind(b"\n") + 1]
            for number, line in enumerate(finished.splitlines(), start=1):
                try:
                    yield parse(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError) as error:  # noqa: PERF203
                    raise ResultsError(f"{file}, line {number} is no result: {error!r}") from error

    def _part(self, rank: int) -> Path:
        return self.folder / f"results-{rank:04d}.jsonl"

    def _skipped(self, rank: int) -> Path:
        return self.folder / f"skipped-{rank:04d}.jsonl"


def _without_nan(value: Value) -> object:
    if isinstance(value, list):
        return [_without_nan(number) for number in value]
    return None if math.isnan(value) else value


def _with_nan(value: Any) -> Value:
    if isinstance(value, list):
        return [math.nan if number is None else float(number) for number in value]
    return math.nan if value is None else float(value)
