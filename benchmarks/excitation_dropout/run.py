"""From images to tables and plots, one process per network."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.environment import environment
from benchmarks.excitation_dropout.evaluation import Evaluation
from benchmarks.excitation_dropout.methods import METHODS, RATED
from benchmarks.excitation_dropout.report import draw, tables
from benchmarks.excitation_dropout.task import DATASETS, Images, load_images
from benchmarks.excitation_dropout.training import Outcome, Recipe, train
from benchmarks.suite.report import write_outcome
from captum_ext.metrics import CompressionCurve

__all__ = ["add_arguments", "run"]

_RATE = 0.5
_OTHER_RATES = (0.25, 0.75)
# (full, quick)
_SIZES = {
    "seeds": (3, 2),
    "train": (500, 320),
    "test": (1000, 300),
    "measured": (300, 200),
    "epochs": (12, 16),
    "image_size": (32, 16),
    "hidden_size": (2048, 512),
}


@dataclass(frozen=True)
class Job:
    """One network to be trained.

    Args:
        method (str): name of the kind of dropout.
        rate (float): drop rate.
        seed (int): of first weights, order and masks.
        recipe (Recipe): how it is trained.
        dataset (str): one of ``DATASETS``.
        data_root (Path, optional): folder of CIFAR.
        n_train (int, optional): training images.
        n_test (int, optional): test images.
    """

    method: str
    rate: float
    seed: int
    recipe: Recipe
    dataset: str
    data_root: Path | None
    n_train: int | None
    n_test: int | None

    @property
    def name(self) -> str:
        """A name for its file."""
        words = "".join(c if c.isalnum() else "-" for c in self.method.lower())
        return f"{words}_{self.rate:g}_{self.seed}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--quick", action="store_true", help="smaller images, networks and numbers, one drop rate: 3 minutes"
    )
    parser.add_argument("--dataset", choices=DATASETS, default="generated")
    parser.add_argument("--data-root", type=Path, help="folder in which torchvision finds CIFAR")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        "--rates",
        type=float,
        nargs="*",
        help=f"drop rates beside {_RATE:g}: {' '.join(map(str, _OTHER_RATES))}; none with --quick",
    )
    for name, (full, quick) in _SIZES.items():
        words = f"{full}; {quick} with --quick"
        if name in ("train", "test"):
            words = f"images: {words}; of CIFAR all"
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=words)
    parser.add_argument("--batch-size", type=int, default=20, help="images per step")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="of Adam")
    parser.add_argument("--accelerator", default="cpu", help="of the Trainer: cpu, gpu, auto")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="networks trained at a time")
    parser.add_argument(
        "--resume", action="store_true", help="keep the networks that an earlier run finished"
    )


def run(arguments: argparse.Namespace) -> None:
    """Train all networks, look at them, print."""
    start = time.perf_counter()
    output: Path = arguments.output
    (output / "runs").mkdir(parents=True, exist_ok=True)
    jobs = _jobs(arguments)
    _images(jobs[0])  # what is missing is told before processes start
    done = {job: _finished(job, output) for job in jobs} if arguments.resume else {}
    left = [job for job in jobs if done.get(job) is None]
    with tqdm(total=len(jobs), initial=len(jobs) - len(left), desc="networks", file=sys.stderr) as progress:
        for _ in _train_all(left, output, arguments.processes):
            progress.update()
    outcomes: dict[tuple[str, float], dict[int, Outcome]] = {}
    for job in jobs:
        outcome = _finished(job, output)
        assert outcome is not None  # noqa: S101
        outcomes.setdefault((job.method, job.rate), {})[job.seed] = outcome
    found = tables(outcomes, _RATE)
    pictures = draw(outcomes, _RATE, output)
    facts = {
        "benchmark": "excitation_dropout",
        "about": f"Images: {arguments.dataset}. {len(jobs)} networks.",
        "networks": len(jobs),
        "recipe": asdict(jobs[0].recipe),
        "dataset": arguments.dataset,
        "n_train": jobs[0].n_train,
        "n_test": jobs[0].n_test,
        "cpu_s": round(sum(run.cpu_s for runs in outcomes.values() for run in runs.values())),
        "wall_s": round(time.perf_counter() - start),
        **environment(),
    }
    write_outcome(output, facts, found, pictures)
    sys.stdout.write("\n".join([json.dumps(facts), "", *(table.text() for table in found)]) + "\n")


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    given = {name: getattr(arguments, name) for name in _SIZES}
    sizes = {
        name: values[arguments.quick] if given[name] is None else given[name]
        for name, values in _SIZES.items()
    }
    if min(sizes.values()) < 1 or arguments.processes < 1:
        raise SystemExit("all numbers must be at least 1")
    rates = arguments.rates
    if rates is None:
        rates = () if arguments.quick else _OTHER_RATES
    if not all(0 < rate < 1 for rate in rates):
        raise SystemExit("--rates takes drop rates between 0 and 1")
    is_generated = arguments.dataset == "generated"
    recipe = Recipe(
        image_size=sizes["image_size"] if is_generated else 32,
        hidden_size=sizes["hidden_size"],
        epochs=sizes["epochs"],
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        n_measured=min(sizes["measured"], sizes["test"]) if is_generated else sizes["measured"],
        accelerator=arguments.accelerator,
    )
    n_train = sizes["train"] if is_generated or arguments.quick else arguments.train
    n_test = sizes["test"] if is_generated or arguments.quick else arguments.test
    rated = [(method, rate) for method in RATED if method in arguments.methods for rate in rates]
    pairs = [(method, _RATE) for method in arguments.methods] + rated
    # Seed by seed, so that what is there after an interruption can be compared.
    return [
        Job(method, rate, seed, recipe, arguments.dataset, arguments.data_root, n_train, n_test)
        for seed in range(sizes["seeds"])
        for method, rate in dict.fromkeys(pairs)
    ]


def _train_all(jobs: Sequence[Job], output: Path, processes: int) -> Iterator[str]:
    if processes == 1:
        yield from (_train_one(job, output) for job in jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        try:
            for finished in as_completed([pool.submit(_train_one, job, output) for job in jobs]):
                yield finished.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # not after all others have been trained
            raise


def _images(job: Job) -> Images:
    return load_images(job.dataset, job.data_root, job.n_train, job.n_test, job.recipe.image_size)


def _train_one(job: Job, output: Path) -> str:
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    outcome = train(_images(job), job.recipe, job.method, job.rate, job.seed)
    path = output / "runs" / f"{job.name}.pt"
    torch.save({"job": repr(job), "outcome": outcome}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    return job.name


def _finished(job: Job, output: Path) -> Outcome | None:
    """The outcome of the very same job, if there is one."""
    path = output / "runs" / f"{job.name}.pt"
    if not path.exists():
        return None
    with torch.serialization.safe_globals([Outcome, Evaluation, CompressionCurve]):
        found = torch.load(path, weights_only=True)
    outcome: Outcome = found["outcome"]
    return outcome if found["job"] == repr(job) else None
