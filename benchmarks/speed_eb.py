"""What Excitation Backprop costs beside a plain gradient.

Every round runs all variants of one model in turn, so that a busy machine slows them alike; the figure is the
median over rounds of the ratio to that round's forward and input-gradient backward pass. CPU time is used on
the CPU (it leaves out waiting for other jobs), wall-clock time between synchronisations on a GPU. Memory is
the peak with model and input but without imported libraries, as a ratio to that of the plain pass.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from tqdm import tqdm

from benchmarks.environment import environment
from benchmarks.memory import peak_of_process, peak_on_gpu
from benchmarks.timing import input_gradient, now
from captum_ext.attr import ExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.models import VGGLSTM

__all__ = ["add_arguments", "run"]

_PLAIN = "forward + backward"


@dataclass(frozen=True)
class Subject:
    """A model, its input, and the calls that are timed on it."""

    name: str
    calls: dict[str, Callable[[], object]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds per model, after one warm-up")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to run"
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; more make CPU time count waiting at barriers"
    )
    parser.add_argument("--frames", type=int, nargs="*", default=[16, 64], help="clip lengths of VGGLSTM")
    parser.add_argument("--size", type=int, default=224, help="frame size of VGGLSTM")
    parser.add_argument("--only", nargs="*", help="models to time: vgg16, resnet50, r3d_18, vgg_lstm_16, ...")


def run(arguments: argparse.Namespace) -> None:
    """Time every subject and write the ratios."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    rows = []
    names = ["vgg16", "resnet50", "r3d_18", *(f"vgg_lstm_{n}" for n in arguments.frames)]
    if set(arguments.only or ()) - set(names) or arguments.rounds < 1:
        raise SystemExit(f"--only takes {', '.join(names)}, --rounds a number from 1")
    for name in arguments.only or names:
        subject = _subject(name, arguments.size, arguments.device)
        timed = _time(subject, arguments.rounds, arguments.device)
        memory = _memory(subject, name, arguments.size, arguments.device)
        rows += [{**row, **memory[str(row["call"])]} for row in timed]
        del subject
    header = f"{'model':24s}{'call':20s}{'seconds':>9s}{'ratio':>8s}{'quartiles':>14s}{'MB':>8s}{'ratio':>8s}"
    lines = [header, "-" * len(header)]
    for row in rows:
        quartiles = f"{row['ratio_low']:.2f} - {row['ratio_high']:.2f}"
        lines.append(
            f"{row['model']:24s}{row['call']:20s}{row['seconds']:9.3f}{row['ratio']:8.2f}{quartiles:>14s}"
            f"{row['megabytes']:8.0f}{row['memory_ratio']:8.2f}"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    path = arguments.output / "speed_eb.jsonl"
    records = [{**row, **environment()} for row in rows]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    sys.stdout.write(f"written to {path}\n")


def _subject(name: str, size: int, device: str) -> Subject:
    """A model by name; ``vgg_lstm_16`` is the one for 16 frames of ``size`` pixels."""
    torch.manual_seed(0)
    if name.startswith("vgg_lstm_"):
        return _vgg_lstm(int(name.removeprefix("vgg_lstm_")), size, device)
    shape = (1, 3, 16, 112, 112) if name == "r3d_18" else (1, 3, 224, 224)
    model = torchvision.models.get_model(name, weights=None).eval().to(device)
    x = torch.randn(shape, device=device)
    explainer = ExcitationBackprop(model)
    return Subject(
        f"{name} {'x'.join(map(str, shape))}",
        {
            _PLAIN: lambda: input_gradient(model, x, 1),
            "EB": lambda: explainer.attribute(x, target=1),
            "cEB": lambda: explainer.attribute(x, target=1, contrastive=True),
        },
    )


def _vgg_lstm(n_frames: int, size: int, device: str) -> Subject:
    model = VGGLSTM(101, output="steps", activation="tanh").eval().to(device)
    x = torch.randn(1, 3, n_frames, size, size, device=device)
    target = (n_frames - 1, 1)
    # The first convolution, so that the way down is as long as the gradient's.
    explainer = RecurrentExcitationBackprop(model, "features.0")
    return Subject(
        f"VGGLSTM, {n_frames} x {size}x{size}",
        {
            _PLAIN: lambda: input_gradient(model, x, target),
            "EB-R": lambda: explainer.attribute(x, target=target),
            "cEB-R": lambda: explainer.attribute(x, target=target, contrastive=True),
        },
    )


def _time(subject: Subject, rounds: int, device: str) -> list[dict[str, float | str]]:
    seconds: dict[str, list[float]] = {call: [] for call in subject.calls}
    for index in tqdm(range(rounds + 1), desc=subject.name, file=sys.stderr):
        for call, function in subject.calls.items():
            start = now(device)
            function()
            elapsed = now(device) - start
            if index > 0:
                seconds[call].append(elapsed)
    base = seconds[_PLAIN]
    rows: list[dict[str, float | str]] = []
    for call, measured in seconds.items():
        ratios = sorted(m / b for m, b in zip(measured, base, strict=True))
        rows.append(
            {
                "model": subject.name,
                "call": call,
                "seconds": statistics.median(measured),
                "ratio": statistics.median(ratios),
                "ratio_low": ratios[len(ratios) // 4],
                "ratio_high": ratios[-1 - len(ratios) // 4],
                "rounds": rounds,
            }
        )
    return rows


def _memory(subject: Subject, name: str, size: int, device: str) -> dict[str, dict[str, float]]:
    """Peak memory of every call, and its ratio to that of the plain pass."""
    if device.startswith("cuda"):
        peaks = {call: peak_on_gpu(function) for call, function in subject.calls.items()}
    else:
        peaks = {call: peak_of_process(_call_once, name, size, call) for call in subject.calls}
    return {call: {"megabytes": p, "memory_ratio": p / peaks[_PLAIN]} for call, p in peaks.items()}


def _call_once(name: str, size: int, call: str) -> None:
    torch.set_num_threads(1)
    _subject(name, size, "cpu").calls[call]()
