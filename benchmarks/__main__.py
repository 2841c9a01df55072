"""Command line of the benchmark suite."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.registry import BENCHMARKS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """List or run benchmarks; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name every benchmark")
    run = commands.add_parser("run", help="run one benchmark")
    names = run.add_subparsers(dest="name", required=True)
    given = list(sys.argv[1:] if arguments is None else arguments)
    for benchmark in BENCHMARKS.values():
        options = names.add_parser(
            benchmark.name, help=benchmark.summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        options.add_argument(
            "--output", type=Path, default=Path("benchmark-output"), help="folder of the results"
        )
        if benchmark.name in given:  # only the one asked for is imported
            benchmark.add_arguments(options)
    parsed = parser.parse_args(given)
    if parsed.command == "list":
        width = max(map(len, BENCHMARKS))
        for benchmark in BENCHMARKS.values():
            sys.stdout.write(f"{benchmark.name:{width}s}  {benchmark.summary}\n")
        return 0
    BENCHMARKS[parsed.name].run(parsed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
