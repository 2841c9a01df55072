"""The protocols of Bargal et al. (2018), sections 5.1 and 5.2, on clips with exact truth."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.action_maps import Explain
from benchmarks.demo.methods import ABOUT, CEB, EB
from benchmarks.tables import Cell, Table
from captum_ext.data import ClipDataset
from captum_ext.grounding import (
    center_window,
    greedy_window,
    known_length_window,
    threshold_scores,
)
from captum_ext.metrics.functional import (
    center_window_chance,
    frame_auc,
    frames_inside,
    pad_boxes,
    random_window_chance,
    spatial_pointing_center,
    spatial_pointing_chance,
    spatial_pointing_game,
    temporal_pointing_chance,
    temporal_pointing_game,
    whole_clip_chance,
    window_accuracy,
)

__all__ = [
    "METHOD_HEADER",
    "Explained",
    "boxes_of",
    "explain_all",
    "method_rows",
    "per_clip",
    "spans_of",
    "spatial_table",
    "temporal_table",
]

# The papers' circle of 15 pixels diameter on frames of 240 x 320, for frames of 64 x 64.
_RADIUS = 2.0
_IOU = 0.5

METHOD_HEADER = ["method", "explains", "its map shows", "passes", "CPU ms per clip"]


@dataclass(frozen=True)
class Explained:
    """A set of clips with the maps of every method.

    Args:
        dataset (ClipDataset): the clips.
        clips (Tensor): the model's inputs, (N, 3, T, H, W).
        labels (Tensor): the classes explained, (N,).
        maps (Mapping[str, Tensor]): method to maps (N, T, h, w).
        probabilities (Tensor): probability of the class at every time step, (N, T).
        seconds (Mapping[str, float]): method to CPU seconds per clip.
    """

    dataset: ClipDataset
    clips: Tensor
    labels: Tensor
    maps: Mapping[str, Tensor]
    probabilities: Tensor
    seconds: Mapping[str, float]

    @property
    def spans(self) -> Tensor:
        """Where the class explained happens, half-open in frames, (N, 2)."""
        return spans_of(self.dataset)

    @property
    def boxes(self) -> Tensor:
        """Boxes of every frame, (N, T, 1, 4)."""
        return boxes_of(self.dataset)

    def scores(self, method: str) -> Tensor:
        """S_t, the sum of each frame's map, (N, T)."""
        return self.maps[method].sum((2, 3))


def explain_all(
    dataset: ClipDataset, model: torch.nn.Module, explain: Mapping[str, Explain], title: str
) -> Explained:
    """Explain the labelled class of every clip by every method."""
    items = [dataset[i] for i in range(len(dataset))]
    clips, labels = torch.stack([x for x, _ in items]), torch.tensor([k for _, k in items])
    batches = list(zip(torch.split(clips, 16), torch.split(labels, 16), strict=True))
    maps: dict[str, list[Tensor]] = {name: [] for name in explain}
    probabilities = []
    seconds = dict.fromkeys(explain, 0.0)
    for x, k in tqdm(batches, desc=title, file=sys.stderr):
        for name, method in explain.items():
            start = time.process_time()
            maps[name].append(method(x, k))
            seconds[name] += (time.process_time() - start) / len(clips)
        with torch.no_grad():
            probabilities.append(model(x).softmax(-1)[torch.arange(len(k)), :, k])
    joined = {name: torch.cat(parts) for name, parts in maps.items()}
    return Explained(dataset, clips, labels, joined, torch.cat(probabilities), seconds)


def method_rows(explained: Explained) -> list[list[str]]:
    """What each method is and what it cost, one row each."""
    return [[name, *ABOUT[name], f"{1000 * seconds:.0f}"] for name, seconds in explained.seconds.items()]


def spatial_table(explained: Explained, title: str) -> Table:
    """Pointing game in space over all frames (section 5.1)."""
    size = explained.clips.shape[3], explained.clips.shape[4]
    boxes, column = explained.boxes, "pointing in space (%)"
    n_frames = int((~boxes.isnan()).all(3).any(2).sum())
    table = Table(
        title,
        [column],
        f"{len(explained.labels)} clips, {n_frames} frames; a hit is a point less than {_RADIUS:g} pixels "
        f"from the box on {size[0]} x {size[1]} frames; 95 % bootstrap intervals over clips. "
        "Contrastive maps show what is unique to the class (here its motion), not all of the object.",
    )
    table.add("random point (exact)", column, _mean_of_frames(spatial_pointing_chance(boxes, size, _RADIUS)))
    center = spatial_pointing_center(boxes, size, _RADIUS)
    table.add("centre", column, Cell.of(per_clip(center.hits, center.valid)))
    for name, maps in explained.maps.items():
        result = spatial_pointing_game(maps, boxes, size, _RADIUS)
        table.add(name, column, Cell.of(per_clip(result.hits, result.valid)))
    table.add("oracle", column, Cell(1.0, len(explained.labels)))
    return table


