"""What runs found, as Markdown, JSON lines and one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.suite.errors import RunError
from benchmarks.tables import Table
from captum_ext.visualization import Report

__all__ = ["save_report", "write_outcome"]

_TABLES, _FIGURES = "tables.jsonl", "figures.json"


def write_outcome(
    folder: Path, facts: Mapping[str, object], tables: Sequence[Table], figures: Mapping[Path, str]
) -> None:
    """Write ``tables.jsonl`` (facts, then tables), ``tables.md`` and the captions of the pictures."""
    records = [facts, *(record for table in tables for record in (table.header(), *table.records()))]
    lines = "".join(json.dumps(record, default=str) + "\n" for record in records)
    (folder / _TABLES).write_text(lines, encoding="utf-8")
    captions = {file.name: caption for file, caption in figures.items()}
    (folder / _FIGURES).write_text(json.dumps(captions, indent=1) + "\n", encoding="utf-8")
    text = [str(facts["about"]), "", f"`{facts['command']}`", "", *(table.markdown() for table in tables)]
    (folder / "tables.md").write_text("\n".join(text), encoding="utf-8")


def save_report(folders: Sequence[Path], path: Path) -> Path:
    """Collect runs in one HTML page that needs no other file.

    Args:
        folders (Sequence[Path]): outputs of runs.
        path (Path): the page.

    Raises:
        RunError: if a folder holds no finished run.
    """
    runs = [_records(folder) for folder in folders]
    report = Report(f"Benchmarks: {', '.join(str(facts['benchmark']) for facts, *_ in runs)}")
    for folder, (facts, *records) in zip(folders, runs, strict=True):
        report.add_text(f"{facts['about']}\n\n{facts['command']}", str(facts["benchmark"]))
        for table in Table.read(records):
            report.add_table(table.title, ["method", *table.columns], table.cells(), table.caption)
        captions = json.loads((folder / _FIGURES).read_text(encoding="utf-8"))
        for name, caption in captions.items():
            report.add_picture(str(facts["benchmark"]), folder / name, caption)
        rows = [[name, str(value)] for name, value in facts.items()]
        report.add_table(f"How {facts['benchmark']} was made", ["fact", "value"], rows)
    return report.save(path)


def _records(folder: Path) -> list[dict[str, object]]:
    file = folder / _TABLES
    if not file.exists():
        raise RunError(
            f"{folder} holds no finished run that can be reported: {file.name} is missing. Finish it with "
            "the same command and --resume; docs/benchmarks.md says which benchmarks can be reported."
        )
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}") from error
