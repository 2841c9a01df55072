import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.metrics.functional import frame_auc, frame_auc_chance


def auc_by_pairs(scores: list[float], inside: list[bool]) -> float:
    pairs = [
        1.0 if s > o else 0.5 if s == o else 0.0
        for s, s_in in zip(scores, inside, strict=True)
        if s_in
        for o, o_in in zip(scores, inside, strict=True)
        if not o_in
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


@given(st.lists(st.tuples(st.integers(-2, 2).map(float), st.booleans()), min_size=1, max_size=14))
def test_auc_equals_brute_force_with_ties(frames):
    scores, inside = ([f[i] for f in frames] for i in (0, 1))
    auc = frame_auc(torch.tensor([scores]), torch.tensor([inside])).item()
    expected = auc_by_pairs(scores, inside)
    assert auc == expected or (math.isnan(auc) and math.isnan(expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_auc_equals_brute_force_on_random_scores(dtype):
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(6, 33, generator=generator).to(dtype)
    inside = torch.rand(6, 33, generator=generator) < 0.3
    expected = [auc_by_pairs(*rows) for rows in zip(scores.tolist(), inside.tolist(), strict=True)]
    assert frame_auc(scores, inside).tolist() == expected


def test_constant_scores_are_at_chance():
    inside = torch.tensor([[True, False, False, True, False]])
    assert frame_auc(torch.full((1, 5), 0.3), inside).item() == frame_auc_chance(inside).item() == 0.5


def test_the_right_order_scores_1_and_its_reverse_0():
    inside = torch.arange(10)[None] >= 7
    scores = torch.arange(10.0)[None]
    assert frame_auc(scores, inside).item() == 1
    assert frame_auc(-scores, inside).item() == 0


def test_the_mean_over_all_orders_is_chance():
    inside = torch.tensor([True, False, False, True])
    orders = torch.cartesian_prod(*[torch.arange(4.0)] * 4)
    orders = orders[(orders.sort(dim=1).values == torch.arange(4.0)).all(dim=1)]
    assert len(orders) == 24
    assert frame_auc(orders, inside.expand(24, 4)).mean().item() == pytest.approx(0.5, abs=1e-12)


def test_clips_with_all_or_no_frames_inside_are_nan_and_others_are_not():
    inside = torch.tensor([[True, True], [False, False], [True, False]])
    scores = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    for values in (frame_auc(scores, inside), frame_auc_chance(inside)):
        assert values.isnan().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("scores", "inside", "error", "message"),
    [
        (torch.rand(2, 5), torch.ones(2, 4, dtype=torch.bool), ValueError, r"\(2, 5\), got \(2, 4\)"),
        (torch.rand(2, 5), torch.ones(2, 5), TypeError, "bool"),
        (torch.rand(5), torch.ones(5, dtype=torch.bool), ValueError, "batch axis"),
        (torch.rand(0, 5), torch.ones(0, 5, dtype=torch.bool), ValueError, "no clips"),
        (torch.full((1, 2), float("inf")), torch.ones(1, 2, dtype=torch.bool), ValueError, "finite"),
    ],
)
def test_bad_arguments_are_refused_by_name(scores, inside, error, message):
    with pytest.raises(error, match=message):
        frame_auc(scores, inside)