def temporal_table(explained: Explained, title: str, windows: bool) -> Table:
    """Frame AUC and pointing in time, with ``windows`` also localisation (section 5.2)."""
    spans, n_frames = explained.spans, explained.clips.shape[2]
    inside, lengths = frames_inside(spans, n_frames), spans[:, 1] - spans[:, 0]
    auc, point, known, greedy = (
        "frame AUC (%)",
        "pointing in time (%)",
        "known length (%)",
        "unknown length (%)",
    )
    caption = (
        f"{len(spans)} clips of {n_frames} frames; 95 % bootstrap intervals over clips. Per-frame EB and cEB "
        "give every frame the same mass, 1 and 0, and so say nothing about time."
    )
    if windows:
        caption += (
            f" Length: the found window overlaps the action by tIoU >= {_IOU}; without known length it grows "
            "from the peak to the first negative frame, which needs negative evidence (-: none)."
        )
    table = Table(title, [auc, point, known, greedy] if windows else [auc, point], caption)

    table.add("random (exact)", auc, Cell(0.5, len(spans)))
    table.add("random (exact)", point, Cell.exact(temporal_pointing_chance(spans, n_frames)))
    table.add("centre", point, Cell.of(_inside(inside, torch.full_like(lengths, n_frames // 2))))
    if windows:
        table.add("random (exact)", known, Cell.exact(random_window_chance(spans, n_frames, _IOU)))
        found = center_window(n_frames, lengths)
        table.add("centre", known, Cell.of(window_accuracy(found, spans, _IOU).double()))
        assert torch.equal(  # noqa: S101
            center_window_chance(spans, n_frames, _IOU), window_accuracy(found, spans, _IOU).double()
        )
        table.add("whole clip", greedy, Cell.exact(whole_clip_chance(spans, n_frames, _IOU)))

    series = {"probability of the class": explained.probabilities}
    series |= {name: explained.scores(name) for name in explained.maps if name not in (EB, CEB)}
    for name, scores in series.items():
        table.add(name, auc, Cell.of(frame_auc(scores, inside)))
        table.add(name, point, Cell.of(temporal_pointing_game(scores, spans).double()))
        if not windows:
            continue
        signed = threshold_scores(scores) if name.startswith("probability") else scores
        found = known_length_window(signed, lengths)
        table.add(name, known, Cell.of(window_accuracy(found, spans, _IOU).double()))
        if (signed < 0).any():
            found = greedy_window(signed)
            table.add(name, greedy, Cell.of(window_accuracy(found, spans, _IOU).double()))
    for column in table.columns:
        table.add("oracle", column, Cell(1.0, len(spans)))
    return table


def spans_of(dataset: ClipDataset) -> Tensor:
    """Where each clip's own action happens, half-open in frames, (N, 2)."""
    found = []
    for clip in dataset.clips:
        (span,) = (s for s in clip.spans if s.label == clip.label)
        found.append([span.start_frame, span.end_frame])
    return torch.tensor(found)


def boxes_of(dataset: ClipDataset) -> Tensor:
    """Boxes of every frame, of joined clips those of all actions, (N, T, 1, 4)."""
    clips = [dataset.boxes(i) for i in range(len(dataset))]
    return pad_boxes([[[] if box is None else [box] for box in clip] for clip in clips])


def per_clip(hits: Tensor, valid: Tensor) -> Tensor:
    """Share of the valid frames of each clip that are hits, (N,)."""
    return (hits & valid).sum(1).double() / valid.sum(1)


def _mean_of_frames(values: Tensor) -> Cell:
    return Cell.exact(values[~values.isnan()])


def _inside(inside: Tensor, frames: Tensor) -> Tensor:
    return inside.gather(1, frames[:, None])[:, 0].double()
