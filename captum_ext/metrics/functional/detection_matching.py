"""Which detections of one video and class are right: the three published ways to match them."""

from collections.abc import Sequence
from typing import Literal

DetectionProtocol = Literal["activitynet", "thumos14", "thumos14-2014"]

RIGHT, WRONG, DROPPED = 1, 0, -1


def match_activitynet(iou: Sequence[Sequence[float]], threshold: float) -> list[int]:
    """Match D detections, by descending score, with G truths: RIGHT or WRONG for each.

    Each detection takes the free truth that it overlaps most, down to an IoU *equal to* the threshold. So
    a duplicate may take the second-best truth.
    """
    free = set(range(len(iou[0]) if iou else 0))
    outcome = []
    for row in iou:
        candidates = [g for g in free if row[g] >= threshold]
        outcome.append(RIGHT if candidates else WRONG)
        if candidates:
            free.remove(max(candidates, key=lambda g, row=row: (row[g], -g)))  # type: ignore[misc]
    return outcome


def match_thumos(iou: Sequence[Sequence[float]], threshold: float, ambiguous: Sequence[bool]) -> list[int]:
    """Match D detections, by descending score, with G truths: RIGHT, WRONG or DROPPED for each.

    Each truth, in the order given, takes the free detection that overlaps it most, if *above* the threshold,
    whatever its score. What is left and touches an ambiguous interval is dropped, else wrong.
    """
    outcome = [DROPPED if touches else WRONG for touches in ambiguous]
    free = list(range(len(iou)))
    for g in range(len(iou[0]) if iou else 0):
        best = max(free, key=lambda d, g=g: iou[d][g], default=None)  # type: ignore[misc]
        if best is not None and iou[best][g] > threshold:
            outcome[best] = RIGHT
            free.remove(best)
    return outcome
