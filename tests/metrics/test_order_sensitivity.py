"""Order sensitivity against loops over frames, and methods whose answer is known."""

import itertools

import pytest
import torch
from faithfulness_toys import C, GradientTimesInput, H, T, Toy, W, brightness, clips

from captum_ext.metrics import OrderSensitivity
from captum_ext.metrics.functional import map_correlation, order_sensitivity

F64 = torch.float64
X = clips(0, 3, dtype=F64)


def mean_of_frames(x):
    return x.mean((1, 2, 3, 4))


def positions(x, target):
    """Marks later frames, whatever they show."""
    return torch.arange(float(x.shape[2]), dtype=x.dtype).expand(len(x), -1)


@pytest.mark.parametrize("order", ["shuffle", "reverse"])
@pytest.mark.parametrize("similarity", ["spearman", "pearson"])
def test_it_follows_each_frame_to_its_place(order, similarity):
    model = Toy(F64)
    explain = GradientTimesInput(model)
    given = []

    def spy(x, target):
        given.append(x.clone())
        return explain(x, target)

    target = torch.tensor([0, 5, 2])
    found = order_sensitivity(model, spy, X, target, order=order, similarity=similarity)
    original, reordered = given
    # Read off the clips themselves which frame went where.
    place = {
        t: next(u for u in range(T) if torch.equal(original[:, :, u], reordered[:, :, t])) for t in range(T)
    }
    assert sorted(place.values()) == list(range(T))
    assert any(t != u for t, u in place.items())
    if order == "reverse":
        assert place == {t: T - 1 - t for t in range(T)}
    maps, moved = explain(original.clone(), target), explain(reordered.clone(), target)
    back = torch.zeros(3, T, dtype=F64)
    for t, u in place.items():
        back[:, u] = moved[:, t].sum((1, 2))
    expected = 1 - map_correlation(maps.sum((2, 3)), back, similarity)
    assert torch.allclose(found.maps, expected, atol=1e-12, rtol=0)
    with torch.no_grad():
        change = model(reordered).softmax(1) - model(original).softmax(1)
    assert torch.allclose(found.output, change.gather(1, target[:, None])[:, 0].abs(), atol=1e-12, rtol=0)
    assert (found.output > 1e-3).all()


@pytest.mark.parametrize("order", ["shuffle", "reverse"])
def test_a_method_that_looks_at_each_frame_by_itself_has_0(order):
    change = order_sensitivity(mean_of_frames, brightness, X, order=order, score="logit")
    assert change.maps.tolist() == [0, 0, 0]
    assert (change.output < 1e-12).all()


def test_a_method_that_says_nothing_has_0():
    change = order_sensitivity(
        mean_of_frames, lambda x, target: torch.full((len(x), T, H, W), 0.1), X, score="logit"
    )
    assert change.maps.tolist() == [0, 0, 0]


def test_a_method_that_marks_positions_has_2_when_frames_are_reversed():
    change = order_sensitivity(mean_of_frames, positions, X, order="reverse", score="logit")
    assert change.maps.tolist() == pytest.approx([2, 2, 2], abs=1e-12)


def test_positions_have_1_on_average_over_all_orders():
    scores = torch.tensor([0.0, 1.0, 3.0, 2.0], dtype=F64)
    changes = [
        1 - map_correlation(scores[None], scores[list(order)][None])
        for order in itertools.permutations(range(4))
    ]
    assert torch.cat(changes).mean().item() == pytest.approx(1, abs=1e-12)


def test_a_shuffle_moves_frames_even_of_the_shortest_clips_and_depends_on_seed_and_length_only():
    orders = {}
    for seed in range(8):
        for n, t in ((1, 2), (3, 2), (2, 6)):
            given = []
            x = torch.arange(float(t)).view(1, 1, t, 1, 1).expand(n, 1, t, 1, 1)
            order_sensitivity(
                mean_of_frames,
                lambda x, target, given=given: given.append(x[0].flatten().tolist()) or x[:, 0],
                x,
                seed=seed,
                score="logit",
            )
            assert given[1] != given[0] == sorted(given[1])
            assert orders.setdefault((seed, t), given[1]) == given[1]
    assert len({tuple(order) for (_, t), order in orders.items() if t == 6}) > 3


def test_the_metric_tells_the_change_of_the_output_beside_that_of_the_maps():
    metric = OrderSensitivity(model := Toy(F64), GradientTimesInput(model), order="reverse")
    metric.update(X, [0, 5, 2])
    metric.update(X[:1], 3)
    first = order_sensitivity(model, GradientTimesInput(model), X, [0, 5, 2], order="reverse")
    second = order_sensitivity(model, GradientTimesInput(model), X[:1], 3, order="reverse")
    assert metric.compute().item() == pytest.approx(torch.cat([first.maps, second.maps]).mean().item())
    assert metric.output_change() == pytest.approx(torch.cat([first.output, second.output]).mean().item())
    assert metric.summary().chance == 1
    assert "order='reverse'" in repr(metric)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"clips": X[:, :, :1]}, ValueError, "at least two frames"),
        ({"clips": X[0]}, ValueError, r"\(N, C, T, H, W\)"),
        ({"explanation_func": lambda x, k: x}, ValueError, "sum over channels first"),
        ({"explanation_func": lambda x, k: x[:, 0, :-1]}, ValueError, f"T = {T}"),
        ({"order": "sort"}, ValueError, "'sort'"),
        ({"similarity": "ssim"}, ValueError, "'ssim'"),
        ({"score": "softmax"}, ValueError, "'softmax'"),
        ({"target": 0}, ValueError, "leave target out"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, error, message):
    arguments = {
        "forward_func": mean_of_frames,
        "explanation_func": brightness,
        "clips": X,
        "score": "logit",
        **change,
    }
    with pytest.raises(error, match=message):
        order_sensitivity(**arguments)


def test_shapes_are_all_different():
    assert X.shape == (3, C, T, H, W)
    assert len({C, T, H, W}) == 4
