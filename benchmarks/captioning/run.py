"""The captioning benchmark from clips to tables and picture."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.captioning.evaluation import (
    Cost,
    Grounded,
    ground_all,
    language_table,
    measure_costs,
    needs_table,
    noun_table,
    pointing_tables,
)
from benchmarks.captioning.methods import CEB_R, methods
from benchmarks.captioning.picture import word_picture
from benchmarks.captioning.training import TRANSFORM, rendered_clips, train_captioner, words_right
from benchmarks.environment import environment
from benchmarks.tables import Table
from captum_ext.data import WORD_KINDS, CaptionedClip, SyntheticCaptions, generate_captions, read_video
from captum_ext.excitation.operand import Negative
from captum_ext.models import Vocabulary
from captum_ext.models.vgg_lstm import Activation
from captum_ext.visualization import ReportEntry

__all__ = ["CaptionGrounding", "add_arguments", "ground_captions", "run"]

_SHOWN = 5  # the first clip of a disc beside a ring


@dataclass(frozen=True)
class CaptionGrounding:
    """What the benchmark finds.

    Args:
        headline (str): how well the captioner writes.
        word_accuracy (float): share of right words among those with a place, in 0..1.
        tables (list[Table]): pointing and language share.
        costs (list[Cost]): of every method.
        picture (Path): the picture of one clip, a row for each word.
        entries (list[ReportEntry]): explained clips for a report.
    """

    headline: str
    word_accuracy: float
    tables: list[Table]
    costs: list[Cost]
    picture: Path
    entries: list[ReportEntry]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--seed", type=int, default=0, help="seed of clips and training")
    parser.add_argument(
        "--activation", choices=("tanh", "relu"), default="tanh", help="decoder's non-linearity"
    )
    parser.add_argument(
        "--negative", choices=("support", "clamp"), default="support", help="rule for negatives"
    )
    parser.add_argument("--train", type=int, default=600, help="training clips")
    parser.add_argument("--test", type=int, default=60, help="held-out clips")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the CNN")


def run(arguments: argparse.Namespace) -> None:
    """Train, ground, score, and write everything down."""
    start = time.perf_counter()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    found = ground_captions(
        output,
        seed=arguments.seed,
        n_train=arguments.train,
        n_test=arguments.test,
        epochs=arguments.epochs,
        activation=arguments.activation,
        negative=arguments.negative,
    )
    records = [
        {"headline": found.headline, "word_accuracy": found.word_accuracy} | environment(),
        *(record for table in found.tables for record in table.records()),
        *({"table": "Cost", **asdict(cost)} for cost in found.costs),
    ]
    (output / "captioning.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    costs = _cost_lines(found.costs)
    lines = ["", found.headline, "", *(table.text() for table in found.tables), *costs]
    markdown = [found.headline, "", *(table.markdown() for table in found.tables), "```", *costs, "```", ""]
    (output / "captioning.md").write_text("\n".join(markdown))
    seconds = time.perf_counter() - start
    sys.stdout.write("\n".join([*lines, "", f"Done in {seconds:.0f} s. Picture: {found.picture}", ""]))


def ground_captions(
    output: Path,
    *,
    seed: int = 0,
    n_train: int = 600,
    n_test: int = 60,
    epochs: int = 10,
    activation: Activation = "tanh",
    negative: Negative = "support",
) -> CaptionGrounding:
    """Train a captioner, ground the words of held-out clips by every method, and score the maps.

    The held-out clips are written as mp4 files under ``output`` and read back, and the picture is written
    there as ``caption_words.png``; nothing else is.
    """
    synthetic = SyntheticCaptions(seed=seed)
    vocabulary = Vocabulary.of(synthetic.captions)
    clips, sentences = rendered_clips(synthetic, n_train)
    model = train_captioner(vocabulary, clips, vocabulary.encode(sentences), epochs, seed, activation)

    held_out = generate_captions(output / "captioned-clips", n_test, split="test", seed=seed)
    frames = [read_video(clip.path, n_frames=None).frames for clip in held_out]
    test = torch.stack([TRANSFORM(clip) for clip in frames])
    captions = vocabulary.encode([clip.caption for clip in held_out])
    right = words_right(model, test, captions).double()
    steps = [word.step for word in held_out[0].words]
    accuracy = float(right[:, steps].mean())
    per_kind = zip(WORD_KINDS, right[:, steps].mean(0).tolist(), strict=True)
    headline = (
        f"Words written right on {n_test} held-out clips: {100 * float(right.mean()):.1f} % of all, "
        f"{100 * accuracy:.1f} % of those with a place "
        f"({', '.join(f'{kind} {100 * share:.1f} %' for kind, share in per_kind)})."
    )

    held_out_shapes = SyntheticCaptions(seed=seed, split="test")
    ground = methods(model, negative)
    grounded = ground_all(ground, test, captions, held_out)
    tables = [
        *pointing_tables(grounded),
        noun_table(model, grounded, held_out_shapes, vocabulary),
        needs_table(model, held_out_shapes, vocabulary, n_test),
        language_table(model, grounded),
    ]
    shown = min(_SHOWN, n_test - 1)
    picture = output / "caption_words.png"
    words = _words(held_out[shown])
    maps = {word: grounded.maps[CEB_R][kind][shown] for kind, word in enumerate(words)}
    word_picture(frames[shown], maps, f"cEB-R: {held_out[shown].caption}").save(picture, optimize=True)
    entries = [_entry(held_out[n], frames[n], grounded, n) for n in range(shown, n_test, max(1, n_test // 3))]
    return CaptionGrounding(
        headline, accuracy, tables, measure_costs(model, ground, grounded), picture, entries
    )


def _entry(clip: CaptionedClip, frames: Tensor, grounded: Grounded, n: int) -> ReportEntry:
    """The clip with one map per word and method, words named."""
    maps = {
        f"{word}: {name}": found[kind][n]
        for kind, word in enumerate(_words(clip))
        for name, found in grounded.maps.items()
    }
    boxes = torch.stack([grounded.boxes[kind][n, :, 0] for kind in ("subject", "object")], dim=1)
    return ReportEntry(f"caption: {clip.caption}", frames, fps=clip.fps, maps=maps, boxes=boxes)


def _words(clip: CaptionedClip) -> list[str]:
    return [clip.caption.split()[word.step] for word in clip.words]


def _cost_lines(costs: list[Cost]) -> list[str]:
    header = f"{'Cost per word':44s}{'CPU seconds':>12s}{'CNN passes':>12s}{'decoder passes':>16s}"
    rows = [f"{c.method:44s}{c.seconds:12.4f}{c.cnn:12.2f}{c.decoder:16.2f}" for c in costs]
    return [header, "-" * len(header), *rows]
