"""The comparison of recurrences runs and writes its figures; a tiny run, so they mean nothing."""

import json

from benchmarks.__main__ import main


def test_the_comparison_writes_a_table_and_the_profiles(tmp_path, capsys):
    options = ["--clips", "6", "--steps", "2", "--held-out", "4", "--frames", "3"]
    assert main(["run", "recurrences", "--output", str(tmp_path), *options]) == 0
    facts, *records = (json.loads(line) for line in (tmp_path / "recurrences.jsonl").read_text().splitlines())
    assert "command" in facts
    assert [(r["model"], r["method"]) for r in records] == [
        (model, method) for model in ("tanh LSTM", "ReLU LSTM") for method in ("EB-R", "cEB-R")
    ]
    assert all(len(r["value"]) == len(r["published"]) == 6 for r in records)
    assert capsys.readouterr().out == (tmp_path / "recurrences.md").read_text()
