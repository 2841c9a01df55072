"""The temporal pointing game on clips of longer videos: five conventions, by hand and by brute force."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.metrics import TemporalPointingGame
from captum_ext.metrics.functional import (
    either_pointing_chance,
    either_pointing_game,
    temporal_pointing_chance,
    temporal_pointing_game,
    temporal_pointing_votes,
)

CONVENTIONS = ("pairs", "pairs-any-interval", "best-clip", "clips", "any-clip")  # A to E


def pointing_at(points, n_frames):
    return torch.eye(n_frames)[torch.as_tensor(points)]


# Four clips of 10 frames of one video; the second shares frames with two annotations, and two annotations
# reach over two clips: [8, 14) with 2 and 4 frames, [16, 18) with 2, [25, 33) with 5 and 3.
ANNOTATIONS = torch.tensor([[8, 14], [16, 18], [25, 33]])
STARTS = torch.tensor([0, 10, 20, 30])
POINTS = torch.tensor([9, 16, 20, 39])  # into the first, into the second, nowhere, nowhere
BY_HAND = {
    "pairs": (2 / 5, (0.2 + 0.4 + 0.2 + 0.5 + 0.3) / 5),
    "pairs-any-interval": (3 / 5, (0.2 + 0.6 + 0.6 + 0.5 + 0.3) / 5),
    "best-clip": (1 / 3, (0.4 + 0.2 + 0.5) / 3),
    "clips": (2 / 4, (0.2 + 0.6 + 0.5 + 0.3) / 4),
    "any-clip": (2 / 3, ((1 - 0.8 * 0.6) + 0.2 + (1 - 0.5 * 0.7)) / 3),
}


def of_one_video(convention="best-clip", rows=slice(None), metric=None):
    metric = metric or TemporalPointingGame(convention)
    scores = pointing_at(POINTS - STARTS, 10)[rows]
    metric.update(scores, [ANNOTATIONS] * len(scores), ["v"] * len(scores), STARTS[rows])
    return metric


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_each_convention_by_hand(convention):
    metric = of_one_video(convention)
    accuracy, chance = BY_HAND[convention]
    assert metric.compute().item() == pytest.approx(accuracy, abs=1e-15)
    assert metric.summary().chance == pytest.approx(chance, abs=1e-15)
    assert metric.lift() == pytest.approx(accuracy / chance)
    assert metric.summary().n == 1  # video


def test_the_five_conventions_differ_in_that_case():
    assert len({accuracy for accuracy, _ in BY_HAND.values()}) == 5
    assert len({round(chance, 6) for _, chance in BY_HAND.values()}) == 5


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_it_does_not_matter_in_which_updates_the_clips_of_a_video_come(convention):
    metric = of_one_video(convention, rows=slice(2, 4))
    of_one_video(rows=slice(0, 1), metric=metric)
    of_one_video(rows=slice(1, 2), metric=metric)
    assert metric.compute() == of_one_video(convention).compute()
    assert str(metric.summary()) == str(of_one_video(convention).summary())  # NaN equals NaN as text


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_clip_that_comes_twice_counts_once(convention):
    metric = of_one_video(convention)
    of_one_video(rows=slice(1, 3), metric=metric)
    assert metric.compute() == of_one_video(convention).compute()


def test_a_clip_that_comes_twice_with_different_points_is_refused():
    metric = of_one_video()
    metric.update(pointing_at([2], 10), [ANNOTATIONS], ["v"], torch.tensor([10]))
    with pytest.raises(ValueError, match=r"frames 10 to 20 .* frame 12 and at 16"):
        metric.compute()


def test_classes_of_one_clip_are_told_apart_by_labels():
    scores = pointing_at([2, 7], 10)
    spans = torch.tensor([[2, 3], [2, 3]])
    votes = temporal_pointing_votes(
        scores, spans, "clips", videos=[5, 5], starts=torch.tensor([0, 0]), labels=torch.tensor([0, 1])
    )
    assert votes.hits.tolist() == [True, False]
    assert votes.videos.tolist() == [0, 0]


def test_of_clips_with_equal_overlap_the_earliest_votes():
    for points, hit in (([4, 4], True), ([0, 0], False)):  # frame 4 is inside for the first clip only
        scores = pointing_at(points, 5)
        votes = temporal_pointing_votes(
            scores, torch.tensor([[3, 7]] * 2), videos=["v"] * 2, starts=torch.tensor([0, 5])
        )
        assert votes.hits.tolist() == [hit]


def test_an_annotation_without_a_clip_has_no_vote_and_a_clip_without_one_neither():
    scores = pointing_at([0, 0], 5)
    for convention in CONVENTIONS:
        votes = temporal_pointing_votes(
            scores, torch.tensor([[20, 22]] * 2), convention, videos=["v"] * 2, starts=torch.tensor([0, 5])
        )
        assert len(votes.hits) == 0
        assert math.isnan(votes.accuracy)


def test_convention_clips_and_annotations_are_half_open():
    scores = pointing_at([4], 5)  # frame 9 of the video
    for span, expected in (([9, 10], [True]), ([8, 9], [False]), ([10, 12], []), ([2, 5], [])):
        votes = temporal_pointing_votes(scores, torch.tensor([span]), videos=["v"], starts=torch.tensor([5]))
        assert votes.hits.tolist() == expected


def test_a_constant_series_points_nowhere():
    for convention in CONVENTIONS:
        votes = temporal_pointing_votes(
            torch.ones(1, 5), torch.tensor([[0, 9]]), convention, videos=["v"], starts=torch.tensor([2])
        )
        assert votes.hits.tolist() == [False]
        assert votes.chance.tolist() == [1.0]


span = st.tuples(st.integers(0, 9), st.integers(1, 6)).map(lambda s: (s[0], s[0] + s[1]))


def overlaps(clip, annotation):
    return len(set(range(*clip)) & set(range(*annotation)))


def accuracy_by_sets(clips, annotations, points, convention):
    """The table in the docstring, with sets of frames."""
    of_clip = {c: [a for a in annotations if overlaps(c, a)] for c in clips}
    of_annotation = {a: [c for c in sorted(clips) if overlaps(c, a)] for a in annotations}
    of_annotation = {a: found for a, found in of_annotation.items() if found}

    def within(clip, some):
        return any(points[clip] in range(*a) for a in some)

    if convention == "pairs":
        votes = [within(c, [a]) for a, found in of_annotation.items() for c in found]
    elif convention == "pairs-any-interval":
        votes = [within(c, annotations) for found in of_annotation.values() for c in found]
    elif convention == "best-clip":
        votes = []
        for a, found in of_annotation.items():
            most = max(overlaps(c, a) for c in found)
            votes.append(within(next(c for c in found if overlaps(c, a) == most), [a]))
    elif convention == "clips":
        votes = [within(c, annotations) for c, found in of_clip.items() if found]
    else:
        votes = [any(within(c, [a]) for c in found) for a, found in of_annotation.items()]
    return sum(votes) / len(votes) if votes else math.nan


@settings(deadline=None, max_examples=40)
@given(st.sets(st.integers(0, 8), min_size=1, max_size=3), st.sets(span, min_size=1, max_size=4), st.data())
def test_hits_and_chance_are_those_of_all_points(starts, annotations, data):
    n_frames = data.draw(st.integers(2, 4))
    clips = [(start, start + n_frames) for start in starts]  # they may share frames
    spans = [torch.tensor(sorted(annotations))] * len(clips)
    for convention in CONVENTIONS:
        found = []
        for points in itertools.product(range(n_frames), repeat=len(clips)):
            votes = temporal_pointing_votes(
                pointing_at(points, n_frames),
                spans,
                convention,
                videos=[3] * len(clips),
                starts=torch.tensor([start for start, _ in clips]),
            )
            absolute = {clip: clip[0] + point for clip, point in zip(clips, points, strict=True)}
            expected = accuracy_by_sets(clips, sorted(annotations), absolute, convention)
            assert votes.accuracy == pytest.approx(expected, nan_ok=True)
            found.append(votes.accuracy)
        chance = votes.chance.mean().item()
        assert chance == pytest.approx(sum(found) / len(found), nan_ok=True, abs=1e-12)


def test_clips_that_are_whole_videos_agree_with_the_plain_game():
    scores = torch.rand(6, 7, generator=torch.Generator().manual_seed(0))
    spans = torch.tensor([[0, 2], [1, 6], [0, 7], [3, 4], [5, 7], [2, 6]])
    hits, chance = temporal_pointing_game(scores, spans), temporal_pointing_chance(spans, 7)
    for convention in CONVENTIONS:
        votes = temporal_pointing_votes(scores, spans, convention)
        assert votes.hits.tolist() == hits.tolist()
        assert votes.chance.tolist() == pytest.approx(chance.tolist())
        metric = TemporalPointingGame(convention)
        metric.update(scores[:2], spans[:2])
        metric.update(scores[2:], spans[2:])
        assert metric.compute() == hits.double().mean()
        assert metric.summary().n == 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"videos": ["a"]}, ValueError, "belong together"),
        ({"starts": torch.tensor([0])}, ValueError, "belong together"),
        ({"videos": ["a", "b"], "starts": torch.tensor([0])}, ValueError, "1 examples, got 2"),
        ({"videos": "a", "starts": torch.tensor([0])}, TypeError, "videos"),
        ({"videos": [1.5], "starts": torch.tensor([0])}, TypeError, r"1\.5"),
        ({"videos": [2**60], "starts": torch.tensor([0])}, ValueError, "names"),
        ({"videos": ["a"], "starts": torch.tensor([-1])}, ValueError, "starts"),
        ({"videos": ["a"], "starts": torch.tensor([0.0])}, TypeError, "starts"),
        ({"videos": ["a"], "starts": torch.tensor([0]), "labels": torch.tensor([-2])}, ValueError, "labels"),
        ({"convention": "C"}, ValueError, "best-clip"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        temporal_pointing_votes(torch.rand(1, 5), torch.tensor([[0, 2]]), **arguments)


def test_an_unknown_convention_is_refused_when_the_metric_is_built():
    with pytest.raises(ValueError, match="any-clip"):
        TemporalPointingGame("any")


def test_the_interval_takes_videos_and_not_votes_as_independent():
    # 48 videos whose clips all agree: as sure as 48 votes, not as 480.
    many, few = TemporalPointingGame("clips"), TemporalPointingGame("clips")
    for video in range(48):
        points = [1 if video % 3 else 4] * 10
        spans = torch.tensor([[10 * c + 1, 10 * c + 2] for c in range(10)])
        many.update(pointing_at(points, 10), spans, [video] * 10, 10 * torch.arange(10))
        few.update(pointing_at(points[:1], 10), spans[:1], [video], torch.tensor([0]))
    assert many.compute() == few.compute()
    wide, narrow = few.summary(), many.summary()
    assert narrow.n == wide.n == 48
    assert narrow.high - narrow.low == pytest.approx(wide.high - wide.low, rel=0.1)


def test_either_of_two_points_is_an_oracle_with_two_guesses():
    n_frames = 6
    spans = torch.tensor([[1, 3]])
    pairs = list(itertools.product(range(n_frames), repeat=2))
    first, second = (pointing_at(points, n_frames) for points in zip(*pairs, strict=True))
    hits = either_pointing_game(first, second, spans.expand(len(pairs), 2))
    assert hits.tolist() == [bool({a, b} & {1, 2}) for a, b in pairs]
    assert either_pointing_chance(spans, n_frames).item() == pytest.approx(hits.double().mean().item())
    with pytest.raises(ValueError, match="same shape"):
        either_pointing_game(first, second[:, :3], spans.expand(len(pairs), 2))
