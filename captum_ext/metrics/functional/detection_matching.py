"""Which detections of one video and class are right: the two published ways to match them."""

from collections.abc import Sequence


def match_activitynet(iou: Sequence[Sequence[float]], threshold: float) -> list[bool]:
    """Tell which of D detections, by descending score, are right, given their IoU with G truths.

    Each detection takes the free truth that it overlaps most, down to an IoU *equal to* the threshold. So
    a duplicate may take the second-best truth.
    """
    free = set(range(len(iou[0])))
    right = []
    for row in iou:
        best, minus_g = max(((row[g], -g) for g in free), default=(-1.0, 0))
        right.append(best >= threshold)
        if best >= threshold:
            free.remove(-minus_g)
    return right


def match_thumos(iou: Sequence[Sequence[float]], threshold: float) -> list[bool]:
    """Tell which of D detections, by descending score, are right, given their IoU with G truths.

    Each truth, in the order given, takes the free detection that overlaps it most, if *above* the threshold,
    whatever its score.
    """
    free = set(range(len(iou)))
    right = [False] * len(iou)
    for g in range(len(iou[0])):
        best, minus_d = max(((iou[d][g], -d) for d in free), default=(-1.0, 0))
        if best > threshold:
            right[-minus_d] = True
            free.remove(-minus_d)
    return right
