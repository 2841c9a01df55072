"""A table in two processes: who does what, and what happens to one when the other is killed or fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from suite_runs import (
    DDP,
    ROOT,
    TINY,
    by_key,
    command,
    errors,
    figures,
    lines,
    run_command,
    wait_for_lines,
    waiting,
)

CELLS = 8


def arguments(reference, output: Path, *more: str | Path) -> list[str | Path]:
    return ["run", "ebr_table1", "--output", output, "--prepared", reference.prepared, *TINY, *DDP, *more]


def clips_by_process(output: Path) -> list[set[str]]:
    return [
        {line.split(b'"')[3].decode() for line in file.read_bytes().splitlines()}
        for file in sorted(output.glob("results-*.jsonl"))
    ]


def test_two_processes_share_three_groups_and_find_exactly_what_one_finds(reference, tmp_path):
    ran = run_command(*arguments(reference, tmp_path / "run"))
    assert ran.code == 0, ran.err
    first, second = clips_by_process(tmp_path / "run")
    assert first == {f"test_{n:05d}" for n in (0, 1, 4, 5)}
    assert second == {f"test_{n:05d}" for n in (2, 3)}
    found = lines(tmp_path / "run")
    assert len(found) == 6 * CELLS
    assert by_key(found) == by_key(lines(reference.output))
    assert figures(tmp_path / "run") == figures(reference.output)
    assert ran.out.count("EB-R Table 1") == 1
    for noise in ("Tip:", "LeafSpec", "returned None", "Traceback"):
        assert noise not in ran.err


def test_with_fewer_groups_than_processes_and_earlier_results_one_process_has_nothing_to_do(
    reference, table1, tmp_path
):
    output = tmp_path / "run"
    assert table1(output, "--limit", "4").ended().code == 0
    ran = run_command(*arguments(reference, output, "--resume"))
    assert ran.code == 0, ran.err
    assert "zero length" not in ran.err
    (only,) = clips_by_process(output)
    assert len(only) == 6
    assert by_key(lines(output)) == by_key(lines(reference.output))
    assert figures(output) == figures(reference.output)


def test_a_broken_clip_of_the_second_process_ends_both_with_one_line(reference, table1, tmp_path):
    output, prepared = tmp_path / "run", tmp_path / "prepared"
    shutil.copytree(reference.prepared, prepared)
    for file in prepared.glob("*/test_00002.mp4"):  # other tests may have prepared clips of other settings
        file.write_bytes(file.read_bytes()[:999])
    ran = run_command(*arguments(reference, output, "--prepared", prepared, "--workers", "1"))
    assert ran.code == 1
    (error,) = errors(ran.err)
    assert "clip 'test_00002' cannot be read" in error
    assert not (output / "tables.jsonl").exists()
    shutil.rmtree(prepared)
    assert table1(output, "--resume").ended().code == 0
    assert by_key(lines(output)) == by_key(lines(reference.output))


def children(pid: int) -> list[int]:
    """Lightning's other processes; they are children of the first."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found through /proc")
def test_with_the_first_process_the_second_dies_and_the_resumed_run_is_complete(reference, table1, tmp_path):
    output = tmp_path / "run"
    with (tmp_path / "said").open("w") as log:
        first = subprocess.Popen(command(*arguments(reference, output)), cwd=ROOT, stdout=log, stderr=log)
        wait_for_lines(output, 5)
        (second,) = children(first.pid)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with waiting(10):
            while alive(second):
                time.sleep(0.05)
    assert len(lines(output)) < 6 * CELLS
    ran = table1(output, "--resume").ended()
    assert ran.code == 0
    assert len(lines(output)) == 6 * CELLS
    assert by_key(lines(output)) == by_key(lines(reference.output))
    assert figures(output) == figures(reference.output)
