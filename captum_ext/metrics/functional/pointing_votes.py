"""Who votes in the temporal pointing game, if videos are cut into clips and actions span several of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from captum_ext._series import check_series
from captum_ext.metrics.functional.spans import check_spans
from captum_ext.metrics.functional.video_ids import check_labels, video_ids

PointingConvention = Literal["pairs", "pairs-any-interval", "best-clip", "clips", "any-clip"]
N_PAIR_COLUMNS = 7
_NOWHERE = -1.0  # where a constant series points


@dataclass(frozen=True, eq=False)
class PointingVotes:
    """The votes of a temporal pointing game.

    Attributes:
        hits (Tensor): True for a hit, bool, (V,).
        chance (Tensor): Probability that uniformly random points score that hit, float64, (V,).
        videos (Tensor): Number of the video of each vote, int64, (V,); votes of one video are not
            independent of each other.
    """

    hits: Tensor
    chance: Tensor
    videos: Tensor

    @property
    def accuracy(self) -> float:
        """Hits / votes, 0..1; NaN without votes."""
        return float(self.hits.double().mean())


def temporal_pointing_votes(
    scores: Tensor,
    spans: Tensor | Sequence[Tensor],
    convention: PointingConvention = "best-clip",
    videos: Tensor | Sequence[int] | Sequence[str] | None = None,
    starts: Tensor | None = None,
    labels: Tensor | None = None,
) -> PointingVotes:
    """Play the temporal pointing game on clips that may be windows of longer videos.

    Each clip points at its frame of highest score, the earliest on ties; a constant series points nowhere. An
    annotation belongs to a clip if they share a frame. The paper does not say what has a vote, and
    the choice moves the accuracy of a random point by up to 15 points:

    ====  ========================  ===========================================  ===========================
    ..    convention                one vote per                                 hit if
    ====  ========================  ===========================================  ===========================
    A     ``"pairs"``               annotation and clip it belongs to            the clip points into it
    B     ``"pairs-any-interval"``  annotation and clip it belongs to            the clip points into any
    C     ``"best-clip"``           annotation                                   the clip of largest overlap
                                                                                 points into it
    D     ``"clips"``               clip with an annotation                      it points into any
    E     ``"any-clip"``            annotation                                   any of its clips points
                                                                                 into it
    ====  ========================  ===========================================  ===========================

    "Any" is any annotation of the same video and label. Clips of equal overlap: the earliest counts. An
    annotation that no clip shares a frame with has no vote.

    Args:
        scores (Tensor): One score per frame of each clip.
        spans (Tensor or sequence of Tensor): Annotations of each clip, half-open ``[start, end)`` in frames.
            Without ``videos``: of the clip, inside it. With ``videos``: *all* annotations of the clip's video
            and label, in frames of the video, whether the clip meets them or not. Equal ones are one.
        convention (str): What has a vote, see above.
        videos (Tensor or sequence, optional): Id of the video of each clip, whole numbers or names. Default:
            every clip is a video of its own.
        starts (Tensor, optional): First frame of each clip in its video; needed with ``videos``.
        labels (Tensor, optional): Class of each row of scores, for videos that are scored for several.

    Shape:
        - scores: (N, T)
        - spans: (N, 2), or N times (S_n, 2)
        - videos, starts, labels: (N,)
        - result: V votes

    Returns:
        PointingVotes: Hits and their chance, vote by vote, sorted by video. A clip given twice votes once.

    Raises:
        TypeError: If the scores are not floating point, or spans, starts or labels not integers.
        ValueError: If shapes do not match, a value is bad, or one clip is given twice with different scores.

    Example:
        >>> scores = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])  # frames 0..3 and 4..7
        >>> action = [torch.tensor([[3, 6]])] * 2  # 1 frame of the first clip, 2 of the second
        >>> votes = temporal_pointing_votes(
        ...     scores, action, videos=["a", "a"], starts=torch.tensor([0, 4]))
        >>> votes.hits, votes.chance
        (tensor([False]), tensor([0.5000], dtype=torch.float64))

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 5.2: "For each ground-truth annotation
        we check if the detected peak is within its boundaries."
    """
    check_convention(convention)
    return count_votes(clip_annotation_pairs(scores, spans, videos, starts, labels), convention)


def check_convention(convention: str) -> None:
    """Refuse a convention that is not one of the five."""
    if convention not in get_args(PointingConvention):
        names = ", ".join(repr(name) for name in get_args(PointingConvention))
        raise ValueError(f"convention must be one of {names}, got {convention!r}.")


def clip_annotation_pairs(
    scores: Tensor,
    spans: Tensor | Sequence[Tensor],
    videos: Tensor | Sequence[int] | Sequence[str] | None,
    starts: Tensor | None,
    labels: Tensor | None,
) -> Tensor:
    """List every clip with every annotation it shares a frame with, (P, 7), all in frames of the video.

    Columns: video, label, start and end of the annotation, first frame and length of the clip, frame that the
    clip points at (-1 for nowhere).
    """
    check_series(scores)
    n_clips, n_frames = scores.shape
    if (videos is None) != (starts is None):
        raise ValueError(
            "videos and starts belong together: the id of each clip's video and its first frame there."
        )
    if len(spans) != n_clips:
        raise ValueError(f"spans must hold one entry per clip: scores have N = {n_clips}, got {len(spans)}.")
    if videos is None or starts is None:
        limit, ids, first = n_frames, torch.arange(n_clips), torch.zeros(n_clips)
    else:
        check_labels(starts, n_clips, None, "starts")  # whole numbers from 0, one per clip
        limit, ids, first = None, video_ids(videos, n_clips), starts
    if labels is not None:
        check_labels(labels, n_clips, None)
    if isinstance(spans, Tensor):
        check_spans(spans, limit)
        spans = list(spans[:, None])
    for clip, clip_spans in enumerate(spans):
        check_spans(clip_spans, limit, f"spans[{clip}]")

    scores = scores.detach()
    first = first.to(scores.device, torch.float64)
    constant = scores.amax(dim=1) == scores.amin(dim=1)
    point = torch.where(constant, _NOWHERE, first + scores.argmax(dim=1))
    clips = torch.stack(
        [
            ids.to(scores.device, torch.float64),
            torch.zeros_like(first) if labels is None else labels.to(scores.device, torch.float64),
            first,
            torch.full_like(first, n_frames),
            point,
        ],
        dim=1,
    )
    owner = torch.repeat_interleave(torch.tensor([len(clip_spans) for clip_spans in spans]))
    clips = clips.cpu()[owner]
    annotations = torch.cat([clip_spans.detach().cpu().double() for clip_spans in spans])
    pairs = torch.cat([clips[:, :2], annotations, clips[:, 2:]], dim=1)
    start, end = clips[:, 2], clips[:, 2] + clips[:, 3]
    return pairs[(annotations[:, 0] < end) & (annotations[:, 1] > start)]


class _Clip(NamedTuple):
    video: float
    label: float
    start: float
    length: float


class _Annotation(NamedTuple):
    video: float
    label: float
    start: float
    end: float


def count_votes(pairs: Tensor, convention: PointingConvention) -> PointingVotes:
    """Count the votes of all pairs of clip and annotation, as from :func:`clip_annotation_pairs`."""
    points: dict[_Clip, float] = {}
    annotations_of: dict[_Clip, list[_Annotation]] = defaultdict(list)
    clips_of: dict[_Annotation, list[_Clip]] = defaultdict(list)
    # Sorted, so that nothing depends on who saw what first; equal rows once.
    for video, label, start, end, first, length, point in sorted({tuple(row) for row in pairs.tolist()}):
        clip, annotation = _Clip(video, label, first, length), _Annotation(video, label, start, end)
        if points.setdefault(clip, point) != point:
            raise ValueError(
                f"the clip of frames {first:.0f} to {first + length:.0f} of one video was given twice and "
                f"points at frame {points[clip]:.0f} and at {point:.0f}; "
                "if it was scored for several classes, tell them apart by labels."
            )
        annotations_of[clip].append(annotation)
        clips_of[annotation].append(clip)

    def inside(clip: _Clip, annotation: _Annotation) -> bool:
        return annotation.start <= points[clip] < annotation.end

    def inside_any(clip: _Clip) -> bool:
        return any(inside(clip, annotation) for annotation in annotations_of[clip])

    def share_of_all(clip: _Clip) -> float:
        return _frames_covered(clip, annotations_of[clip]) / clip.length

    votes: list[tuple[float, bool, float]]
    if convention == "pairs":
        votes = [(a.video, inside(c, a), _share(c, a)) for a, clips in clips_of.items() for c in clips]
    elif convention == "pairs-any-interval":
        votes = [(a.video, inside_any(c), share_of_all(c)) for a, clips in clips_of.items() for c in clips]
    elif convention == "best-clip":
        best = [(a, _best(clips, a)) for a, clips in clips_of.items()]
        votes = [(a.video, inside(c, a), _share(c, a)) for a, c in best]
    elif convention == "clips":
        votes = [(c.video, inside_any(c), share_of_all(c)) for c in annotations_of]
    else:
        votes = [
            (a.video, any(inside(c, a) for c in clips), 1 - prod(1 - _share(c, a) for c in clips))
            for a, clips in clips_of.items()
        ]
    votes.sort(key=lambda vote: vote[0])
    videos = torch.tensor([video for video, *_ in votes], dtype=torch.float64)
    return PointingVotes(
        hits=torch.tensor([hit for _, hit, _ in votes], dtype=torch.bool),
        chance=torch.tensor([chance for *_, chance in votes], dtype=torch.float64),
        videos=torch.unique(videos, return_inverse=True)[1],
    )


def _overlap(clip: _Clip, annotation: _Annotation) -> float:
    return min(clip.start + clip.length, annotation.end) - max(clip.start, annotation.start)


def _best(clips: list[_Clip], annotation: _Annotation) -> _Clip:
    return max(clips, key=lambda clip: _overlap(clip, annotation))


def _share(clip: _Clip, annotation: _Annotation) -> float:
    return _overlap(clip, annotation) / clip.length


def _frames_covered(clip: _Clip, annotations: list[_Annotation]) -> float:
    """Frames of the clip in at least one annotation."""
    covered, reached = 0.0, clip.start
    for annotation in sorted(annotations):
        start, end = max(reached, annotation.start), min(annotation.end, clip.start + clip.length)
        covered += max(0.0, end - start)
        reached = max(reached, end)
    return covered
