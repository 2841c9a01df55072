"""Explain and score clips under Lightning's ``Trainer.predict``, on any number of devices and machines."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from benchmarks.suite.batches import Batch, ClipSource, Groups
from benchmarks.suite.maps import MapFolder
from benchmarks.suite.results import Record, ResultsError, ResultsFolder

__all__ = ["ClipError", "Evaluated", "Experiment", "Explained", "Measures", "evaluate"]

Measures = Mapping[str, Tensor]
"""Name of a measure to one value per clip, (N,), or to one row of numbers per clip, (N, L)."""


class ClipError(RuntimeError):
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
        return Evaluated([r for r in self.records if r.clip.startswith(f"{name}:")], self.skipped)

    def rows(self, cell: str, measure: str) -> Tensor:
        """A measure of a cell that has several numbers per clip, (N, L)."""
        found = [record.values[measure] for record in self.records if record.cell == cell]
        return torch.tensor(found, dtype=torch.float64)

    def cells(self) -> list[str]:
        """All cells, in alphabetical order."""
        return sorted({record.cell for record in self.records})


class _Explaining(pl.LightningModule):
    """One group of clips per step; every process writes its own results as soon as it has them."""

    # A process that has nothing left to do after a resumed run is no mistake.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        experiment: Experiment,
        folder: ResultsFolder,
        done: set[tuple[str, str]],
        maps: MapFolder | None,
        skip_broken: bool,
    ) -> None:
        super().__init__()
        self.models = nn.ModuleList(experiment.models)
        self.experiment = experiment
        self.folder = folder
        self.done = done
        self.maps = maps
        self.skip_broken = skip_broken

    def predict_step(self, batch: Batch) -> None:
        """Explain, score and write one group."""
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

    def on_predict_end(self) -> None:
        """The figures are read when every process has written its own."""
        self.trainer.strategy.barrier("results written")

    def _missing(self, batch: Batch, cell: str) -> bool:
        return any((clip_id, cell) not in self.done for clip_id in batch.ids)

    def _write(self, batch: Batch, cell: str, measures: Measures, seconds: float) -> None:
        columns = {name: values.detach().double().cpu().tolist() for name, values in measures.items()}
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
            try:
                self.maps.save(clip_id, {cell: values[n]})
            except OSError as error:
                raise ResultsError(
                    f"maps cannot be written to {self.maps.folder}: {error}. Earlier results are intact: "
                    "make room or mend the permissions, then run the same command with --resume."
                ) from error


class _Share(Sampler[int]):
    """Every ``n_processes``-th group: uneven numbers are no matter, and nothing is repeated."""

    def __init__(self, n_groups: int, rank: int, n_processes: int) -> None:
        self.numbers = range(rank, n_groups, n_processes)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)


class _Clips(pl.LightningDataModule):
    def __init__(self, groups: Groups, workers: int) -> None:
        super().__init__()
        self.groups = groups
        self.workers = workers

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The groups of this process."""
        trainer = self.trainer
        assert trainer is not None  # noqa: S101 - Lightning sets it
        share = _Share(len(self.groups), trainer.global_rank, trainer.world_size)
        return DataLoader(self.groups, batch_size=None, sampler=share, num_workers=self.workers)


def evaluate(
    experiment: Experiment, folder: ResultsFolder, arguments: argparse.Namespace
) -> Evaluated | None:
    """Explain and score all clips that are not in the results yet.

    Args:
        experiment (Experiment): what to evaluate.
        folder (ResultsFolder): where results go; those that are there are kept.
        arguments (argparse.Namespace): options of :func:`benchmarks.suite.options.add_run_options`.

    Returns:
        Evaluated or None: all figures; None in every process but the first.

    Raises:
        ClipError: if a clip cannot be read and ``on_error`` is not "skip".
        ResultsError: if results cannot be written.
    """
    maps = MapFolder(arguments.save_maps) if arguments.save_maps else None
    done = {record.key for record in folder.read()}
    groups = Groups(experiment.source, arguments.group)
    unfinished = [
        number
        for number in groups.numbers
        if any((clip, cell) not in done for clip in groups.ids_of(number) for cell in experiment.methods)
    ]
    trainer = pl.Trainer(
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
    module = _Explaining(experiment, folder, done, maps, arguments.on_error == "skip")
    folder.mend(trainer.global_rank)
    with warnings.catch_warnings():
        # Groups are few and large, and how many workers decode is the user's choice.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer.predict(
            module,
            datamodule=_Clips(Groups(experiment.source, arguments.group, unfinished), arguments.workers),
            return_predictions=False,
        )
    if not trainer.is_global_zero:
        return None
    wanted = set(experiment.source.ids)
    records = [record for record in folder.read() if record.clip in wanted]
    finished = {record.clip for record in records}
    skipped = {clip: reason for clip, reason in folder.skipped().items() if clip not in finished}
    return Evaluated(records, skipped)
