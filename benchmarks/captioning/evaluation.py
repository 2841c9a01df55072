"""Does each word point at its own object, what does it cost, and how much of it is language."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.captioning.methods import Ground, Words
from benchmarks.captioning.training import TRANSFORM
from benchmarks.tables import Cell, Table
from captum_ext.attr import ExcitationBackprop
from captum_ext.data import WORD_KINDS, CaptionedClip, SyntheticCaptions
from captum_ext.metrics.functional import (
    spatial_pointing_center,
    spatial_pointing_chance,
    spatial_pointing_game,
)
from captum_ext.models import CNNLSTMCaptioner, Vocabulary

__all__ = [
    "Cost",
    "Grounded",
    "ground_all",
    "language_table",
    "measure_costs",
    "needs_table",
    "noun_table",
    "pointing_tables",
]

_RADIUS = 2.0  # the papers' circle of 15 pixels diameter on frames of 240 x 320, for frames of 64 x 64
_OTHER = {"subject": "object", "motion": "object", "object": "subject"}
_ROUNDS = 3


@dataclass(frozen=True)
class Grounded:
    """Held-out clips with the maps of every method for each kind of word.

    Args:
        clips (Tensor): the model's inputs, (N, 3, T, H, W).
        captions (Tensor): token ids, (N, L).
        words (Words): per kind the (step, token id) of every clip.
        boxes (Mapping[str, Tensor]): kind to boxes (N, T, 1, 4).
        maps (Mapping[str, list[Tensor]]): method to one (N, T, h, w) per kind.
    """

    clips: Tensor
    captions: Tensor
    words: Words
    boxes: Mapping[str, Tensor]
    maps: Mapping[str, list[Tensor]]


@dataclass(frozen=True)
class Cost:
    """What one map costs.

    Args:
        method (str): its name.
        seconds (float): CPU seconds per word, the median over rounds.
        cnn (float): forward passes of the CNN over a whole clip, per word.
        decoder (float): forward passes of the decoder over the whole caption, per word.
    """

    method: str
    seconds: float
    cnn: float
    decoder: float


def ground_all(
    ground: Mapping[str, Ground], clips: Tensor, captions: Tensor, records: Sequence[CaptionedClip]
) -> Grounded:
    """Ground all words of all clips by every method."""
    steps = [[clip.words[kind].step for clip in records] for kind in range(len(WORD_KINDS))]
    words = [[(step, int(captions[n, step])) for n, step in enumerate(of_kind)] for of_kind in steps]
    boxes = {
        kind: torch.tensor([clip.words[index].boxes for clip in records])[:, :, None]
        for index, kind in enumerate(WORD_KINDS)
    }
    parts: dict[str, list[list[Tensor]]] = {name: [] for name in ground}
    for start in tqdm(range(0, len(clips), 16), desc="grounding words", file=sys.stderr):
        some = slice(start, start + 16)
        for name, method in ground.items():
            parts[name].append(method(clips[some], captions[some], [w[some] for w in words]))
    maps = {
        name: [torch.cat([batch[kind] for batch in found]) for kind in range(len(WORD_KINDS))]
        for name, found in parts.items()
    }
    return Grounded(clips, captions, words, boxes, maps)


def pointing_tables(grounded: Grounded) -> list[Table]:
    """How often the highest point of a word's map is on its own object, and how often on the other one."""
    size = grounded.clips.shape[3], grounded.clips.shape[4]
    n, n_frames = grounded.clips.shape[0], grounded.clips.shape[2]
    about = (
        f"{n} clips of {n_frames} frames; a hit is a point less than {_RADIUS:g} pixels from the box on "
        f"{size[0]} x {size[1]} frames, in the mean over frames; 95 % bootstrap intervals over clips. "
    )
    own = Table(
        "Where: words on their own object",
        [f"{kind} (%)" for kind in WORD_KINDS],
        about + "A motion word's object is the one that moves.",
    )
    other = Table(
        "Where: words on the other object",
        [f"{kind} (%)" for kind in WORD_KINDS],
        about + "Lower is better: the moving object for the object noun, the still one for the others.",
    )
    for table, box_of in ((own, {kind: kind for kind in WORD_KINDS}), (other, _OTHER)):
        for index, (kind, column) in enumerate(zip(WORD_KINDS, table.columns, strict=True)):
            boxes = grounded.boxes[box_of[kind]]
            chance = spatial_pointing_chance(boxes, size, _RADIUS).mean(1)
            table.add("random point (exact)", column, Cell.exact(chance))
            table.add("centre", column, _cell(spatial_pointing_center(boxes, size, _RADIUS).hits))
            for name, maps in grounded.maps.items():
                hits = spatial_pointing_game(maps[index], boxes, size, _RADIUS).hits
                table.add(name, column, _cell(hits))
            table.add("oracle", column, Cell(float(table is own), n))
    return [own, other]


