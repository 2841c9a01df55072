"""The command line around the benchmarks: list, describe, report, and how errors are told."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

from benchmarks import registry
from benchmarks.__main__ import main
from benchmarks.registry import BENCHMARKS
from benchmarks.suite.errors import RunError
from benchmarks.suite.report import save_report, write_outcome
from benchmarks.tables import Cell, Table


def test_list_names_every_benchmark_with_a_line(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == list(BENCHMARKS)
    assert all(len(line.split()) > 3 for line in printed)


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_describe_says_what_every_benchmark_measures_and_its_options(capsys, name):
    assert main(["describe", name]) == 0
    printed = capsys.readouterr().out
    assert len(printed.split("usage:")[0].split()) > 5
    assert f"python -m benchmarks run {name}" in printed
    assert "--output" in printed


@pytest.mark.parametrize("command", ["run", "describe"])
def test_an_unknown_name_gives_the_list_and_code_2(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "ebr_table99"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "'ebr_table99'" in said
    assert all(name in said for name in BENCHMARKS)


@pytest.mark.parametrize(
    "option", [("--limit", "0"), ("--limit", "-1"), ("--group", "0"), ("--epochs", "x"), ("--workers", "-1")]
)
def test_numbers_that_make_no_sense_are_refused(capsys, option):
    with pytest.raises(SystemExit) as caught:
        main(["run", "ebr_table1", *option])
    assert caught.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_the_captioner_of_table_5_is_always_trained_so_a_checkpoint_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["run", "ebr_table5", "--checkpoint", "model.pt"])
    assert "unrecognized arguments: --checkpoint" in capsys.readouterr().err
    assert main(["describe", "ebr_table5"]) == 0
    assert "clips in all" in capsys.readouterr().out
    assert main(["describe", "ebr_table1"]) == 0
    assert "clips per class" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [RunError("the disk\nis full"), FileNotFoundError(2, "No such file", "a.mp4")]
)
def test_errors_of_a_run_are_one_line_and_code_1(capsys, monkeypatch, error):
    def run(self):
        def fails(arguments):
            raise error

        return fails

    monkeypatch.setattr(registry.Benchmark, "run", property(run))
    assert main(["run", "ebr_table1"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_errors_of_the_code_keep_their_traceback(monkeypatch):
    def run(self):
        def fails(arguments):
            raise KeyError("a mistake of ours")

        return fails

    monkeypatch.setattr(registry.Benchmark, "run", property(run))
    with pytest.raises(KeyError):
        main(["run", "ebr_table1"])


def outcome(folder, name, value):
    folder.mkdir()
    table = Table(f"Table of {name}", ["hits", "area"], "Of two clips.")
    table.add("EB", "hits", Cell.of(torch.tensor([value, 1.0])))
    table.add("EB-R", "area", Cell.exact(torch.tensor([0.5])))
    picture = folder / "curve <1>.png"
    Image.new("RGB", (3, 2)).save(picture)
    facts = {
        "benchmark": name,
        "about": "Toy clips <b>.",
        "command": "python -m benchmarks run toy",
        "seed": 7,
    }
    write_outcome(folder, facts, [table], {picture: "A curve."})
    return table


def test_report_collects_tables_pictures_and_facts_of_several_runs(tmp_path, capsys):
    tables = [outcome(tmp_path / name, name, value) for name, value in (("one", 0.25), ("two", 0.75))]
    page = tmp_path / "all.html"
    assert main(["report", str(tmp_path / "one"), str(tmp_path / "two"), "--output", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    html = page.read_text(encoding="utf-8")
    for table in tables:
        assert table.title in html
        for row in table.cells():
            assert all(cell in html for cell in row)
    assert html.count("data:image/png;base64,") == 2
    assert "Toy clips &lt;b&gt;." in html
    assert "<b>." not in html


def test_tables_come_back_as_they_were_written(tmp_path):
    table = outcome(tmp_path / "one", "one", 0.25)
    records = [json.loads(line) for line in (tmp_path / "one" / "tables.jsonl").read_text().splitlines()]
    (read,) = Table.read(records[1:])
    assert read.cells() == table.cells()
    assert read.markdown() == table.markdown()


def test_an_unfinished_run_has_no_report(tmp_path, capsys):
    outcome(tmp_path / "one", "one", 0.25)
    (tmp_path / "two").mkdir()
    page = tmp_path / "all.html"
    assert main(["report", str(tmp_path / "one"), str(tmp_path / "two"), "--output", str(page)]) == 1
    said = capsys.readouterr().err
    assert "two holds no finished run that can be reported: tables.jsonl is missing" in said
    assert not page.exists()
    (tmp_path / "two" / "tables.jsonl").write_text('{"torn')
    with pytest.raises(RunError, match="is damaged"):
        save_report([tmp_path / "two"], page)


def test_a_picture_that_was_removed_is_one_line(tmp_path, capsys):
    outcome(tmp_path / "one", "one", 0.25)
    (tmp_path / "one" / "curve <1>.png").unlink()
    assert main(["report", str(tmp_path / "one"), "--output", str(tmp_path / "x.html")]) == 1
    assert "curve <1>.png" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "one")
