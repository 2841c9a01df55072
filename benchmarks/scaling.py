"""What runs of any size cost: seconds per clip of every method, clips per second of decoding and of runs.

Three things are measured on this machine, and then multiplied out:

- seconds per clip of each method on the paper's own model (VGG-16 and an LSTM, random weights, 16 frames of
  224 x 224), on a GPU where there is one; on the CPU with one thread, as CPU time;
- clips per second that workers decode and crop, from generated mp4 files of 240 x 320;
- clips per second of a whole run (``ebr_table1``) with one process and with two.

The first table says what three data sets take at those seconds: UCF101-24 (3,207 clips), THUMOS14 (213 test
videos of about 3.6 minutes, cut into clips of 128 frames at 30 frames per second, one class each: about
10,800 clips) and a million clips of 16 frames.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch

from benchmarks.ebr.methods import recurrent_methods
from benchmarks.environment import environment
from benchmarks.suite.batches import Batch, Groups, group_loader
from benchmarks.suite.clips import ActionClips
from benchmarks.suite.errors import RunError
from benchmarks.timing import now
from captum_ext.attr import Rise, SpatioTemporalExtremalPerturbation
from captum_ext.data import IMAGENET, ClipTransform, generate_actions, load_manifest
from captum_ext.models import VGGLSTM
from captum_ext.perturbation import StepSettings

__all__ = ["DATA_SETS", "add_arguments", "run"]

_FRAMES = 16
_THUMOS_CLIPS = round(213 * 3.6 * 60 * 30 / 128)
DATA_SETS = {
    "UCF101-24, 3,207 clips of 16 frames": 3207.0,
    f"THUMOS14, {_THUMOS_CLIPS:,} clips of 128 frames": _THUMOS_CLIPS * 128 / _FRAMES,
    "a million clips of 16 frames": 1e6,
}
"""Name to its length in clips of 16 frames; all methods are linear in the number of frames."""

_MASKS, _ITERATIONS = 1000, 100
_MEASURED = (1, 3)
_GROUP = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=device, help="where methods are timed")
    parser.add_argument("--size", type=int, default=224, help="frame size of the model")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls per method, after one warm-up")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2], help="decoding workers to try")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2], help="processes to try")
    parser.add_argument("--clips", type=int, default=48, help="clips decoded and evaluated")


def run(arguments: argparse.Namespace) -> None:
    """Time, multiply, print."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    seconds = _seconds_per_clip(arguments)
    with tempfile.TemporaryDirectory() as folder:
        decoded = {n: _decoded_per_second(Path(folder), arguments.clips, n) for n in arguments.workers}
        evaluated = {n: _evaluated_per_second(Path(folder), arguments.clips, n) for n in arguments.processes}
    unit = "GPU" if arguments.device.startswith("cuda") else "CPU core"
    lines = [f"| method | seconds per clip | {' | '.join(f'{unit} hours: {name}' for name in DATA_SETS)} |"]
    lines.append("| --- " * (2 + len(DATA_SETS)) + "|")
    for name, each in seconds.items():
        hours = " | ".join(_hours(each * n_clips) for n_clips in DATA_SETS.values())
        lines.append(f"| {name} | {each:.3g} | {hours} |")
    lines += ["", "| decoding workers | clips per second |", "| --- | --- |"]
    lines += [f"| {n} | {rate:.1f} |" for n, rate in decoded.items()]
    lines += ["", "| processes of ebr_table1 | clips per second |", "| --- | --- |"]
    lines += [f"| {n} | {rate:.2f} |" for n, rate in evaluated.items()]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    facts = {"seconds": seconds, "decoded": decoded, "evaluated": evaluated, **environment()}
    (arguments.output / "scaling.json").write_text(json.dumps(facts, indent=1) + "\n")
    (arguments.output / "scaling.md").write_text(f"`{facts['command']}`\n\n{text}")


