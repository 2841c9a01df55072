"""Explain and score clips under Lightning's ``Trainer.predict``, on any number of devices and machines."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from benchmarks.suite.batches import Batch, ClipSource, Groups, group_loader
from benchmarks.suite.errors import RunError
from benchmarks.suite.maps import MapFolder
from benchmarks.suite.processes import Processes
from benchmarks.suite.quiet import quiet_lightning
from benchmarks.suite.results import Record, ResultsError, ResultsFolder

__all__ = ["ClipError", "Evaluated", "Experiment", "Explained", "Measures", "evaluate"]

Measures = Mapping[str, Tensor]
"""Name of a measure to one value per clip, (N,), or to one row of numbers per clip, (N, L)."""


class ClipError(RunError):
    """A clip cannot be read."""


@dataclass(frozen=True, eq=False)
class Explained:
    """What a method says of a group of clips.

    Args:
        scores (Tensor): one score per frame, (N, T).
        maps (Tensor, optional): (N, T, h, w). Default: the method says nothing about space.
        values (Measures): what only the method knows, such as the probability that its mask keeps.
    """

    scores: Tensor
    maps: Tensor | None = None
    values: Measures = field(default_factory=dict)

    @classmethod
    def of(cls, maps: Tensor, **values: Tensor) -> Explained:
        """By maps (N, T, h, w) whose sums over space are the scores."""
        return cls(maps.sum((2, 3)), maps, values)


@dataclass(frozen=True, eq=False)
class Experiment:
    """What is evaluated.

    Args:
        source (ClipSource): the clips.
        methods (Mapping[str, Callable]): cell to the method that explains a group of clips.
        measure (Callable): scores an explanation against the truth of its clips.
        baselines (Callable): cell to the measures of an answer that looks at no explanation.
        models (Sequence[nn.Module]): what the methods use, so that it is moved to the device.
    """

    source: ClipSource
    methods: Mapping[str, Callable[[Batch], Explained]]
    measure: Callable[[Batch, Explained], Measures]
    baselines: Callable[[Batch], Mapping[str, Measures]] = lambda batch: {}
    models: Sequence[nn.Module] = ()


@dataclass(frozen=True)
class Evaluated:
    """The figures of a whole run.

    Args:
        records (Sequence[Record]): of all clips and cells, in a fixed order.
        skipped (Mapping[str, str]): clips that could not be read, and why.
    """

    records: Sequence[Record]
    skipped: Mapping[str, str]

    def values(self, cell: str, measure: str) -> Tensor:
        """A measure of a cell, one value per clip; NaN where a clip has none."""
        found = [r.values.get(measure, float("nan")) for r in self.records if r.cell == cell]
        return torch.tensor(found, dtype=torch.float64)

    def part(self, name: str) -> Evaluated:
        """The figures of one part of :class:`~benchmarks.suite.clips.Parts`."""
        skipped = {clip: why for clip, why in self.skipped.items() if clip.startswith(f"{name}:")}
        return Evaluated([r for r in self.records if r.clip.startswith(f"{name}:")], skipped)

    def rows(self, cell: str, measure: str) -> Tensor:
        """A measure of a cell that has several numbers per clip, (N, L)."""
        found = [record.values[measure] for record in self.records if record.cell == cell]
        return torch.tensor(found, dtype=torch.float64)

    def cells(self) -> list[str]:
        """All cells, in alphabetical order."""
        return sorted({record.cell for record in self.records})


class _Explaining(pl.LightningModule):
    """One group of clips per step; every process writes its own results as soon as it has them."""

    def __init__(
        self,
        experiment: Experiment,
        folder: ResultsFolder,
        done: set[tuple[str, str]],
        maps: MapFolder | None,
        skip_broken: bool,
        processes: Processes,
    ) -> None:
        super().__init__()
        # A process that has nothing left to do after a resumed run is no mistake.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.models = nn.ModuleList(experiment.models)
        self.experiment = experiment
        self.folder = folder
        self.done = done
        self.maps = maps
        self.skip_broken = skip_broken
        self.processes = processes
        self.error: RunError | None = None
        self.on_sigterm = signal.getsignal(signal.SIGTERM)

    def setup(self, stage: str) -> None:
        """Begin where an earlier process of this rank was killed."""
        self.folder.mend(self.global_rank)

    def on_predict_start(self) -> None:
        """Let SIGTERM end the run: Lightning would take note of it and go on to the end."""
        signal.signal(signal.SIGTERM, self.on_sigterm or signal.SIG_DFL)

    def predict_step(self, batch: Batch) -> int:
        """Explain, score and write one group; returns how many clips it has."""
        if self.processes.stopped is not None:
            return 0
        try:
            self._explain(batch)
        except RunError as error:
            # Raised here, Lightning would kill the other processes, or leave them behind.
            self.error = error
            self.processes.stop(str(error))
        return len(batch.ids)

    def _explain(self, batch: Batch) -> None:
        for clip_id, reason in batch.broken:
            if not self.skip_broken:
                raise ClipError(
                    f"clip {clip_id!r} cannot be read: {reason}. Mend or remove it, or leave such clips out "
                    "with --on-error skip. What was finished is kept; go on with --resume."
                )
            self.folder.skip(self.global_rank, clip_id, reason)
        if not batch.ids:
            return
        # First, so that a group whose methods are all there has its baselines too.
        for cell, measures in self.experiment.baselines(batch).items():
            self._write(batch, cell, measures, 0.0)
        for cell, method in self.experiment.methods.items():
            if not self._missing(batch, cell):
                continue
            start = time.process_time()
            explained = method(batch)
            seconds = (time.process_time() - start) / len(batch.ids)
            self._save(batch, cell, explained)
            measures = {**self.experiment.measure(batch, explained), **explained.values}
            self._write(batch, cell, measures, seconds)

    def _missing(self, batch: Batch, cell: str) -> bool:
        return any((clip_id, cell) not in self.done for clip_id in batch.ids)

    def _write(self, batch: Batch, cell: str, measures: Measures, seconds: float) -> None:
        columns = {name: values.detach().cpu().double().tolist() for name, values in measures.items()}
        records = [
            Record(clip_id, cell, {name: column[n] for name, column in columns.items()}, seconds)
            for n, clip_id in enumerate(batch.ids)
        ]
        self.folder.append(self.global_rank, [r for r in records if r.key not in self.done])

    def _save(self, batch: Batch, cell: str, explained: Explained) -> None:
        if self.maps is None:
            return
        for n, clip_id in enumerate(batch.ids):
            values = explained.scores if explained.maps is None else explained.maps
            self.maps.save(clip_id, {cell: values[n]})


class _Share(Sampler[int]):
    """Every ``n_processes``-th group: uneven numbers are no matter, and nothing is repeated."""

    def __init__(self, n_groups: int, rank: int, n_processes: int, processes: Processes) -> None:
        self.numbers = range(rank, n_groups, n_processes)
        self.processes = processes

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        for number in self.numbers:
            if self.processes.stopped is not None:
                return
            yield number


class _Clips(pl.LightningDataModule):
    def __init__(self, groups: Groups, workers: int, processes: Processes) -> None:
        super().__init__()
        self.groups = groups
        self.workers = workers
        self.processes = processes

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The groups of this process."""
        trainer = self.trainer
        assert trainer is not None  # noqa: S101 - Lightning sets it
        # All share one list: one that read the results a moment later might find more of them.
        self.groups.numbers = trainer.strategy.broadcast(self.groups.numbers)
        share = _Share(len(self.groups), trainer.global_rank, trainer.world_size, self.processes)
        return group_loader(self.groups, self.workers, share)


