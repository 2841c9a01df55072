"""Table 5 of Bargal et al. (2018): noun phrases of captions point at their boxes.

The captioner is given the true caption, as in the paper; each phrase is explained at the step of its last
word, its noun, and hits if the highest point of the map lies inside a box of the phrase (tolerance 0).
Generated clips have two phrases ("a disc moves up-down beside a ring": disc, ring) and count in every frame;
an image is a clip of one frame.

With ``--data-root``: Flickr30k Entities, folders ``Sentences``, ``Annotations`` and ``flickr30k-images`` and
the lists ``train.txt`` and ``test.txt``. The small captioner is trained on them; the paper's is a VGG-16 with
two LSTM layers, so only the protocol is the same. Phrases whose boxes fall outside the centre crop do not
count.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from benchmarks.captioning.methods import Ground, methods
from benchmarks.captioning.training import TRANSFORM
from benchmarks.ebr.captions import Captions
from benchmarks.suite.batches import Batch
from benchmarks.suite.evaluation import Evaluated, Experiment, Explained
from benchmarks.suite.options import add_run_options
from benchmarks.suite.spatial_pointing import CENTRE, RANDOM, SpatialPointing
from benchmarks.suite.study import Study, run_study
from benchmarks.tables import Cell, Table

__all__ = ["add_arguments", "run"]

_POINTING = SpatialPointing(TRANSFORM.crop_size, radius=0.0)
_ROWS = ("cEB-R", "EB-R", "caption-guided saliency", "Grad-CAM", "BP-R")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    add_run_options(parser, captions=True)
    parser.set_defaults(train=600, test=30, epochs=10)


def run(arguments: argparse.Namespace) -> None:
    """Ground the noun phrases of true captions."""
    captions = Captions(arguments)

    def experiment(with_methods: bool) -> Experiment:
        if not with_methods:
            return Experiment(captions.source, {}, _POINTING.measure, _POINTING.baselines)
        model = captions.captioner()
        ground = methods(model)
        cells = {name: _of_phrases(ground[name]) for name in _ROWS}
        return Experiment(captions.source, cells, _POINTING.measure, _POINTING.baselines, [model])

    run_study(Study("ebr_table5", captions.settings, captions.about, experiment, _tables), arguments)


def _of_phrases(ground: Ground) -> Callable[[Batch], Explained]:
    """A method that grounds words, for the noun of each phrase."""

    def explain(batch: Batch) -> Explained:
        nouns = list(zip(batch.extra["step"].tolist(), batch.labels.tolist(), strict=True))
        captions = batch.extra["caption"].to(batch.clips.device)
        return Explained.of(ground(batch.clips, captions, [nouns])[0])

    return explain


def _tables(evaluated: Evaluated) -> Sequence[Table]:
    column = "noun phrases (%)"
    n_phrases, n_frames = _POINTING.counted(evaluated)
    table = Table(
        "EB-R Table 5: noun phrases point at their boxes",
        [column],
        f"{n_phrases} phrases, {n_frames} frames; a hit is a point inside a box of the phrase; "
        "95 % bootstrap intervals over phrases. The paper, Flickr30k Entities: random 26.8, centre 49.2, "
        "caption-guided saliency 50.1, cEB-R 51.2.",
    )
    for row in (RANDOM, CENTRE, *_ROWS):
        if row in evaluated.cells():
            table.add(row, column, _POINTING.rate(evaluated, row))
    table.add("oracle", column, Cell(1.0, n_phrases))
    return [table]
