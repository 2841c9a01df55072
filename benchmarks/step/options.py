"""Options of the STEP paper's tables."""

from __future__ import annotations

import argparse

from benchmarks.suite.options import add_run_options

__all__ = ["add_area_options", "add_optimisation_options", "add_rise_options", "settings_of"]

_DECISIVE = ("group", "iterations", "plateau", "areas", "masks")


def add_optimisation_options(parser: argparse.ArgumentParser, limit: int) -> None:
    """Options of every table, with as many clips as two cores explain in some minutes."""
    add_run_options(parser, group=4)
    parser.set_defaults(limit=limit)
    group = parser.add_argument_group("perturbation")
    group.add_argument("--iterations", type=int, default=60, help="of each mask")
    group.add_argument("--plateau", type=int, help="stop masks whose loss stays; see StepSettings")


def add_area_options(parser: argparse.ArgumentParser) -> None:
    """Which masks make up a map."""
    parser.add_argument(
        "--areas", type=float, nargs="+", default=[0.1], help="shares of the clip that masks keep"
    )


def add_rise_options(parser: argparse.ArgumentParser) -> None:
    """How long RISE looks."""
    parser.add_argument("--masks", type=int, default=200, help="masks of RISE")


def settings_of(arguments: argparse.Namespace) -> dict[str, object]:
    """What decides the figures beside clips and networks; RISE draws its masks for a group of clips."""
    return {name: getattr(arguments, name) for name in _DECISIVE if name in arguments}
