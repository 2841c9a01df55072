"""What an iteration of training with Excitation Dropout costs beside one with nn.Dropout.

One model and one optimiser per subject; every round runs an iteration of each variant in turn, in an order
that turns with the rounds, so that a busy machine slows them alike. The figure is the median over rounds of
the ratio to that round's iteration with nn.Dropout. An iteration is the forward and the backward pass and
the step of the optimiser. CPU time is used on the CPU (it leaves out waiting for other jobs), wall-clock
time between synchronisations on a GPU, where an iteration is first run with every wait for the device made
an error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.environment import environment
from benchmarks.timing import now
from captum_ext.dropout import Attachment, attach
from captum_ext.models import CNN2

__all__ = ["add_arguments", "run"]

_BASE = "nn.Dropout"
_WARM_UP = 2


@dataclass(frozen=True)
class Subject:
    """A network and its batch.

    Args:
        model (nn.Module): the network.
        layer (str): its dropout layer, behind the first linear layer.
        head (list[str]): what lies above it.
        batch (tuple[Tensor, Tensor]): images and labels.
    """

    model: nn.Module
    layer: str
    head: list[str]
    batch: tuple[Tensor, Tensor]


def _cnn2(batch_size: int, device: str) -> Subject:
    model = CNN2(num_classes=10).to(device)
    return Subject(model, "dropout1", ["fc2", "relu2", "classifier"], _batch(batch_size, 32, 10, device))


def _vgg16(batch_size: int, device: str) -> Subject:
    model = torchvision.models.vgg16(weights=None).to(device)
    head = [f"classifier.{index}" for index in range(3, 7)]
    return Subject(model, "classifier.2", head, _batch(batch_size, 224, 101, device))


def _batch(n: int, size: int, n_classes: int, device: str) -> tuple[Tensor, Tensor]:
    images = torch.randn(n, 3, size, size, device=device)
    return images, torch.randint(n_classes, (n,), device=device)


_SUBJECTS: dict[str, Callable[[int, str], Subject]] = {"cnn2": _cnn2, "vgg16": _vgg16}
_CPU_BATCHES = {"cnn2": 50, "vgg16": 4}
_GPU_BATCHES = {"cnn2": 50, "vgg16": 50}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=15, help=f"timed rounds, after {_WARM_UP} to warm up")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to run"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; more make CPU time count waiting at barriers"
    )
    parser.add_argument("--batch-size", type=int, help="images; default: 50, and 4 for VGG16 on the CPU")
    parser.add_argument("--only", nargs="*", choices=list(_SUBJECTS), default=list(_SUBJECTS))


def run(arguments: argparse.Namespace) -> None:
    """Time every subject and write the ratios."""
    if arguments.rounds < 1:
        raise SystemExit("--rounds takes a number from 1")
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    device: str = arguments.device
    on_gpu = device.startswith("cuda")
    rows = []
    for name in arguments.only:
        torch.manual_seed(0)
        batch_size = arguments.batch_size or (_GPU_BATCHES if on_gpu else _CPU_BATCHES)[name]
        subject = _SUBJECTS[name](batch_size, device)
        rows += _time(f"{name}, batch {batch_size}", subject, arguments.rounds, device)
        del subject
    header = f"{'model':24s}{'dropout':28s}{'seconds':>10s}{'ratio':>8s}{'quartiles':>16s}"
    lines = [header, "-" * len(header)]
    for row in rows:
        quartiles = f"{row['ratio_low']:.3f} - {row['ratio_high']:.3f}"
        lines.append(
            f"{row['model']:24s}{row['dropout']:28s}{row['seconds']:10.4f}{row['ratio']:8.3f}{quartiles:>16s}"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    path = arguments.output / "speed_dropout.jsonl"
    path.write_text("".join(json.dumps({**row, **environment()}) + "\n" for row in rows))
    sys.stdout.write(f"written to {path}\n")


def _time(title: str, subject: Subject, rounds: int, device: str) -> list[dict[str, float | str]]:
    optimizer = torch.optim.SGD(subject.model.parameters(), lr=1e-3, momentum=0.9)
    # Attaching is not timed: it happens once in a training.
    variants: dict[str, Callable[[], Attachment | None]] = {
        _BASE: lambda: None,
        "nn.Dropout again": lambda: None,
        "Excitation Dropout": lambda: attach(subject.model, subject.layer),
        "Excitation Dropout, head=": lambda: attach(subject.model, subject.layer, head=subject.head),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for index in tqdm(range(_WARM_UP + rounds), desc=title, file=sys.stderr):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            attachment = variants[name]()
            with attachment or nullcontext():
                if index == _WARM_UP - 1 and device.startswith("cuda"):
                    _without_waiting(subject, optimizer, attachment)
                start = now(device)
                _iterate(subject, optimizer, attachment)
                elapsed = now(device) - start
            if index >= _WARM_UP:
                seconds[name].append(elapsed)
    rows: list[dict[str, float | str]] = []
    for name, measured in seconds.items():
        ratios = sorted(m / b for m, b in zip(measured, seconds[_BASE], strict=True))
        rows.append(
            {
                "model": title,
                "dropout": name,
                "seconds": statistics.median(measured),
                "ratio": statistics.median(ratios),
                "ratio_low": ratios[len(ratios) // 4],
                "ratio_high": ratios[-1 - len(ratios) // 4],
                "rounds": rounds,
            }
        )
    return rows


def _iterate(subject: Subject, optimizer: torch.optim.Optimizer, attachment: Attachment | None) -> None:
    images, labels = subject.batch
    if attachment is not None:
        attachment.arm(labels)
    optimizer.zero_grad()
    F.cross_entropy(subject.model(images), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _without_waiting(
    subject: Subject, optimizer: torch.optim.Optimizer, attachment: Attachment | None
) -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        _iterate(subject, optimizer, attachment)
    finally:
        torch.cuda.set_sync_debug_mode("default")
