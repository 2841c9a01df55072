"""A table in one process: killed, starved, resumed, limited, with broken clips, from saved maps."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from suite_runs import by_key, errors, figures, lines, wait_for_lines

CELLS = 8  # six methods, chance and centre
CLIPS = 6


def broken(reference, tmp_path, *numbers: int) -> Path:
    """A copy of the prepared clips and models in which some test clips end in the middle."""
    prepared = tmp_path / "prepared"
    shutil.copytree(reference.prepared, prepared)
    for number in numbers:
        (file,) = prepared.glob(f"*/test_{number:05d}.mp4")
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    return prepared


def mended(reference, prepared: Path) -> None:
    shutil.rmtree(prepared)
    shutil.copytree(reference.prepared, prepared)


def test_a_run_writes_every_cell_of_every_clip_once(reference):
    found = lines(reference.output)
    assert len(found) == len(by_key(found)) == CLIPS * CELLS
    assert {p.name for p in reference.output.iterdir()} == {
        *("run.json", "results-0000.jsonl", "tables.jsonl", "tables.md", "table1.png"),
        *("figures.json", "report.html"),
    }
    assert "EB-R Table 1: pointing in space" in reference.ran.out
    assert "6 clips" in reference.ran.out


def test_lightning_says_nothing_that_means_nothing(reference):
    for noise in ("Tip:", "LeafSpec", "returned None", "workers", "TPU"):
        assert noise not in reference.ran.err, noise


def test_the_facts_of_a_run_name_seed_versions_load_and_command(reference):
    facts = json.loads((reference.output / "tables.jsonl").read_text().splitlines()[0])
    assert facts["seed"] == 3
    assert facts["clips"] == CLIPS
    assert facts["threads"] == 1
    assert facts["skipped"] == {}
    assert {"command", "torch", "captum", "load_1_minute", "precision", "group"} <= facts.keys()


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        if self.tags and self.tags[-1] in ("td", "th"):
            self.cells.append(data)


def test_the_report_of_a_run_holds_its_table_and_how_it_was_made(reference):
    page = _Page()
    page.feed((reference.output / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("table") == 2
    assert {"EB-R", "cEB-R", "random point (exact)", "oracle", "seed", "command"} <= set(page.cells)


def test_two_runs_with_one_seed_print_the_same_numbers(reference, table1, tmp_path):
    ran = table1(tmp_path / "again", prepared=tmp_path / "prepared").ended()
    assert ran.code == 0

    def numbers(out: str) -> list[str]:
        return [line for line in out.splitlines() if not line.startswith(("Done in", "picture: "))]

    assert numbers(ran.out) == numbers(reference.ran.out)
    assert lines(tmp_path / "again") == lines(reference.output)


def test_killed_again_and_again_at_random_points_a_run_loses_nothing_and_counts_nothing_twice(
    reference, table1, tmp_path
):
    output = tmp_path / "killed"
    generator = random.Random(5)
    kills, written = 0, 0
    while written < CLIPS * CELLS - 4:
        running = table1(output, *(["--resume"] if kills else []))
        wait_for_lines(output, min(written + generator.randint(1, 14), CLIPS * CELLS - 2))
        os.kill(running.process.pid, signal.SIGKILL)
        assert running.ended().code == -signal.SIGKILL
        kills += 1
        with (output / "results-0000.jsonl").open("ab") as file:  # as if killed in the middle of a line
            file.write(b'{"clip": "test_0000'[: generator.randint(0, 19)])
        written = len(lines(output))
    assert kills >= 3
    ran = table1(output, "--resume").ended()
    assert ran.code == 0
    assert len(lines(output)) == CLIPS * CELLS
    assert by_key(lines(output)) == by_key(lines(reference.output))
    assert figures(output) == figures(reference.output)


def test_sigterm_ends_a_run_at_once(table1, tmp_path):
    """Lightning alone would take note of it and go on to the end."""
    running = table1(tmp_path / "run")
    wait_for_lines(tmp_path / "run", 1)
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.ended().code == -signal.SIGTERM
    assert not (tmp_path / "run" / "tables.jsonl").exists()


def test_a_finished_run_resumed_does_nothing_and_says_the_same(reference, table1, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(reference.output, output)
    ran = table1(output, "--resume").ended()
    assert ran.code == 0
    assert figures(output) == figures(reference.output)
    assert len(lines(output)) == CLIPS * CELLS


def test_a_limited_run_goes_on_with_more_clips(reference, table1, tmp_path):
    output = tmp_path / "run"
    assert table1(output, "--limit", "3").ended().code == 0
    assert {clip for clip, _ in by_key(lines(output))} == {f"test_{n:05d}" for n in range(3)}
    assert "3 clips" in (output / "tables.md").read_text()
    assert table1(output, "--resume").ended().code == 0
    assert len(lines(output)) == CLIPS * CELLS
    assert figures(output) == figures(reference.output)
    ran = table1(output, "--limit", "2", "--resume").ended()
    assert ran.code == 0
    assert "32 frames with a box in 2 clips" in ran.out


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_clip_ends_a_run_with_its_name_and_the_reason(reference, table1, tmp_path, workers):
    prepared = broken(reference, tmp_path, 3)
    ran = table1(tmp_path / "run", "--workers", workers, prepared=prepared).ended()
    assert ran.code == 1
    (error,) = errors(ran.err)
    assert "clip 'test_00003' cannot be read: VideoReadError" in error
    assert "test_00003.mp4" in error
    assert "--on-error skip" in error
    assert len(lines(tmp_path / "run")) == 2 * CELLS
    mended(reference, prepared)
    ran = table1(tmp_path / "run", "--resume", prepared=prepared).ended()
    assert ran.code == 0
    assert figures(tmp_path / "run") == figures(reference.output)


def test_a_broken_clip_can_be_skipped_is_reported_and_counted_once_it_is_mended(reference, table1, tmp_path):
    output, prepared = tmp_path / "run", broken(reference, tmp_path, 2, 3, 5)  # a whole group, and a half
    ran = table1(output, "--on-error", "skip", prepared=prepared).ended()
    assert ran.code == 0
    assert ran.out.count("skipped: test_0000") == 3
    assert "skipped: test_00005: VideoReadError" in ran.out
    facts = json.loads((output / "tables.jsonl").read_text().splitlines()[0])
    assert sorted(facts["skipped"]) == ["test_00002", "test_00003", "test_00005"]
    assert facts["clips"] == 3
    assert "test_00005" in (output / "report.html").read_text()
    expected = {
        key: value
        for key, value in by_key(lines(reference.output)).items()
        if key[0] in ("test_00000", "test_00001", "test_00004")
    }
    assert by_key(lines(output)) == expected

    mended(reference, prepared)
    ran = table1(output, "--resume", prepared=prepared).ended()
    assert ran.code == 0
    assert "skipped" not in ran.out
    assert len(lines(output)) == CLIPS * CELLS
    assert figures(output) == figures(reference.output)


def test_a_run_without_any_readable_clip_is_an_error(reference, table1, tmp_path):
    prepared = broken(reference, tmp_path, *range(CLIPS))
    ran = table1(tmp_path / "run", "--on-error", "skip", prepared=prepared).ended()
    assert ran.code == 1
    (error,) = errors(ran.err)
    assert "none of the 6 clips can be read" in error


def test_a_clip_that_breaks_between_its_cells_counts_nowhere(reference, table1, tmp_path):
    """Killed between two methods and broken when resumed, it would count in some rows only."""
    output, prepared = tmp_path / "run", broken(reference, tmp_path, 0)
    output.mkdir()
    shutil.copy(reference.output / "run.json", output)
    whole = (reference.output / "results-0000.jsonl").read_bytes().splitlines(keepends=True)
    (output / "results-0000.jsonl").write_bytes(b"".join(whole[:7]))
    ran = table1(output, "--resume", "--on-error", "skip", prepared=prepared).ended()
    assert ran.code == 0
    cells = [record for record in figures(output) if "n" in record and record["method"] != "oracle"]
    assert {record["n"] for record in cells} == {5}


@pytest.mark.parametrize("room", [2_500, 20_000, 40_000])
def test_a_full_disk_is_a_clear_error_and_resumed_the_run_completes(reference, table1, tmp_path, room):
    """First the results do not fit, then the maps, then the report."""
    output, maps = tmp_path / "run", tmp_path / "maps"
    ran = table1(output, "--save-maps", maps, file_limit=room).ended()
    assert ran.code == 1
    (error,) = errors(ran.err)
    assert "--resume" in error or "report.html" in error or "File too large" in error
    earlier = (output / "results-0000.jsonl").read_bytes()
    assert 0 < len(earlier) <= room
    assert earlier.endswith(b"\n")
    assert not list(maps.glob(".*"))
    ran = table1(output, "--save-maps", maps, "--resume").ended()
    assert ran.code == 0
    assert (output / "results-0000.jsonl").read_bytes().startswith(earlier)
    assert figures(output) == figures(reference.output)
    assert len(list(maps.glob("*.safetensors"))) == CLIPS


def test_an_output_that_cannot_be_written_is_one_line(table1, tmp_path):
    (tmp_path / "file").write_text("")
    ran = table1(tmp_path / "file" / "run").ended()
    assert ran.code == 1
    assert len(errors(ran.err)) == 1
    assert "cannot hold results" in ran.err


@pytest.mark.parametrize(
    "option", [("--strategy", "none_such"), ("--devices", "0"), ("--strategy", "ddp_spawn")]
)
def test_options_that_cannot_work_are_one_line(table1, tmp_path, option):
    ran = table1(tmp_path / "run", *option).ended()
    assert ran.code == 1
    (error,) = errors(ran.err)
    assert "Lightning's Trainer refuses its options" in error or "use ddp" in error


def test_another_run_is_refused_in_one_line(reference, table1, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(reference.output, output)
    for more, expected in (
        ([], "give --resume"),
        (["--resume", "--group", "3"], "group: 2, now 3"),
        (["--resume", "--seed", "5"], "seed: 3, now 5"),
        (["--resume", "--precision", "bf16-mixed"], "precision: '32-true', now 'bf16-mixed'"),
    ):
        ran = table1(output, *more).ended()
        assert ran.code == 1
        (error,) = errors(ran.err)
        assert expected in error
    assert lines(output) == lines(reference.output)


def test_saved_maps_give_the_same_figures_without_a_model(reference, table1, tmp_path):
    output, prepared = tmp_path / "run", tmp_path / "prepared"
    shutil.copytree(reference.prepared, prepared, ignore=shutil.ignore_patterns("cnn-lstm-*"))
    ran = table1(output, "--from-maps", reference.maps, prepared=prepared).ended()
    assert ran.code == 0
    assert not list(prepared.glob("cnn-lstm-*"))
    assert by_key(lines(output)) == by_key(lines(reference.output))
    assert figures(output) == figures(reference.output)


def test_maps_that_are_not_there_are_one_line(reference, table1, tmp_path):
    ran = table1(tmp_path / "a", "--from-maps", tmp_path / "none").ended()
    assert ran.code == 1
    assert "there are no saved maps (*.safetensors)" in errors(ran.err)[0]
    maps = tmp_path / "maps"
    shutil.copytree(reference.maps, maps)
    (maps / "test_00004.safetensors").unlink()
    ran = table1(tmp_path / "b", "--from-maps", maps).ended()
    assert ran.code == 1
    assert "there are no maps of clip 'test_00004'" in errors(ran.err)[0]
