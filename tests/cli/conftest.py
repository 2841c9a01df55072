"""A small clip, a checkpoint of a small model, and the command line run in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from captum_ext.cli import main
from captum_ext.data import IMAGENET, ClipTransform, generate_actions
from captum_ext.models import FrameCNNLSTM, save_checkpoint

LABELS = ("disc left-right", "disc up-down", "square left-right", "square up-down")


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clips")
    return generate_actions(folder, 1, shapes=("disc",), n_frames=12, fps=6.0)[0].path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("checkpoints") / "actions.pt"
    torch.manual_seed(0)
    arguments = {"num_classes": 4, "hidden_size": 8}
    save_checkpoint(
        path,
        FrameCNNLSTM(**arguments),
        arguments=arguments,
        labels=LABELS,
        transform=ClipTransform(64, *IMAGENET),
    )
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def run(*arguments: str | Path) -> Ran:
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return run
