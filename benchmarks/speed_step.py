"""What an iteration of extremal perturbation costs beside the model's own forward and backward pass.

Inside every iteration the bare model runs forward and backward to its input once more, on what the iteration
shows it; the figure is the median over iterations of the rest of the iteration's time to that of the bare
pass. So a busy machine slows both alike. CPU time is used on the CPU, wall-clock time between
synchronisations on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from dataclasses import dataclass, field, replace

import torch
import torchvision
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.environment import environment
from benchmarks.memory import peak_of_process, peak_on_gpu
from benchmarks.timing import input_gradient, now
from captum_ext.attr import SpatioTemporalExtremalPerturbation
from captum_ext.perturbation import STEP_REFERENCE, Smoothness, StepSettings

__all__ = ["add_arguments", "run"]

_TARGET = 1
_AREA = 0.1
_CLIPS = {"16x112x112": (16, 112), "8x224x224": (8, 224)}
_METHODS: dict[str, tuple[Smoothness | None, StepSettings]] = {
    "STEP": ("step", StepSettings()),
    "EP-3D": (None, StepSettings()),
    "EP-3D-Evenly": ("evenly", StepSettings()),
    "EP-3D (dt = 2)": ("gaussian", StepSettings()),
    "STEP_REFERENCE": ("step", replace(STEP_REFERENCE, smoothness_start=0)),
}


@dataclass
class Paired:
    """A model that runs itself once more at each call, and times this and what happens between its calls."""

    model: nn.Module
    device: str
    bare: list[float] = field(default_factory=list)
    iterations: list[float] = field(default_factory=list)
    left: float | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The scores."""
        if self.left is not None:
            self.iterations.append(now(self.device) - self.left)
        self.left = None
        if torch.is_grad_enabled():
            start = now(self.device)
            input_gradient(self.model, x, _TARGET)
            self.bare.append(now(self.device) - start)
            self.left = now(self.device)
        scores: Tensor = self.model(x)
        return scores

    @property
    def ratios(self) -> list[float]:
        """Of every iteration but the first two, which warm up."""
        return sorted(i / b for i, b in list(zip(self.iterations, self.bare, strict=True))[2:])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--iterations", type=int, default=15, help="timed iterations, after two to warm up")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to run"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--clips", nargs="*", choices=list(_CLIPS), default=list(_CLIPS))
    parser.add_argument("--methods", nargs="*", choices=list(_METHODS), default=list(_METHODS))


def run(arguments: argparse.Namespace) -> None:
    """Time every method on r2plus1d_18 with random weights and write the ratios."""
    if arguments.iterations < 1:
        raise SystemExit("--iterations takes a number from 1")
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    device: str = arguments.device
    rows = []
    for clip in arguments.clips:
        model, x = _subject(clip, device)
        bare_peak = _peak(clip, device, arguments.threads, None)
        for method in tqdm(arguments.methods, desc=clip, file=sys.stderr):
            paired = Paired(model, device)
            start = now(device)
            _explain(paired, x, method, arguments.iterations + 2)
            outside = now(device) - start - sum(paired.bare) - sum(paired.iterations)
            iteration = statistics.median(paired.iterations[2:])
            _, settings = _METHODS[method]
            ratios = paired.ratios
            rows.append(
                {
                    "model": f"r2plus1d_18 3x{clip}",
                    "method": method,
                    "bare_s": statistics.median(paired.bare[2:]),
                    "iteration_s": iteration,
                    "ratio": statistics.median(ratios),
                    "ratio_low": ratios[len(ratios) // 4],
                    "ratio_high": ratios[-1 - len(ratios) // 4],
                    "iterations": settings.n_iter,
                    "explanation_s": settings.n_iter * iteration + outside,
                    "extra_mb": _peak(clip, device, arguments.threads, method) - bare_peak,
                }
            )
    header = (
        f"{'clip':26s}{'method':16s}{'bare s':>8s}{'ratio':>8s}{'quartiles':>14s}{'extra MB':>10s}"
        f"{'iterations':>12s}{'s per area':>12s}"
    )
    lines = [header, "-" * len(header)]
    for row in rows:
        quartiles = f"{row['ratio_low']:.3f}-{row['ratio_high']:.3f}"
        lines.append(
            f"{row['model']:26s}{row['method']:16s}{row['bare_s']:8.3f}{row['ratio']:8.3f}{quartiles:>14s}"
            f"{row['extra_mb']:10.0f}{row['iterations']:12d}{row['explanation_s']:12.0f}"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    path = arguments.output / "speed_step.jsonl"
    path.write_text("".join(json.dumps({**row, **environment()}) + "\n" for row in rows))
    sys.stdout.write(f"written to {path}\n")


def _subject(clip: str, device: str) -> tuple[nn.Module, Tensor]:
    n_frames, side = _CLIPS[clip]
    torch.manual_seed(0)
    model = torchvision.models.video.r2plus1d_18(weights=None).eval().to(device)
    return model, torch.randn(1, 3, n_frames, side, side, device=device)


def _explain(model: nn.Module | Paired, x: Tensor, method: str, n_iter: int) -> None:
    smoothness, settings = _METHODS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few iterations miss the area
        SpatioTemporalExtremalPerturbation(model).attribute(
            x,
            target=_TARGET,
            areas=_AREA,
            smoothness=smoothness,
            settings=replace(settings, n_iter=n_iter, sigma=_published_sigma(settings, x)),
        )


def _published_sigma(settings: StepSettings, x: Tensor) -> float | None:
    """The published code takes 11 pixels for frames of 112, and 23 for all others."""
    return None if settings.sigma is None else 11 if x.shape[-1] == 112 else 23


def _peak(clip: str, device: str, threads: int, method: str | None) -> float:
    """Megabytes at most: of the bare pass, or of a few iterations."""
    if device.startswith("cuda"):
        model, x = _subject(clip, device)
        return peak_on_gpu(lambda: _work(model, x, method))
    return peak_of_process(_work_alone, clip, threads, method)


def _work_alone(clip: str, threads: int, method: str | None) -> None:
    torch.set_num_threads(threads)
    _work(*_subject(clip, "cpu"), method)


def _work(model: nn.Module, x: Tensor, method: str | None) -> None:
    if method is None:
        for _ in range(3):
            input_gradient(model, x, _TARGET)
    else:
        _explain(model, x, method, n_iter=3)
