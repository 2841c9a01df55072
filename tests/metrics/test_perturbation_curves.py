"""Deletion and insertion curves against loops over voxels and frames, and known answers."""

import itertools
import math

import pytest
import torch
from faithfulness_toys import N_CLASSES, C, H, T, Toy, W, clips, random_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_ext.metrics.functional import abpc, area_under_curve, deletion_curve, insertion_curve

N = 2
F64 = torch.float64


def blurred(frame):
    """One channel of one frame, pixel by pixel."""
    height, width = frame.shape
    sigma = 0.1 * min(height, width)
    result = torch.zeros_like(frame)
    for y, x in itertools.product(range(height), range(width)):
        total = 0.0
        for v, u in itertools.product(range(height), range(width)):
            weight = math.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * sigma**2))
            result[y, x] += weight * frame[v, u]
            total += weight
        result[y, x] /= total
    return result


def hidden(clip, baseline):
    """A clip (C, T, H, W) with everything hidden."""
    if isinstance(baseline, torch.Tensor):
        return baseline.expand(clip.shape)
    if baseline == "zero":
        return torch.zeros_like(clip)
    if baseline == "mean_frame":
        mean = sum(clip[:, t] for t in range(clip.shape[1])) / clip.shape[1]
        return torch.stack([mean] * clip.shape[1], dim=1)
    return torch.stack(
        [torch.stack([blurred(clip[c, t]) for t in range(clip.shape[1])]) for c in range(clip.shape[0])]
    )


