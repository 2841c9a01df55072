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
    def description(self) -> str:
        """What is measured, and how."""
        return import_module(self.module).__doc__ or self.summary

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
            "ebr_table1",
            "EB-R paper, Table 1: pointing in space by EB, EB-R, cEB, cEB-R, BP, BP-R",
            "benchmarks.ebr.table1",
        ),
        Benchmark(
            "ebr_figure7",
            "EB-R paper, Figure 7: evidence per frame across the boundary of two actions",
            "benchmarks.ebr.figure7",
        ),
        Benchmark(
            "ebr_table2",
            "EB-R paper, Table 2: detection of an action of known or unknown length, 11 to 65 of 128 frames",
            "benchmarks.ebr.table2",
        ),
        Benchmark(
            "ebr_table3",
            "EB-R paper, Table 3: pointing in time on untrimmed videos, with combinations",
            "benchmarks.ebr.table3",
        ),
        Benchmark(
            "ebr_table4",
            "EB-R paper, Table 4: detection in untrimmed videos, three definitions of mAP",
            "benchmarks.ebr.table4",
        ),
        Benchmark(
            "ebr_table5",
            "EB-R paper, Table 5: noun phrases of captions point at their boxes",
            "benchmarks.ebr.table5",
        ),
        Benchmark(
            "step_table2",
            "STEP paper, Table 2: the smallest part of a clip that keeps the prediction",
            "benchmarks.step.table2",
        ),
        Benchmark(
            "step_table3",
            "STEP paper, Table 3: pointing in space by seven methods on two networks",
            "benchmarks.step.table3",
        ),
        Benchmark(
            "step_table4",
            "STEP paper, Table 4: what makes masks smooth, and what it costs",
            "benchmarks.step.table4",
        ),
        Benchmark(
            "step_table5",
            "STEP paper, Table 5: pointing in time, and frame AUC, of ten methods on two networks",
            "benchmarks.step.table5",
        ),
        Benchmark(
            "faithfulness",
            "deletion and insertion in space-time and frame by frame, all methods",
            "benchmarks.quality.faithfulness",
        ),
        Benchmark(
            "sanity",
            "do maps depend on the model's weights, the class, the order of frames; do they conserve mass",
            "benchmarks.quality.sanity",
        ),
        Benchmark(
            "scaling",
            "seconds per clip, clips per second by workers and processes, and what large data sets cost",
            "benchmarks.scaling",
        ),
        Benchmark(
            "excitation_dropout",
            "accuracy, utilisation and compression of a CNN trained with seven kinds of dropout",
            "benchmarks.excitation_dropout",
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
