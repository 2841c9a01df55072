"""From options to results, tables, figures and a report."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.environment import environment
from benchmarks.suite.batches import Batch
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained, evaluate
from benchmarks.suite.maps import MapFolder
from benchmarks.suite.plots import plot_table
from benchmarks.suite.preparation import is_rank_zero
from benchmarks.suite.processes import end_with_parent
from benchmarks.suite.report import save_report, write_outcome
from benchmarks.suite.results import ResultsFolder
from benchmarks.tables import Table

__all__ = ["Outcome", "Study", "run_study"]


@dataclass(frozen=True)
class Study:
    """One table of a paper.

    Args:
        name (str): of the benchmark.
        settings (Mapping): what decides its figures.
        about (str): the clips and the model, in words.
        experiment (Callable): the clips, methods and measures; called when it is needed, since it may train
            models. It gets whether methods are needed.
        tables (Callable): from the figures of all clips to tables.
        figures (Callable): writes pictures into a folder; returns their files with captions.
    """

    name: str
    settings: Mapping[str, object]
    about: str
    experiment: Callable[[bool], Experiment]
    tables: Callable[[Evaluated], Sequence[Table]]
    figures: Callable[[Evaluated, Path], Mapping[Path, str]] = lambda evaluated, folder: {}


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    Args:
        evaluated (Evaluated): figures of all clips.
        tables (Sequence[Table]): made of them.
    """

    evaluated: Evaluated
    tables: Sequence[Table]


def run_study(study: Study, arguments: argparse.Namespace) -> Outcome | None:
    """Evaluate, print and write down; None in all processes but the first.

    In ``--output`` lie afterwards ``results-RANK.jsonl`` (a line for each clip and cell), ``tables.jsonl``,
    ``tables.md``, pictures and ``report.html``.

    Raises:
        RunError: if the run cannot begin, or cannot go on.
    """
    start = time.perf_counter()
    end_with_parent()
    if arguments.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # else Lightning sets another number
        torch.set_num_threads(arguments.threads)
    folder = ResultsFolder(arguments.output)
    settings = {"benchmark": study.name, **study.settings, **_settings(arguments)}
    if is_rank_zero():
        folder.begin(settings, arguments.resume)
    experiment = study.experiment(arguments.from_maps is None)
    if arguments.from_maps is not None:
        experiment = _from_maps(experiment, MapFolder(arguments.from_maps))
    evaluated = evaluate(experiment, folder, arguments)
    if evaluated is None:
        return None
    tables = study.tables(evaluated)
    output: Path = arguments.output
    facts = {
        "benchmark": study.name,
        "about": study.about,
        "clips": len({record.clip for record in evaluated.records}),
        "skipped": dict(evaluated.skipped),
        "wall_s": round(time.perf_counter() - start),
        **environment(),
        **settings,
    }
    figures = {
        plot_table(output / f"table{number}.png", table): table.title
        for number, table in enumerate(tables, start=1)
    }
    figures |= study.figures(evaluated, output)
    write_outcome(output, facts, tables, figures)
    report = save_report([output], output / "report.html")
    sys.stdout.write("\n".join([study.about, "", *(table.text() for table in tables)]) + "\n")
    for clip, reason in evaluated.skipped.items():
        sys.stdout.write(f"skipped: {clip}: {reason}\n".encode(errors="replace").decode())
    for file in figures:
        sys.stdout.write(f"picture: {file}\n")
    sys.stdout.write(f"Done in {facts['wall_s']} s. Report: {report}\n")
    return Outcome(evaluated, tables)


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    """Options of the run that change figures, if only in their last digit."""
    maps = arguments.from_maps
    return {
        "group": arguments.group,
        "precision": arguments.precision,
        "from_maps": maps and str(maps.resolve()),
    }


def _from_maps(experiment: Experiment, maps: MapFolder) -> Experiment:
    """The same measures of maps that were saved."""

    def stored(method: str) -> Callable[[Batch], Explained]:
        def load(batch: Batch) -> Explained:
            found = torch.stack([maps.load(clip_id, method) for clip_id in batch.ids])
            return Explained(found) if found.dim() == 2 else Explained.of(found)

        return load

    methods = {name: stored(name) for name in maps.methods()}
    return Experiment(experiment.source, methods, experiment.measure, experiment.baselines)
