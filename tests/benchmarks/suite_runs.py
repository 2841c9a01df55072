"""Runs of the benchmark suite in processes of their own, which can be killed and starved of disk."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TINY = (
    *("--train", "2", "--test", "1", "--epochs", "1", "--seed", "3"),
    *("--group", "2", "--workers", "0", "--threads", "1", "--accelerator", "cpu"),
)
"""Six clips in three groups; the figures mean nothing."""

DDP = ("--devices", "2", "--strategy", "ddp")

# The server imports torch and Lightning once; what it starts is a process like any other.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["benchmarks.ebr.table1"])


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class Running:
    """``python -m benchmarks`` with these arguments, at work."""

    def __init__(self, log: Path, arguments: Sequence[str | Path], file_limit: int | None = None) -> None:
        self.log = log
        log.mkdir(parents=True, exist_ok=True)
        self.process = _CONTEXT.Process(target=_main, args=(log, [str(a) for a in arguments], file_limit))
        self.process.start()

    def ended(self) -> Ran:
        self.process.join(120)
        assert self.process.exitcode is not None, "the run hangs"
        return Ran(self.process.exitcode, (self.log / "out").read_text(), (self.log / "err").read_text())


def _main(log: Path, arguments: list[str], file_limit: int | None) -> None:
    multiprocessing.set_start_method(None, force=True)  # its workers start as they would for a user
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        descriptor = os.open(log / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream.fileno())
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    from benchmarks.__main__ import main

    raise SystemExit(main(arguments))


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks", *map(str, arguments)]


def run_command(*arguments: str | Path) -> Ran:
    """A process of its own from the start, as Lightning's launcher needs it."""
    done = subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def lines(folder: Path) -> list[dict[str, object]]:
    """Every finished line of the results, without the time it took."""
    found = []
    for file in sorted(folder.glob("results-*.jsonl")):
        for line in file.read_bytes().split(b"\n")[:-1]:
            record = json.loads(line)
            del record["seconds"]
            found.append(record)
    return found


def figures(folder: Path) -> list[dict[str, object]]:
    """Tables and cells as they were written down, without the facts of the run."""
    return [json.loads(line) for line in (folder / "tables.jsonl").read_text().splitlines()[1:]]


def by_key(records: Sequence[dict[str, object]]) -> dict[tuple[object, object], object]:
    return {(r["clip"], r["cell"]): r["values"] for r in records}


def errors(text: str) -> list[str]:
    """What the user is told of an error; nothing else may look like one."""
    assert "Traceback" not in text, text
    return [line for line in text.splitlines() if line.startswith("error: ")]


@contextlib.contextmanager
def waiting(seconds: float = 120.0) -> Iterator[None]:
    """Time limit of a loop that polls."""

    def late(*_: object) -> None:
        raise TimeoutError("nothing happened")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def wait_for_lines(folder: Path, n: int) -> None:
    """Until there are ``n`` finished lines."""
    with waiting():
        while sum(file.read_bytes().count(b"\n") for file in folder.glob("results-*.jsonl")) < n:
            time.sleep(0.002)