def evaluate(
    experiment: Experiment, folder: ResultsFolder, arguments: argparse.Namespace
) -> Evaluated | None:
    """Explain and score all clips that are not in the results yet.

    When a clip or the disk fails in one process, all of them stop after the group they work on.

    Args:
        experiment (Experiment): what to evaluate.
        folder (ResultsFolder): where results go; those that are there are kept.
        arguments (argparse.Namespace): options of :func:`benchmarks.suite.options.add_run_options`.

    Returns:
        Evaluated or None: all figures; None in every process but the first.

    Raises:
        ClipError: if a clip cannot be read and ``on_error`` is not "skip", or none can be read.
        ResultsError: if results cannot be written, or some are missing in the end.
        RunError: if another process failed, or the Trainer refuses its options.
    """
    maps = MapFolder(arguments.save_maps) if arguments.save_maps else None
    done = {record.key for record in folder.read()}
    groups = Groups(experiment.source, arguments.group)
    groups.numbers = [
        number
        for number in groups.numbers
        if any((clip, cell) not in done for clip in groups.ids_of(number) for cell in experiment.methods)
    ]
    processes = Processes()
    module = _Explaining(experiment, folder, done, maps, arguments.on_error == "skip", processes)
    with quiet_lightning():
        trainer = _trainer(arguments)
        trainer.predict(
            module, datamodule=_Clips(groups, arguments.workers, processes), return_predictions=False
        )
    processes.finish(trainer.global_rank)
    if not trainer.is_global_zero:
        return None
    processes.wait(trainer.world_size)
    if module.error is not None:
        raise module.error
    if processes.stopped is not None:
        raise RunError(processes.stopped)
    return _evaluated(experiment, groups.ids, folder)


def _trainer(arguments: argparse.Namespace) -> pl.Trainer:
    if any(word in arguments.strategy for word in ("spawn", "fork", "notebook")):
        raise RunError(f"--strategy {arguments.strategy} copies a process in the middle of its run; use ddp")
    try:
        return pl.Trainer(
            accelerator=arguments.accelerator,
            devices=arguments.devices,
            num_nodes=arguments.num_nodes,
            strategy=arguments.strategy,
            precision=arguments.precision,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            inference_mode=False,
            use_distributed_sampler=False,
            enable_progress_bar=sys.stderr.isatty(),
        )
    except (MisconfigurationException, ValueError) as error:
        raise RunError(f"Lightning's Trainer refuses its options: {error}") from error


def _evaluated(experiment: Experiment, ids: Sequence[str], folder: ResultsFolder) -> Evaluated:
    """The figures of every clip that could be read; none may lack one."""
    records = folder.read()
    cells = defaultdict[str, set[str]](set)
    for record in records:
        cells[record.clip].add(record.cell)
    reasons = folder.skipped()
    unfinished = [clip for clip in ids if not experiment.methods.keys() <= cells[clip]]
    lost = [clip for clip in unfinished if clip not in reasons]
    if lost:
        raise ResultsError(
            f"{len(lost)} clips have no results in {folder.folder}, such as {lost[0]!r}, though their turn "
            "is over: has something else changed these files? Run the same command with --resume."
        )
    skipped = {clip: reasons[clip] for clip in unfinished}
    if len(skipped) == len(ids):
        raise ClipError(
            f"none of the {len(ids)} clips can be read, so there are no figures. The first, {ids[0]!r}: "
            f"{skipped[ids[0]]}"
        )
    finished = set(ids) - skipped.keys()
    return Evaluated([record for record in records if record.clip in finished], skipped)
