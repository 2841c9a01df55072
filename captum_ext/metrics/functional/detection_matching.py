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
        best, minus_g = max(((row[g], -g) for g in free), default=(-1.0, 0))
        outcome.append(RIGHT if best >= threshold else WRONG)
        if best >= threshold:
            free.remove(-minus_g)
    return outcome


def match_thumos(iou: Sequence[Sequence[float]], threshold: float, ambiguous: Sequence[bool]) -> list[int]:
    """Match D detections, by descending score, with G truths: RIGHT, WRONG or DROPPED for each.

    Each truth, in the order given, takes the free detection that overlaps it most, if *above* the threshold,
    whatever its score. What is left and touches an ambiguous interval is dropped, else wrong.
    """
    outcome = [DROPPED if touches else WRONG for touches in ambiguous]
    free = set(range(len(iou)))
    for g in range(len(iou[0]) if iou else 0):
        best, minus_d = max(((iou[d][g], -d) for d in free), default=(-1.0, 0))
        if best > threshold:
            outcome[-minus_d] = RIGHT
            free.remove(-minus_d)
    return outcome
