import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.metrics.functional import frames_inside, temporal_pointing_chance, temporal_pointing_game

span_in_9 = st.tuples(st.integers(0, 8), st.integers(1, 9)).map(lambda s: (s[0], min(9, s[0] + s[1])))


def one_hot_series(n_frames: int) -> torch.Tensor:
    """Every frame of the clip pointed at once: (T, T)."""
    return torch.eye(n_frames)


@given(st.lists(span_in_9, min_size=1, max_size=3))
def test_chance_is_the_mean_over_all_points(spans):
    spans = torch.tensor(spans)
    hits = temporal_pointing_game(one_hot_series(9), [spans] * 9)
    chance = temporal_pointing_chance([spans], 9)
    assert chance.item() == hits.double().mean().item()
    covered = {t for s, e in spans.tolist() for t in range(s, e)}
    assert hits.tolist() == [t in covered for t in range(9)]


small_scores = st.lists(st.integers(-2, 2), min_size=9, max_size=9)


@given(st.lists(st.tuples(small_scores, span_in_9), min_size=1, max_size=4))
def test_hits_are_those_of_a_loop(clips):
    rows, spans = zip(*clips, strict=True)
    hits = temporal_pointing_game(torch.tensor(rows, dtype=torch.float32), torch.tensor(spans))
    for row, (start, end), hit in zip(rows, spans, hits.tolist(), strict=True):
        assert hit == (start <= row.index(max(row)) < end and len(set(row)) > 1)


def test_convention_spans_are_half_open():
    spans = torch.tensor([[2, 5]]).expand(7, 2)
    assert temporal_pointing_game(one_hot_series(7), spans).tolist() == [False] * 2 + [True] * 3 + [False] * 2


def test_constant_scores_miss_even_a_span_of_the_whole_clip():
    assert not temporal_pointing_game(torch.zeros(1, 4), torch.tensor([[0, 4]])).any()


def test_the_earliest_of_tied_frames_is_pointed_at():
    scores = torch.tensor([[0.0, 1.0, 0.0, 1.0]])
    assert temporal_pointing_game(scores, torch.tensor([[1, 2]])).item()
    assert not temporal_pointing_game(scores, torch.tensor([[3, 4]])).item()


def test_random_scores_reach_chance_and_an_oracle_all():
    generator = torch.Generator().manual_seed(4)
    spans = torch.tensor([[20, 61]]).expand(4000, 2)
    scores = torch.rand(4000, 128, generator=generator)
    chance = temporal_pointing_chance(spans[:1], 128).item()
    assert chance == 41 / 128
    hits = temporal_pointing_game(scores, spans).double().mean().item()
    assert hits == pytest.approx(chance, abs=0.03)  # 4 standard errors
    oracle = scores + frames_inside(spans, 128)
    assert temporal_pointing_game(oracle, spans).all()
    assert not temporal_pointing_game(-oracle, spans).any()


@pytest.mark.parametrize(
    ("spans", "error", "message"),
    [
        (torch.tensor([[0, 5]]), ValueError, "N = 2"),
        (torch.tensor([[0, 5], [3, 3]]), ValueError, "row 1"),
        (torch.tensor([[0, 5], [3, 6]]), ValueError, "<= 5"),
        (torch.tensor([[-1, 5], [3, 4]]), ValueError, "row 0"),
        (torch.tensor([[0.0, 5.0], [3.0, 4.0]]), TypeError, "seconds"),
        ([torch.tensor([[0, 5]]), torch.zeros(0, 2, dtype=torch.int64)], ValueError, r"spans\[1\] is empty"),
        (torch.tensor([[0, 1, 2], [0, 1, 2]]), ValueError, "shape"),
        ([[0, 5], [1, 3]], TypeError, "list"),
    ],
)
def test_bad_spans_are_refused_by_row(spans, error, message):
    with pytest.raises(error, match=message):
        temporal_pointing_game(torch.rand(2, 5), spans)


def test_no_clips_are_refused():
    with pytest.raises(ValueError, match="no clips"):
        temporal_pointing_game(torch.zeros(0, 5), [])
    with pytest.raises(ValueError, match="no clips"):
        temporal_pointing_chance([], 5)


def test_nan_scores_are_refused():
    scores = torch.tensor([[0.0, 1.0], [float("nan"), 1.0]])
    with pytest.raises(ValueError, match="clip 1, frame 0 is nan"):
        temporal_pointing_game(scores, torch.tensor([[0, 1], [0, 1]]))