def _seconds_per_clip(arguments: argparse.Namespace) -> dict[str, float]:
    """Median of some calls of every method, by one clip of 16 frames."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device, size = arguments.device, arguments.size
    model = VGGLSTM(101, output="steps", activation="tanh").eval().to(device)
    clips = torch.randn(1, 3, _FRAMES, size, size, device=device)
    batch = Batch(0, ["clip"], clips, torch.tensor([1]), torch.empty(0), [], {}, [])
    rise, step = Rise(model), SpatioTemporalExtremalPerturbation(model)
    target = (_FRAMES - 1, 1)

    def masks(n: int) -> object:
        return rise.attribute(clips, target=target, n_masks=n, perturbations_per_eval=1)

    def iterations(n: int) -> object:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the mask of example .* instead of")  # of so few
            return step.attribute(clips, target=target, areas=(0.1,), settings=StepSettings(n_iter=n))

    def median(call: Callable[[], object]) -> float:
        return _median_seconds(call, arguments.rounds, device)

    found = {name: median(partial(method, batch)) for name, method in recurrent_methods(model).items()}
    for name, call, wanted in (
        (f"RISE, {_MASKS} masks", masks, _MASKS),
        (f"STEP, one area, {_ITERATIONS} iterations", iterations, _ITERATIONS),
    ):
        # All masks and iterations cost the same; what comes before and after them counts once.
        few, more = (median(partial(call, n)) for n in _MEASURED)
        each = (more - few) / (_MEASURED[1] - _MEASURED[0])
        found[name] = few + (wanted - _MEASURED[0]) * each
    return found


def _median_seconds(call: Callable[[], object], rounds: int, device: str) -> float:
    measured = []
    for _ in range(rounds + 1):
        start = now(device)
        call()
        measured.append(now(device) - start)
    return statistics.median(measured[1:])  # the first one warms up


def _decoded_per_second(folder: Path, n_clips: int, workers: int) -> float:
    """Clips of 240 x 320 that a DataLoader delivers as the model's input."""
    manifest = folder / "clips" / "train.json"
    if not manifest.exists():
        generate_actions(manifest.parent, -(-n_clips // 6), size=(240, 320), n_frames=64, fps=25.0)
    clips = load_manifest(manifest)[:n_clips]
    source = ActionClips(clips, ClipTransform(224, *IMAGENET), _FRAMES)
    groups = Groups(source, _GROUP)
    if len(groups) <= max(workers, 1):
        raise RunError(
            f"--clips {n_clips} are too few for {workers} workers: give {_GROUP * (max(workers, 1) + 1)}"
        )
    return _delivered_per_second(group_loader(groups, workers), workers)


def _delivered_per_second(loader: Iterable[Batch], workers: int) -> float:
    """Clips per second without the start of the workers: from when each of them has delivered once."""
    batches = iter(loader)
    for _ in range(max(workers, 1)):
        next(batches)
    start = time.perf_counter()
    delivered = sum(len(batch.ids) for batch in batches)
    return delivered / (time.perf_counter() - start)


def _evaluated_per_second(folder: Path, n_clips: int, processes: int) -> float:
    """Clips of a whole run, without what is prepared once and without the start of Python."""
    per_class = -(-n_clips // 6)
    common = ["--prepared", str(folder / "prepared"), "--epochs", "1", "--train", "4", "--threads", "1"]
    common += ["--test", str(per_class), "--accelerator", "cpu", "--group", "2", "--workers", "0"]
    command = [sys.executable, "-m", "benchmarks", "run", "ebr_table1", *common]
    if processes > 1:
        command += ["--devices", str(processes), "--strategy", "ddp"]
    spent = []
    # The difference of a long and a short run leaves out the start.
    for limit in (6, per_class * 6):
        output = folder / f"out-{processes}-{limit}"
        start = time.perf_counter()
        subprocess.run(
            [*command, "--limit", str(limit), "--output", str(output)],
            check=True,
            capture_output=True,
            env=os.environ,
        )
        spent.append(time.perf_counter() - start)
    return (per_class * 6 - 6) / max(spent[1] - spent[0], 1e-9)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f}" if seconds < 36000 else f"{seconds / 3600:,.0f}"
