"""What Excitation Backprop costs beside a plain gradient.

Every round runs all variants of one model in turn, so that a busy machine slows them alike; the figure is the
median over rounds of the ratio to that round's forward and input-gradient backward pass. CPU time is used on
the CPU (it leaves out waiting for other jobs), wall-clock time between synchronisations on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.environment import environment
from captum_ext.attr import ExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.models import VGGLSTM

__all__ = ["add_arguments", "run"]


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
    parser.add_argument("--frames", type=int, nargs="*", default=[16], help="clip lengths of VGGLSTM")
    parser.add_argument("--only", nargs="*", help="models to time: vgg16, resnet50, r3d_18, vgg_lstm_16, ...")


def run(arguments: argparse.Namespace) -> None:
    """Time every subject and write the ratios."""
    torch.manual_seed(0)
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    makers = _makers(arguments.frames)
    if set(arguments.only or ()) - makers.keys() or arguments.rounds < 1:
        raise SystemExit(f"--only takes {', '.join(makers)}, --rounds a number from 1")
    for name in arguments.only or makers:
        subject = makers[name](torch.device(arguments.device))
        rows += _time(subject, arguments.rounds, arguments.device)
    header = f"{'model':24s}{'call':28s}{'seconds':>9s}{'ratio':>8s}{'quartiles':>16s}"
    lines = [header, "-" * len(header)]
    for row in rows:
        quartiles = f"{row['ratio_low']:.2f} - {row['ratio_high']:.2f}"
        lines.append(
            f"{row['model']:24s}{row['call']:28s}{row['seconds']:9.3f}{row['ratio']:8.2f}{quartiles:>16s}"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    path = arguments.output / "speed_eb.jsonl"
    records = [{**row, **environment()} for row in rows]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    sys.stdout.write(f"written to {path}\n")


def _makers(frames: list[int]) -> dict[str, Callable[[torch.device], Subject]]:
    def cnn(name: str, shape: tuple[int, ...]) -> Callable[[torch.device], Subject]:
        def make(device: torch.device) -> Subject:
            model = torchvision.models.get_model(name, weights=None).eval().to(device)
            x = torch.randn(shape, device=device)
            explainer = ExcitationBackprop(model)
            return Subject(
                f"{name} {'x'.join(map(str, shape))}",
                {
                    "forward + backward": lambda: _gradient(model, x, 1),
                    "EB": lambda: explainer.attribute(x, target=1),
                    "cEB": lambda: explainer.attribute(x, target=1, contrastive=True),
                },
            )

        return make

    def vgg_lstm(n_frames: int, activation: str) -> Callable[[torch.device], Subject]:
        def make(device: torch.device) -> Subject:
            model = VGGLSTM(101, output="steps", activation=activation).eval().to(device)  # type: ignore[arg-type]
            x = torch.randn(1, 3, n_frames, 224, 224, device=device)
            target = (n_frames - 1, 1)
            # The first convolution, so that the way down is as long as the gradient's.
            explainer = RecurrentExcitationBackprop(model, "features.0")
            return Subject(
                f"VGGLSTM {activation}, {n_frames} frames",
                {
                    "forward + backward": lambda: _gradient(model, x, target),
                    "EB-R": lambda: explainer.attribute(x, target=target),
                    "cEB-R": lambda: explainer.attribute(x, target=target, contrastive=True),
                },
            )

        return make

    makers = {
        "vgg16": cnn("vgg16", (1, 3, 224, 224)),
        "resnet50": cnn("resnet50", (1, 3, 224, 224)),
        "r3d_18": cnn("r3d_18", (1, 3, 16, 112, 112)),
    }
    for n_frames in frames:
        makers[f"vgg_lstm_{n_frames}"] = vgg_lstm(n_frames, "tanh")
    return makers


def _gradient(model: nn.Module, x: Tensor, target: int | tuple[int, int]) -> Tensor:
    x = x.detach().requires_grad_()
    index = (slice(None), *((target,) if isinstance(target, int) else target))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        # An LSTM of cuDNN has no backward pass in evaluation mode.
        with torch.backends.cudnn.flags(enabled=not any(isinstance(m, nn.LSTM) for m in model.modules())):
            return torch.autograd.grad(model(x)[index].sum(), x)[0]
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)


def _time(subject: Subject, rounds: int, device: str) -> list[dict[str, float | str]]:
    seconds: dict[str, list[float]] = {call: [] for call in subject.calls}
    for index in tqdm(range(rounds + 1), desc=subject.name, file=sys.stderr):
        for call, function in subject.calls.items():
            start = _now(device)
            function()
            elapsed = _now(device) - start
            if index > 0:
                seconds[call].append(elapsed)
    base = seconds["forward + backward"]
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


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