def frozen(clip, kept):
    result = clip.clone()
    for t in range(clip.shape[1]):
        if not kept:
            result[:, t] = clip[:, clip.shape[1] // 2]
        elif t not in kept:
            result[:, t] = clip[:, min(kept, key=lambda other: (abs(other - t), other))]
    return result


def curve_by_loops(model, x, maps, target, unit, baseline, steps, order, score, insert):
    curves = []
    for clip, map_, k in zip(x, maps, target, strict=True):
        if unit == "frame":
            units = list(range(clip.shape[1]))
            value = {t: sum(map_[t].flatten().tolist()) for t in units}
        else:
            units = list(itertools.product(*map(range, clip.shape[1:])))
            value = {u: map_[u].item() for u in units}
        sign = -1 if order == "most_relevant_first" else 1
        places = sorted(units, key=lambda u: (sign * value[u], u))
        curve = []
        for s in range(steps + 1):
            first = places[: math.floor(s * len(units) / steps + 0.5)]
            gone = set(units) - set(first) if insert else set(first)
            if isinstance(baseline, str) and baseline == "freeze":
                shown = frozen(clip, [t for t in units if t not in gone])
            else:
                shown, nothing = clip.clone(), hidden(clip, baseline)
                for u in gone:
                    index = (slice(None), *u) if unit == "voxel" else (slice(None), u)
                    shown[index] = nothing[index]
            scores = model(shown[None])[0]
            if score == "probability":
                scores = scores.exp() / scores.exp().sum()
            curve.append(scores[k].item())
        curves.append(curve)
    return torch.tensor(curves, dtype=F64)


OWN = torch.linspace(-1, 1, C, dtype=F64).view(C, 1, 1, 1)


@pytest.mark.parametrize("insert", [False, True])
@pytest.mark.parametrize("order", ["most_relevant_first", "least_relevant_first"])
@pytest.mark.parametrize("score", ["probability", "logit"])
@pytest.mark.parametrize(
    ("unit", "baseline", "steps"),
    [
        ("voxel", "zero", 7),
        ("voxel", "blur", 4),
        ("voxel", "mean_frame", 60),
        ("voxel", OWN, 1),
        ("frame", "zero", 5),
        ("frame", "blur", 3),
        ("frame", "mean_frame", 5),
        ("frame", "freeze", 5),
        ("frame", OWN, 2),
    ],
)
def test_curves_equal_those_of_loops(unit, baseline, steps, order, score, insert):
    model, x = Toy(F64), clips(3, N, dtype=F64)
    maps = random_maps(4, N, T, H, W, dtype=F64).mul(6).round()  # many ties
    function = insertion_curve if insert else deletion_curve
    options = {"unit": unit, "baseline": baseline, "steps": steps, "order": order, "score": score}
    found = function(model, x, maps, [1, 5], **options, steps_per_eval=3)
    with torch.no_grad():
        expected = curve_by_loops(model, x, maps, [1, 5], *options.values(), insert=insert)
    assert found.shape == (N, steps + 1)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def linear_model(weights):
    def forward(x):
        return (x * weights).sum((1, 2, 3, 4))

    return forward


def test_the_curve_of_a_linear_model_is_what_one_writes_down_by_hand():
    # Contributions 3, -1, 2 of three frames; the map is the contribution.
    x = torch.tensor([3.0, -1.0, 2.0]).view(1, 1, 3, 1, 1)
    forward = linear_model(torch.ones(()))
    curve = deletion_curve(forward, x, x[:, 0], unit="frame", baseline="zero", score="logit")
    assert curve.tolist() == [[4, 1, -1, 0]]
    least = deletion_curve(
        forward, x, x[:, 0], baseline="zero", score="logit", order="least_relevant_first"
    )  # three voxels
    assert least.tolist() == [[4, 5, 3, 0]]
    assert insertion_curve(forward, x, x[:, 0], unit="frame", baseline="zero", score="logit").tolist() == [
        [0, 3, 5, 4]
    ]
    assert abpc(curve, least).item() == pytest.approx((10 - 2) / 3, abs=1e-15)


def test_an_oracle_beats_a_random_map_and_that_beats_the_inverted_oracle():
    weights = torch.randn(C, T, H, W, generator=torch.Generator().manual_seed(5), dtype=F64)
    x = clips(6, 4, dtype=F64)
    oracle = (x * weights).sum(1)
    area = {}
    for name, maps in (
        ("oracle", oracle),
        ("random", random_maps(7, 4, T, H, W, dtype=F64)),
        ("inverted", -oracle),
    ):
        options = {"baseline": "zero", "score": "logit"}
        area[name] = (
            area_under_curve(deletion_curve(linear_model(weights), x, maps, **options)),
            area_under_curve(insertion_curve(linear_model(weights), x, maps, **options)),
        )
    assert (area["oracle"][0] < area["random"][0]).all()
    assert (area["random"][0] < area["inverted"][0]).all()
    assert (area["oracle"][1] > area["random"][1]).all()
    assert (area["random"][1] > area["inverted"][1]).all()


@pytest.mark.parametrize("baseline", ["zero", "blur", "mean_frame", "freeze"])
def test_the_mean_area_between_the_curves_over_all_orders_is_0(baseline):
    # The model is anything but linear; 4! orders of 4 frames.
    def forward(x):
        return (x[:, :, 1:] * x[:, :, :-1]).tanh().sum((1, 2, 3, 4)) + x[:, 0, 0, 1, 1] ** 3

    orders = torch.tensor(list(itertools.permutations(range(4))), dtype=F64)
    x = clips(8, 1, t=4, dtype=F64).expand(24, C, 4, H, W)
    maps = orders[:, :, None, None]
    options = {"unit": "frame", "baseline": baseline, "score": "logit"}
    most = deletion_curve(forward, x, maps, **options)
    least = deletion_curve(forward, x, maps, **options, order="least_relevant_first")
    areas = abpc(most, least)
    assert areas.abs().max() > 0.01  # the orders differ
    assert areas.mean().abs() < 1e-12


def test_a_constant_map_has_no_area_between_its_curves():
    model, x = Toy(F64), clips(9, N, dtype=F64)
    maps = torch.full((N, 2, 1, 3), 0.1, dtype=F64)  # resized, with rounding
    most = deletion_curve(model, x, maps, 2, steps=9)
    assert torch.equal(most, deletion_curve(model, x, maps, 2, steps=9, order="least_relevant_first"))
    assert abpc(most, most).tolist() == [0, 0]
    assert most.std() > 0


@pytest.mark.parametrize("unit", ["voxel", "frame"])
def test_equal_values_go_in_the_order_of_their_places(unit):
    seen = []

    def forward(x):
        seen.append(x.clone())
        return x.sum((1, 2, 3, 4))

    x = torch.ones(1, C, T, H, W)
    maps = torch.zeros(1, T, H, W)
    maps[0, 3] = 1.0
    steps = T if unit == "frame" else T * H * W
    deletion_curve(forward, x, maps, unit=unit, baseline="zero", steps=steps, score="logit")
    gone = [int((a - b).flatten(2).sum(1).argmax()) for a, b in itertools.pairwise(seen)]
    per_frame = 1 if unit == "frame" else H * W
    first = range(3 * per_frame, 4 * per_frame)
    rest = [u for u in range(T * per_frame) if u not in first]
    expected = [*first, *rest]
    assert gone == [u * H * W for u in expected] if unit == "frame" else gone == expected


@pytest.mark.parametrize(
    ("unit", "baseline"),
    [
        *itertools.product(["voxel", "frame"], ["zero", "blur", "mean_frame"]),
        ("frame", "freeze"),
    ],
)
def test_the_ends_are_the_clip_and_the_baseline_whatever_the_map(unit, baseline):
    model, x = Toy(F64), clips(10, N, dtype=F64)
    ends = []
    for seed in (1, 2):
        for function in (deletion_curve, insertion_curve):
            curve = function(
                model,
                x,
                random_maps(seed, N, T, H, W),
                3,
                unit=unit,
                baseline=baseline,
                score="logit",
                steps=2,
            )
            ends.append(curve[:, [0, -1]] if function is deletion_curve else curve[:, [-1, 0]])
    for pair in ends[1:]:
        assert torch.allclose(pair, ends[0], rtol=1e-12, atol=0)
    with torch.no_grad():
        assert torch.allclose(ends[0][:, 0], model(x)[:, 3], rtol=1e-12, atol=0)


def test_a_frozen_clip_without_a_frame_left_shows_its_middle_frame():
    x = torch.arange(float(T)).view(1, 1, T, 1, 1).expand(1, C, T, H, W)
    curve = deletion_curve(
        lambda x: x[:, 0, 0, 0, 0], x, torch.rand(1, T, H, W), unit="frame", baseline="freeze", score="logit"
    )
    assert curve[0, -1] == T // 2


def test_a_deleted_frame_freezes_at_the_earlier_of_two_neighbours_alike_near():
    x = torch.arange(float(T)).view(1, 1, T, 1, 1)
    maps = torch.tensor([0.0, 1.0, 5.0, 1.0, 0.0]).view(1, T, 1, 1)
    seen = []
    deletion_curve(
        lambda x: seen.append(x[0].flatten().tolist()) or x.sum((1, 2, 3, 4)),
        x, maps, unit="frame", baseline="freeze", score="logit",
    )  # fmt: skip
    assert seen == [
        [0, 1, 2, 3, 4],
        [0, 1, 1, 3, 4],
        [0, 0, 3, 3, 4],
        [0, 0, 0, 4, 4],
        [4, 4, 4, 4, 4],
        [2, 2, 2, 2, 2],
    ]


@given(
    st.lists(st.integers(-2, 2), min_size=6, max_size=6),
    st.integers(1, 6),
    st.integers(1, 8),
    st.sampled_from(["zero", "mean_frame", "freeze"]),
)
@settings(max_examples=40, deadline=None)
def test_steps_per_eval_and_the_other_clips_of_a_batch_change_nothing(values, steps, per_eval, baseline):
    x = torch.stack([torch.linspace(-1, 2, 6), torch.linspace(3, 1, 6)]).double().view(2, 1, 6, 1, 1)
    maps = torch.tensor([values, values[::-1]], dtype=F64).view(2, 6, 1, 1)

    def forward(x):
        return (x.flatten(1).cumsum(1) ** 2).sum(1)

    options = {"unit": "frame", "baseline": baseline, "steps": steps, "score": "logit"}
    together = deletion_curve(forward, x, maps, **options, steps_per_eval=per_eval)
    alone = [deletion_curve(forward, x[n : n + 1], maps[n : n + 1], **options) for n in range(2)]
    assert torch.equal(together, torch.cat(alone))


def test_the_model_sees_no_more_clips_at_once_than_asked():
    sizes = []
    deletion_curve(
        lambda x: sizes.append(len(x)) or x.sum((1, 2, 3, 4)),
        clips(0, 3), random_maps(0, 3, T, H, W), steps=7, steps_per_eval=3, score="logit",
    )  # fmt: skip
    assert sizes == [9, 9, 6]


def test_a_coarse_map_ranks_voxels_as_the_same_map_resized():
    model, x = Toy(F64), clips(11, N, dtype=F64)
    coarse = random_maps(12, N, 3, 2, 2)
    fine = nn.functional.interpolate(coarse[:, None], size=(T, H, W), mode="trilinear")[:, 0]
    assert torch.equal(
        deletion_curve(model, x, coarse, 0, steps=15), deletion_curve(model, x, fine, 0, steps=15)
    )


def test_values_that_resizing_makes_unequal_by_rounding_still_count_as_equal():
    maps = torch.full((1, 2, 2, 3), 0.3, dtype=F64)
    maps[0, 0, 0, 0] = 1.0
    resized = nn.functional.interpolate(maps[:, None], size=(T, H, W), mode="trilinear").flatten()
    background = [place for place, value in enumerate(resized.tolist()) if abs(value - 0.3) < 1e-9]
    assert len({resized[place].item() for place in background}) > 1
    seen = []
    deletion_curve(
        lambda x: seen.append(x.flatten()) or x.sum((1, 2, 3, 4)),
        torch.ones(1, 1, T, H, W), maps, baseline="zero", steps=T * H * W, score="logit",
    )  # fmt: skip
    order = [int((a - b).argmax()) for a, b in itertools.pairwise(seen)]
    assert order[-len(background) :] == background


def test_frames_rank_by_the_sum_of_their_map():
    # The mean, the maximum or the values of a pixel would rank these frames otherwise.
    x = torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3, 1, 1).expand(1, 1, 3, 1, 2)
    maps = torch.tensor([[[9.0, -9.0]], [[2.0, 2.0]], [[5.0, -2.0]]])[None]
    curve = deletion_curve(
        lambda x: x.sum((1, 2, 3, 4)), x, maps, unit="frame", baseline="zero", score="logit"
    )
    assert curve.tolist() == [[14, 10, 2, 0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("baseline", ["zero", "blur", "mean_frame"])
def test_the_model_gets_the_dtype_of_the_clips(dtype, baseline):
    def forward(x):
        assert x.dtype == dtype
        return x.flatten(1)[:, :N_CLASSES]

    curve = deletion_curve(
        forward, clips(0, 1, dtype=dtype), random_maps(0, 1, T, H, W).to(dtype), 0, steps=3, baseline=baseline
    )
    assert curve.dtype == F64


X, M = clips(0, N), random_maps(0, N, T, H, W)


def scores(x):
    return x.flatten(1)[:, :N_CLASSES]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clips": X[0]}, ValueError, r"\(N, C, T, H, W\).*\[None\]"),
        ({"clips": X[:0]}, ValueError, "empty axis"),
        ({"clips": X.long()}, TypeError, "int64"),
        ({"clips": torch.full_like(X, math.nan)}, ValueError, "clip 0, frame 0 holds NaN"),
        ({"maps": M[0]}, ValueError, r"maps must have shape \(N, T, h, w\)"),
        ({"maps": M[:1]}, ValueError, "one per clip"),
        ({"maps": torch.zeros(N, T + 1, H, W)}, ValueError, "t <= T"),
        ({"maps": torch.zeros(N, T, W, H)}, ValueError, "larger than frame_size"),
        ({"maps": torch.full_like(M, math.inf)}, ValueError, "maps must be finite"),
        ({"target": None}, ValueError, "target is missing"),
        ({"target": N_CLASSES}, ValueError, f"below K = {N_CLASSES}"),
        ({"target": -1}, ValueError, "from 0"),
        ({"target": [0, 1, 2]}, ValueError, "one per clip"),
        ({"target": 1.0}, TypeError, "class index"),
        ({"unit": "patch"}, ValueError, "'patch'"),
        ({"baseline": "black"}, ValueError, "'black'"),
        ({"baseline": "freeze"}, ValueError, "unit='frame'"),
        ({"baseline": torch.zeros(4)[:3]}, ValueError, "expand to the clips"),
        ({"baseline": torch.tensor(math.nan)}, ValueError, "finite"),
        ({"steps": 0}, ValueError, "at least 1"),
        ({"steps": 61}, ValueError, "number of voxels, 60, got 61"),
        ({"steps": 6, "unit": "frame"}, ValueError, "number of frames, 5, got 6"),
        ({"steps_per_eval": 0}, ValueError, "steps_per_eval"),
        ({"order": "random"}, ValueError, "'random'"),
        ({"score": "softmax"}, ValueError, "'softmax'"),
        ({"forward_func": lambda x: x.sum((1, 2, 3, 4))}, ValueError, "leave target out"),
        ({"forward_func": lambda x: x.sum((1, 2, 3, 4)), "target": None}, ValueError, "score='logit'"),
        ({"forward_func": lambda x: x.flatten(1)[:, :1]}, ValueError, "one class is always 1"),
        ({"forward_func": lambda x: x.flatten(2)}, ValueError, "time step"),
        ({"forward_func": lambda x: scores(x)[:1]}, ValueError, "for N = 2 clips"),
        ({"forward_func": lambda x: scores(x).tolist()}, TypeError, "list"),
        ({"forward_func": lambda x: scores(x) / 0}, ValueError, "NaN or infinite scores"),
    ],
)
@pytest.mark.parametrize("function", [deletion_curve, insertion_curve])
def test_bad_arguments_are_refused_by_name(function, change, error, message):
    arguments = {"forward_func": scores, "clips": X, "maps": M, "target": 0, "steps": 2, **change}
    with pytest.raises(error, match=message):
        function(**arguments)


@pytest.mark.parametrize("baseline", ["mean_frame", "freeze"])
def test_a_single_frame_cannot_be_hidden_by_itself(baseline):
    with pytest.raises(ValueError, match="at least two frames"):
        deletion_curve(scores, X[:, :, :1], M[:, :1], 0, unit="frame", baseline=baseline)
