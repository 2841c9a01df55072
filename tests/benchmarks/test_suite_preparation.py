"""Clips and models that are made once: killed half-way, by two at once, with other settings."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks.suite.errors import RunError
from benchmarks.suite.preparation import is_rank_zero, prepared

SETTINGS = {"seed": 0, "train": 2}


def build(folder: Path) -> None:
    (folder / "clips").mkdir()
    (folder / "clips" / "list.json").write_text("[]")


def test_what_is_prepared_is_not_prepared_again(tmp_path):
    folder = prepared(tmp_path, "actions", SETTINGS, build)
    assert (folder / "clips" / "list.json").read_text() == "[]"

    def fails(folder: Path) -> None:
        raise AssertionError("prepared twice")

    assert prepared(tmp_path, "actions", dict(reversed(SETTINGS.items())), fails) == folder
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("name", "settings"), [("models", SETTINGS), ("actions", SETTINGS | {"seed": 1}), ("actions", {})]
)
def test_another_name_or_other_settings_give_another_folder(tmp_path, name, settings):
    folder = prepared(tmp_path, "actions", SETTINGS, build)
    assert prepared(tmp_path, name, settings, build) != folder
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError, FileExistsError])
def test_a_preparation_that_fails_leaves_nothing(tmp_path, error):
    def fails(folder: Path) -> None:
        build(folder)
        raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        prepared(tmp_path, "actions", SETTINGS, fails)
    (failure,) = tmp_path.iterdir()
    assert failure.read_text() == f"{error.__name__}: in the middle"
    folder = prepared(tmp_path, "actions", SETTINGS, build)
    assert list(tmp_path.iterdir()) == [folder]


def _build_forever(root: Path) -> None:
    def forever(folder: Path) -> None:
        build(folder)
        time.sleep(600)

    prepared(root, "actions", SETTINGS, forever)


def test_a_preparation_that_is_killed_leaves_nothing_that_looks_finished(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_build_forever, args=(tmp_path,))
    process.start()
    while not list(tmp_path.glob(".*/clips/list.json")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list(tmp_path.glob("[!.]*"))
    folder = prepared(tmp_path, "actions", SETTINGS, build)
    assert (folder / "clips" / "list.json").exists()


def _build_slowly(root: Path, number: int, both: multiprocessing.Barrier) -> None:
    def slowly(folder: Path) -> None:
        build(folder)
        both.wait(30)  # neither is finished before the other has begun
        (folder / "who").write_text(str(number))

    assert (prepared(root, "actions", SETTINGS, slowly) / "who").exists()


def test_two_processes_at_once_get_one_whole_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    both = context.Barrier(2)
    processes = [context.Process(target=_build_slowly, args=(tmp_path, n, both)) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (folder,) = tmp_path.iterdir()
    assert (folder / "who").read_text() in ("0", "1")
    assert (folder / "clips" / "list.json").exists()


def _wait_for_folder(root: Path) -> None:
    os.environ["LOCAL_RANK"] = "1"
    assert not is_rank_zero()

    def fails(folder: Path) -> None:
        raise AssertionError("the second process prepares")

    assert prepared(root, "actions", SETTINGS, fails).exists()


def test_other_processes_wait_for_the_first(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_wait_for_folder, args=(tmp_path,))
    process.start()
    time.sleep(0.3)
    assert process.is_alive()
    assert is_rank_zero()
    prepared(tmp_path, "actions", SETTINGS, build)
    process.join(10)
    assert process.exitcode == 0


def test_other_processes_end_when_the_first_cannot_prepare(tmp_path, monkeypatch):
    def fails(folder: Path) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        prepared(tmp_path, "actions", SETTINGS, fails)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("benchmarks.suite.preparation._PATIENCE_S", 0.1)
    with pytest.raises(RunError, match=r"the first process could not prepare .*: OSError: the disk is full"):
        prepared(tmp_path, "actions", SETTINGS, fails)


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK"])
def test_every_launcher_is_asked_which_process_this_is(monkeypatch, name):
    monkeypatch.setenv(name, "0")
    assert is_rank_zero()
    monkeypatch.setenv(name, "2")
    assert not is_rank_zero()
