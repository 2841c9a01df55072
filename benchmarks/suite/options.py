"""Options that all tables share."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_run_options"]


def add_run_options(parser: argparse.ArgumentParser, group: int = 8, captions: bool = False) -> None:
    """How many clips, on what, and what to do when something breaks.

    Args:
        parser (argparse.ArgumentParser): gets the options.
        group (int): default of ``--group``. Default: 8
        captions (bool): whether clips have captions instead of classes; a captioner is always trained.
            Default: False
    """
    counted = "in all" if captions else "per class"
    data = parser.add_argument_group("clips and models")
    data.add_argument(
        "--data-root", type=Path, help="folder of the paper's data set; without it, clips are generated"
    )
    if not captions:
        data.add_argument(
            "--checkpoint", type=Path, help="a trained model of captum_ext.models; without it, one is trained"
        )
    data.add_argument(
        "--prepared",
        type=Path,
        default=Path("benchmark-output/prepared"),
        help="where generated clips and trained models are kept for the next run",
    )
    data.add_argument("--train", type=_positive, default=100, help=f"generated training clips {counted}")
    data.add_argument("--test", type=_positive, default=20, help=f"generated held-out clips {counted}")
    data.add_argument("--epochs", type=_positive, default=9, help="epochs of each model")
    data.add_argument("--limit", type=_positive, help="only the first clips, of every part of the table")
    data.add_argument("--seed", type=_natural, default=0, help="seed of clips, training and random masks")
    run = parser.add_argument_group("run")
    run.add_argument("--resume", action="store_true", help="go on with the run in --output")
    run.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="at a clip that cannot be read"
    )
    run.add_argument("--save-maps", type=Path, help="folder for the maps, float16, one file per clip")
    run.add_argument("--from-maps", type=Path, help="score the maps saved there; no model is needed")
    run.add_argument("--group", type=_positive, default=group, help="clips explained at once")
    run.add_argument("--workers", type=_natural, default=0, help="processes that decode, per device")
    run.add_argument(
        "--threads",
        type=_positive,
        help="CPU threads of each process; figures can differ in the last digit with it; without it, the "
        "machine's cores, shared by the processes",
    )
    run.add_argument(
        "--accelerator", default="auto", help="as for Lightning's Trainer, like those that follow"
    )
    run.add_argument("--devices", type=_number_or_name, default=1)
    run.add_argument("--num-nodes", type=_positive, default=1)
    run.add_argument("--strategy", default="auto")
    run.add_argument("--precision", choices=("32-true", "16-mixed", "bf16-mixed"), default="32-true")


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _number_or_name(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text
