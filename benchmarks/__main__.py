"""Command line of the benchmark suite."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.registry import BENCHMARKS, Benchmark
from benchmarks.suite.errors import RunError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """List, describe or run benchmarks, or collect their outcomes; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parsed = _parser(given).parse_args(given)
    try:
        if parsed.command == "list":
            _list()
        elif parsed.command == "describe":
            _describe(BENCHMARKS[parsed.name])
        elif parsed.command == "report":
            _report(parsed.folders, parsed.output)
        else:
            BENCHMARKS[parsed.name].run(parsed)
    except (RunError, OSError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).splitlines())}\n")
        return 1
    return 0


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name every benchmark")
    describe = commands.add_parser("describe", help="say what a benchmark measures, and its options")
    describe.add_argument("name", choices=BENCHMARKS, metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    report = commands.add_parser("report", help="collect finished runs in one HTML page")
    report.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="the --output of a run")
    report.add_argument("--output", type=Path, default=Path("report.html"), help="the page")
    run = commands.add_parser("run", help="run one benchmark")
    names = run.add_subparsers(dest="name", required=True, metavar="NAME")
    for benchmark in BENCHMARKS.values():
        options = names.add_parser(
            benchmark.name, help=benchmark.summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        if benchmark.name in given:  # only the one asked for is imported
            _add_arguments(options, benchmark)
    return parser


def _add_arguments(parser: argparse.ArgumentParser, benchmark: Benchmark) -> None:
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("benchmark-output") / benchmark.name,
        help="folder of the results",
    )
    benchmark.add_arguments(parser)


def _list() -> None:
    width = max(map(len, BENCHMARKS))
    for benchmark in BENCHMARKS.values():
        sys.stdout.write(f"{benchmark.name:{width}s}  {benchmark.summary}\n")


def _describe(benchmark: Benchmark) -> None:
    options = argparse.ArgumentParser(
        prog=f"python -m benchmarks run {benchmark.name}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        add_help=False,
    )
    _add_arguments(options, benchmark)
    sys.stdout.write(f"{inspect.cleandoc(benchmark.description)}\n\n{options.format_help()}")


def _report(folders: Sequence[Path], output: Path) -> None:
    from benchmarks.suite.report import save_report  # torch is slow to import

    sys.stdout.write(f"Report: {save_report(folders, output)}\n")


if __name__ == "__main__":
    raise SystemExit(main())