def noun_table(
    model: CNNLSTMCaptioner, grounded: Grounded, synthetic: SyntheticCaptions, vocabulary: Vocabulary
) -> Table:
    """The first table noun by noun, and which nouns are written also where their shape is left out.

    A captioner may write a noun because it does not see the others; such a noun has no place.
    """
    size = grounded.clips.shape[3], grounded.clips.shape[4]
    nouns = {
        vocabulary.decode(torch.tensor([token])): (kind, token)
        for kind in (WORD_KINDS.index("subject"), WORD_KINDS.index("object"))
        for _, token in grounded.words[kind]
    }
    table = Table(
        "Where: nouns on their own object, noun by noun",
        [f"{noun} (%)" for noun in nouns],
        "As above, over the clips whose caption has the noun. Last row: clips in which the noun is still the "
        "most probable word when its shape is left out.",
    )
    for column, (kind, token) in zip(table.columns, nouns.values(), strict=True):
        said = torch.tensor([word == token for _, word in grounded.words[kind]])
        boxes = grounded.boxes[WORD_KINDS[kind]][said]
        for name, maps in grounded.maps.items():
            hits = spatial_pointing_game(maps[kind][said], boxes, size, _RADIUS).hits
            table.add(name, column, _cell(hits))
        without: Literal["subject", "object"] = "subject" if WORD_KINDS[kind] == "subject" else "object"
        chosen = said.nonzero()[:, 0]
        clips = torch.stack([TRANSFORM(synthetic.render(n, without).frames) for n in chosen.tolist()])
        steps = torch.tensor([grounded.words[kind][n][0] for n in chosen.tolist()])
        with torch.no_grad():
            best = model(clips, grounded.captions[chosen]).argmax(2)
        still = best.gather(1, steps[:, None])[:, 0] == token
        table.add("written without its shape", column, Cell.of(still.double()))
    return table


def needs_table(
    model: CNNLSTMCaptioner, synthetic: SyntheticCaptions, vocabulary: Vocabulary, n: int
) -> Table:
    """Which words the captioner still writes right when one of the two shapes is left out of the clip."""
    table = Table(
        "What the words need",
        [f"{kind} (%)" for kind in WORD_KINDS],
        f"Words that are the most probable one after the words before them, for the same {n} clips whole, "
        "and with one shape left out; 95 % bootstrap intervals over clips.",
    )
    left_out: tuple[Literal["subject", "object"] | None, ...] = (None, "subject", "object")
    for without in left_out:
        row = "whole clip" if without is None else f"without the {without}"
        rendered = [synthetic.render(index, without) for index in range(n)]
        clips = torch.stack([TRANSFORM(clip.frames) for clip in rendered])
        captions = vocabulary.encode([clip.caption for clip in rendered])
        with torch.no_grad():
            right = (model(clips, captions).argmax(2) == captions).double()
        for kind, column in enumerate(table.columns):
            steps = torch.tensor([[clip.words[kind].step] for clip in rendered])
            table.add(row, column, Cell.of(right.gather(1, steps)[:, 0]))
    return table


def language_table(model: CNNLSTMCaptioner, grounded: Grounded) -> Table:
    """How the mass of a word would divide if the words before it competed with what is seen."""
    language = ExcitationBackprop(_WordsAsEvidence(model))
    table = Table(
        "Language share",
        [f"{kind} (%)" for kind in WORD_KINDS],
        "Mass of EB that reaches the embeddings of the words before, where they are inputs and not "
        "constants; the rest reaches the descriptor of the clip or is dropped.",
    )
    with torch.no_grad():
        descriptors = model.describe(model.frame_maps(grounded.clips)).mean(1)
        before = model.words_before(grounded.captions)
    for kind, words in zip(table.columns, grounded.words, strict=True):
        seen, said = language.attribute((descriptors, before), target=list(words))
        table.add("words before", kind, Cell.of(said.flatten(1).sum(1)))
        table.add("clip", kind, Cell.of(seen.flatten(1).sum(1)))
    return table


def measure_costs(model: CNNLSTMCaptioner, ground: Mapping[str, Ground], grounded: Grounded) -> list[Cost]:
    """Cost of one clip's words, one word at a time and, where a method offers it, all at once."""
    clips, captions = grounded.clips[:1], grounded.captions[:1]
    words = [of_kind[:1] for of_kind in grounded.words]
    one = words[:1]
    costs = []
    for name, method in ground.items():
        for some in (one, words):
            label = name if some is one else f"{name}, {len(words)} words at once"
            passes = _passes(model, method, clips, captions, some)
            times = []
            for _ in range(_ROUNDS):
                start = time.process_time()
                method(clips, captions, some)
                times.append(time.process_time() - start)
            costs.append(Cost(label, statistics.median(times) / len(some), *(p / len(some) for p in passes)))
    return costs


class _WordsAsEvidence(nn.Module):
    """The decoder alone, with both of its inputs open to explanation."""

    def __init__(self, model: CNNLSTMCaptioner) -> None:
        super().__init__()
        self.model = model

    def forward(self, descriptors: Tensor, words: Tensor) -> Tensor:
        """Scores (N, L, V)."""
        return self.model.decode_words(descriptors, words)


def _passes(
    model: CNNLSTMCaptioner, method: Ground, clips: Tensor, captions: Tensor, words: Words
) -> tuple[float, float]:
    """Forward passes of the CNN, in clips, and of the decoder, in captions."""
    rows = {"cnn": 0, "decoder": 0}

    def counter(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def count(_: nn.Module, __: object, output: Tensor) -> None:
            rows[name] += len(output)

        return count

    handles = [
        model.features.register_forward_hook(counter("cnn")),
        model.classifier.register_forward_hook(counter("decoder")),
    ]
    try:
        method(clips, captions, words)
    finally:
        for handle in handles:
            handle.remove()
    return rows["cnn"] / clips.shape[2], float(rows["decoder"])


def _cell(hits: Tensor) -> Cell:
    return Cell.of(hits.double().mean(1))
