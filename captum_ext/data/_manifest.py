"""Lists of clips as JSON files whose videos are named relative to the file's folder."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from captum_ext.data._atomic import replacing

__all__ = ["read_manifest", "write_manifest"]

Clip = TypeVar("Clip")


def write_manifest(path: str | os.PathLike[str], kind: str, records: Iterable[dict[str, Any]]) -> None:
    """Write records, each with the ``path`` of its video, whole or not at all; ``kind`` names their form."""
    file = Path(path)
    clips = [{**r, "path": Path(os.path.relpath(r["path"], file.parent)).as_posix()} for r in records]
    with replacing(file) as temporary:
        temporary.write_text(json.dumps({"format": kind, "clips": clips}, indent=1), encoding="utf-8")


def read_manifest(
    path: str | os.PathLike[str], kind: str, what: str, clip: Callable[[dict[str, Any]], Clip]
) -> list[Clip]:
    """Read what :func:`write_manifest` wrote: ``clip`` of every record, with a path that opens from here."""
    file = Path(path)
    text = file.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        if content["format"] != kind:
            raise ValueError(f"its format is {content['format']!r}, this version reads {kind!r}")
        return [clip({**r, "path": str(file.parent / r["path"])}) for r in content["clips"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a manifest of {what}: {error}") from error
