"""The metrics of grounding, each with a few updates of different sizes."""

import math
from functools import partial

import torch
from metric_case import MetricCase

from captum_ext.metrics import (
    EnergyPointingGame,
    RelevanceRank,
    SpatialPointingGame,
    TemporalDetectionAP,
    TemporalLocalizationAccuracy,
    TemporalPointingGame,
)

NONE = [math.nan] * 4
BOX, WIDE, CORNER = [2.0, 1.0, 6.0, 4.0], [0.0, 2.0, 11.0, 6.0], [8.5, 5.25, 11.0, 7.0]


def _random(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _in_space(labels=False):
    """Frames of 7 x 11; two clips of two frames, one of three and one without any box."""
    updates = (
        (_random(0, 2, 2, 7, 11), torch.tensor([[[BOX], [NONE]], [[WIDE], [CORNER]]]), (7, 11)),
        (_random(1, 1, 3, 7, 11), torch.tensor([[[BOX, CORNER], [WIDE, NONE], [NONE, NONE]]]), (7, 11)),
        (_random(2, 1, 1, 4, 5), torch.tensor([[[NONE]]]), (7, 11)),
        (_random(3, 2, 1, 4, 5), torch.tensor([[[BOX]], [[BOX]]]), (7, 11)),
    )
    classes = ([0, 2], [2], [1], [0, 0])
    if not labels:
        return updates
    return tuple((*update, torch.tensor(label)) for update, label in zip(updates, classes, strict=True))


def _video(segments, labels, scores=None, ambiguous=None):
    video = {
        "segments": torch.tensor(segments).view(-1, 2),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    if scores is not None:
        video["scores"] = torch.tensor(scores)
    if ambiguous is not None:
        video["ambiguous"] = torch.tensor(ambiguous)
    return video


DETECTIONS = (
    (
        [_video([[0.0, 4.0], [1.0, 5.0]], [0, 0], [0.9, 0.7]), _video([[2.0, 8.0]], [1], [0.6])],
        [_video([[0.0, 5.0]], [0]), _video([[2.0, 9.0], [10.0, 12.0]], [1, 0])],
        ["a", "b"],
    ),
    ([_video([], [], [])], [_video([[3.0, 4.0]], [1])], ["c"]),
    (
        [_video([[5.0, 6.0], [0.0, 1.5], [8.0, 9.0]], [1, 1, 0], [0.7, 0.8, 0.95])],
        [_video([[0.0, 1.0]], [1], ambiguous=[[5.0, 7.0]])],
        ["d"],
    ),
)

CLIPS_OF_VIDEOS = (
    (
        _random(4, 3, 10),
        [torch.tensor([[8, 14], [16, 18]]), torch.tensor([[8, 14], [16, 18]]), torch.tensor([[2, 5]])],
        ["a", "a", "b"],
        torch.tensor([0, 10, 0]),
    ),
    (_random(5, 1, 6), torch.tensor([[21, 40]]), ["c"], torch.tensor([18])),
    (_random(6, 2, 10), torch.tensor([[15, 33]] * 2), ["d", "d"], torch.tensor([10, 20])),
)

CASES = [
    MetricCase("SpatialPointingGame", SpatialPointingGame, _in_space(), has_chance=True),
    MetricCase(
        "SpatialPointingGame, classes",
        partial(SpatialPointingGame, tolerance=2, average="classes", num_classes=3),
        _in_space(labels=True),
        has_chance=True,
    ),
    MetricCase("EnergyPointingGame", EnergyPointingGame, _in_space(), has_chance=True),
    MetricCase("RelevanceRank, clips", partial(RelevanceRank, average="clips"), _in_space(), has_chance=True),
    MetricCase(
        "TemporalPointingGame",
        TemporalPointingGame,
        (
            (_random(7, 3, 8), torch.tensor([[0, 2], [1, 6], [0, 8]])),
            (_random(8, 1, 9), torch.tensor([[4, 6]])),
            (_random(9, 2, 5), [torch.tensor([[0, 1], [3, 5]]), torch.tensor([[2, 3]])]),
        ),
        has_chance=True,
    ),
    *(
        MetricCase(
            f"TemporalPointingGame, {convention}",
            partial(TemporalPointingGame, convention),
            CLIPS_OF_VIDEOS,
            has_chance=True,
        )
        for convention in ("pairs", "any-clip")
    ),
    *(
        MetricCase(
            f"TemporalDetectionAP, {protocol}",
            partial(TemporalDetectionAP, 2, protocol, n_resamples=50),
            DETECTIONS,
            has_chance=False,
        )
        for protocol in ("activitynet", "thumos14", "thumos14-2014")
    ),
    MetricCase(
        "TemporalLocalizationAccuracy",
        partial(TemporalLocalizationAccuracy, known_length=False),
        (
            (torch.tensor([[0, 4], [1, 9]]), torch.tensor([[0, 5], [6, 9]]), 11),
            (torch.tensor([[2, 5]]), torch.tensor([[3, 6]]), 7),
        ),
        has_chance=True,
    ),
]
