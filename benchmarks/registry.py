"""The benchmarks by name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

__all__ = ["BENCHMARKS", "Benchmark"]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: what it answers, and the module with its ``add_arguments`` and ``run``.

    Args:
        name (str): name on the command line.
        summary (str): one line.
        module (str): module with ``add_arguments(parser)`` and ``run(arguments)``.
    """

    name: str
    summary: str
    module: str

    @property
    def add_arguments(self) -> Callable[[argparse.ArgumentParser], None]:
        """Adds the benchmark's own options to a parser."""
        function: Callable[[argparse.ArgumentParser], None] = import_module(self.module).add_arguments
        return function

    @property
    def run(self) -> Callable[[argparse.Namespace], None]:
        """Runs the benchmark with the parsed options."""
        function: Callable[[argparse.Namespace], None] = import_module(self.module).run
        return function


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "demo",
            "train a small CNN-LSTM on generated clips and ground its decisions in space and time",
            "benchmarks.demo",
        ),
        Benchmark(
            "architectures",
            "which torchvision models Excitation Backprop explains, and where their mass goes",
            "benchmarks.architectures",
        ),
        Benchmark(
            "captioning",
            "train a small captioner and ground each word of its captions at its own object",
            "benchmarks.captioning",
        ),
        Benchmark(
            "pictures",
            "the pictures of the docs: one generated clip explained by every method",
            "benchmarks.pictures",
        ),
        Benchmark(
            "recurrences",
            "how far EB-R with the papers' released recurrences is from EB-R by their equations",
            "benchmarks.recurrences",
        ),
        Benchmark(
            "speed_eb",
            "cost of EB, cEB and cEB-R as ratios to a forward and an input-gradient backward pass",
            "benchmarks.speed_eb",
        ),
        Benchmark(
            "excitation_dropout",
            "accuracy, utilisation and compression of a CNN trained with seven kinds of dropout",
            "benchmarks.excitation_dropout",
        ),
        Benchmark(
            "step_tables",
            "Tables 2-5 of the STEP paper on generated clips: pointing in space and time, smoothness",
            "benchmarks.step",
        ),
        Benchmark(
            "speed_step",
            "cost of an iteration of STEP and EP-3D as a ratio to the model's forward and backward pass",
            "benchmarks.speed_step",
        ),
        Benchmark(
            "speed_dropout",
            "time of a training iteration with Excitation Dropout as a ratio to one with nn.Dropout",
            "benchmarks.speed_dropout",
        ),
    )
}
