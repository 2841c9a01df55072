"""A tiny run of a table from beginning to end, with its clips, models and maps, for all tests to share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from suite_runs import TINY, Ran, Running


class Reference(NamedTuple):
    prepared: Path
    output: Path
    maps: Path
    ran: Ran


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    root = tmp_path_factory.mktemp("reference")
    prepared, output, maps = root / "prepared", root / "output", root / "maps"
    ran = Running(
        root / "log",
        ["run", "ebr_table1", "--output", output, "--prepared", prepared, "--save-maps", maps, *TINY],
    ).ended()
    assert ran.code == 0, ran.err
    return Reference(prepared, output, maps, ran)


@pytest.fixture
def table1(reference: Reference, tmp_path: Path) -> Callable[..., Running]:
    """Starts the same run with another output."""

    def start(
        output: Path, *more: str | Path, prepared: Path = reference.prepared, file_limit: int | None = None
    ) -> Running:
        arguments = ["run", "ebr_table1", "--output", output, "--prepared", prepared, *TINY, *more]
        return Running(tmp_path / "log", arguments, file_limit)

    return start
