"""Tables in the docs are those of the committed results files."""

import json
from pathlib import Path

import pytest

from benchmarks.registry import BENCHMARKS
from benchmarks.tables import Table

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.jsonl"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_a_table_of_the_docs_is_that_of_its_results_file(file):
    facts, *records = (json.loads(line) for line in file.read_text().splitlines())
    assert facts["benchmark"] == file.stem
    assert file.stem in BENCHMARKS
    assert facts["command"].startswith(f"python -m benchmarks run {file.stem}")
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    table = Table.read(records)[0]
    for line in table.markdown().splitlines():
        if line.startswith("|"):
            assert line in pages


def test_the_headline_table_of_the_readme_is_that_of_its_results_file():
    _, *records = (
        json.loads(line) for line in (ROOT / "docs/results/ebr_table2.jsonl").read_text().splitlines()
    )
    cells = Table.read(records)[0].rows
    section = (ROOT / "README.md").read_text().partition("## Measured")[2].partition("## ")[0]
    header, _, *body = (
        line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")
    )
    assert len(body) == 6
    for method, *shown in body:
        found = [str(cells[method][column]) if column in cells[method] else "-" for column in header[1:]]
        assert shown == found
