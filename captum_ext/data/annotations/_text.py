"""Text files as people have them: with or without a byte order mark, with any line ends, with blank lines."""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from captum_ext.data.annotations._faults import AnnotationError, Faults


def read_text(file: Path) -> str:
    """The file as text: UTF-8, UTF-16 if it has that mark, else Latin-1; line ends become newlines."""
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            decoded = content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise AnnotationError(f"{file}: begins as UTF-16 and is not: {error}") from error
    else:
        try:
            decoded = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            decoded = content.decode("latin-1")
    return decoded.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, stripped, with their number from 1."""
    for line_number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            yield line_number, line.strip()


def read_table(file: Path, faults: Faults, *kinds: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a csv file by the names in its first line, with the number of the line each ends on.

    The file must have all columns of one of the ``kinds``; further columns come along. A row of another
    length is a fault.
    """
    reader = csv.reader(io.StringIO(read_text(file)), strict=True, skipinitialspace=True)
    names: list[str] | None = None
    try:
        for row in reader:
            fields = [field.strip() for field in row]
            if not any(fields):
                continue
            if names is None:
                names = fields
                _check_columns(f"{file}, line {reader.line_num}", names, kinds)
                continue
            with faults.at(f"line {reader.line_num}"):
                if len(fields) != len(names):
                    raise ValueError(f"{len(fields)} fields where the first line names {len(names)}")
            if len(fields) == len(names):
                yield reader.line_num, dict(zip(names, fields, strict=True))
    except csv.Error as error:
        raise AnnotationError(f"{file}, line {reader.line_num}: not csv: {error}") from error
    if names is None:
        raise AnnotationError(f"{file} is empty; expected columns {_listed(kinds)}")


def _check_columns(where: str, names: Sequence[str], kinds: Sequence[Sequence[str]]) -> None:
    if not any(set(columns) <= set(names) for columns in kinds):
        raise AnnotationError(f"{where}: expected columns {_listed(kinds)}; found {', '.join(names)}")
    doubled = sorted({name for columns in kinds for name in columns if names.count(name) > 1})
    if doubled:
        raise AnnotationError(f"{where}: column {', '.join(doubled)} appears twice")


def _listed(kinds: Sequence[Sequence[str]]) -> str:
    return "; or ".join(", ".join(columns) for columns in kinds)


def read_json(file: Path) -> Any:
    """The content of a JSON file; an object with the same key twice is refused, since one would be lost."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for key, value in pairs:
            if key in record:
                raise AnnotationError(f"{file}: the key {key!r} appears twice in one object")
            record[key] = value
        return record

    def refuse(constant: str) -> NoReturn:
        raise AnnotationError(f"{file}: {constant} is not a number")

    try:
        return json.loads(read_text(file), object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{file}, line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise AnnotationError(f"{file}: nested too deeply") from error
    except AnnotationError:
        raise
    except ValueError as error:  # a number of thousands of digits
        raise AnnotationError(f"{file}: {error}") from error
