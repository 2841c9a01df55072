"""Compression curves against loops: which units go at which level, and what is left."""

import math
from itertools import pairwise

import matplotlib
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from torch import nn

from captum_ext.metrics import CompressionResilience
from captum_ext.metrics.functional import compression_curves, normalized_auc, switch_off_levels

matplotlib.use("Agg")

N, U, K = 4, 9, 3
THESIS = [k / 20 for k in range(20)]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(*shape, seed=0):
    mass = normal(*shape, seed=seed).relu() + 0.01 * (normal(*shape, seed=seed + 1) > 0.5)
    mass[:, 0] += 0.1
    return mass / mass.flatten(1).sum(1).reshape(-1, *[1] * (mass.dim() - 1))


def switched_off(p, order, by, level):
    """The set of units that a level switches off, by walking along the order."""
    ranked = sorted(range(len(p)), key=lambda i: -p[i] if order == "most" else p[i])
    if by == "units":
        return set(ranked[: math.floor(level * len(p) + 0.5)])
    off, mass = set(), 0.0
    for unit in ranked:
        mass += p[unit]
        if mass > level + 1e-6:
            break
        if mass > 0:
            off.add(unit)
    return off if level > 0 else set()


@pytest.mark.parametrize("order", ["most", "least"])
@pytest.mark.parametrize("by", ["mass", "units"])
def test_levels_switch_off_what_a_walk_along_the_order_does(order, by):
    p = probabilities(N, U)
    found = switch_off_levels(p, order, by)
    for level in [*THESIS, 0.999, 1.0]:
        for row in range(N):
            off = {i for i in range(U) if found[row, i] <= level}
            assert off == switched_off(p[row].tolist(), order, by, level)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.floats(0, 1))
def test_a_prefix_never_holds_more_than_its_level_and_the_next_unit_would(numbers, level):
    total = sum(numbers) or 1
    p = torch.tensor([numbers], dtype=torch.float64) / total
    for order in ("most", "least"):
        off = (switch_off_levels(p, order) <= level)[0]
        assert p[0][off].sum() <= level + 2e-6
        rest = p[0][~off & (p[0] > 0)]
        if len(rest) and level > 1e-5:
            following = rest.max() if order == "most" else rest.min()
            assert p[0][off].sum() + following > level - 2e-6


def test_convention_at_level_0_all_units_are_on_even_those_without_mass():
    p = torch.tensor([[0.0, 0.0, 1e-9, 0.4, 0.6]])
    for order in ("most", "least", "random"):
        for by in ("mass", "units"):
            assert (switch_off_levels(p, order, by) > 0).all()
    # Units before any mass stay; by number they go first.
    assert (switch_off_levels(p, "least") <= 0.5).tolist() == [[False, False, True, True, False]]
    assert (switch_off_levels(p, "least", "units") <= 0.4).tolist() == [[True, True, False, False, False]]


def test_levels_hold_in_float32_where_sums_round():
    p = torch.full((1, 20), 1 / 20)
    off = switch_off_levels(p)
    assert [int((off <= level).sum()) for level in THESIS] == list(range(20))


def test_an_image_without_excitation_keeps_all_units():
    assert switch_off_levels(torch.zeros(1, 5)).isinf().all()


def test_random_orders_switch_off_every_unit_equally_often_and_exactly_as_many():
    p = probabilities(1, 5).expand(4000, 5)
    off = switch_off_levels(p, "random", generator=torch.Generator().manual_seed(0)) <= 0.4
    assert (off.sum(1) == 2).all()
    assert off.double().mean(0).tolist() == pytest.approx([0.4] * 5, abs=0.03)


def head_of(n_units=U):
    head = nn.Sequential(nn.Linear(n_units, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, K)).double().eval()
    with torch.no_grad():
        for k, parameter in enumerate(head.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=k + 5))
    return head


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize(("order", "by"), [("most", "mass"), ("least", "mass"), ("least", "units")])
def test_curves_equal_running_the_head_on_each_image_without_its_units(order, by, rescale):
    head, h, p = head_of(), normal(N, U).relu(), probabilities(N, U)
    target = torch.tensor([0, 2, 1, 2])
    found = compression_curves(head, h, p, target, THESIS, order, by, rescale)
    for i in range(N):
        for k, level in enumerate(THESIS):
            off = switched_off(p[i].tolist(), order, by, level)
            left = [0.0 if u in off else h[i, u].item() for u in range(U)]
            if rescale and len(off) < U:
                left = [value * U / (U - len(off)) for value in left]
            logits = head(torch.tensor(left, dtype=torch.float64)[None])[0].tolist()
            odds = [math.exp(logit) for logit in logits]
            assert found.probability[i, k].item() == pytest.approx(odds[target[i]] / sum(odds), rel=1e-9)
            assert found.correct[i, k].item() == (logits[target[i]] == max(logits))
            assert found.units_off[i, k].item() == pytest.approx(len(off) / U)
    assert not found.probability.requires_grad


def test_channels_are_units_where_the_excitation_has_no_space():
    head = nn.Sequential(nn.Flatten(), head_of(3 * 2 * 5))
    h, p = normal(N, 3, 2, 5).relu(), probabilities(N, 3)
    found = compression_curves(head, h, p, torch.arange(N) % K, [0.5], by="units")
    for i in range(N):
        left = h[i].clone()
        for channel in switched_off(p[i].tolist(), "most", "units", 0.5):
            left[channel] = 0
        expected = head(left[None]).softmax(1)[0, i % K]
        assert found.probability[i, 0].item() == pytest.approx(expected.item(), rel=1e-12)


def test_elements_of_maps_are_units_where_the_excitation_has_space():
    head = nn.Sequential(nn.Flatten(), head_of(12))
    h, p = normal(N, 2, 2, 3).relu(), probabilities(N, 2, 2, 3)
    target = torch.arange(N) % K
    maps = compression_curves(head, h, p, target, THESIS)
    rows = compression_curves(head[1], h.flatten(1), p.flatten(1), target, THESIS)
    assert torch.equal(maps.probability, rows.probability)


@pytest.mark.parametrize("levels", [[0, 1], [0, 0.1, 0.7], [0.2, 0.25, 0.5, 0.9]])
def test_the_area_is_the_sum_of_trapezoids_over_the_width(levels):
    curves = normal(3, len(levels))
    for row, found in zip(curves.tolist(), normalized_auc(curves, levels).tolist(), strict=True):
        area = sum((b - a) * (row[k] + row[k + 1]) / 2 for k, (a, b) in enumerate(pairwise(levels)))
        assert found == pytest.approx(area / (levels[-1] - levels[0]), rel=1e-12)


def filled(**options):
    metric = CompressionResilience(**options)
    per_image = options.get("scope") != "dataset"
    for seed, n in enumerate((N, 1)):
        p = probabilities(n, U, seed=seed) if per_image else probabilities(1, U)[0]
        metric.update(head_of(), normal(n, U, seed=seed).relu(), p, torch.arange(n) % K)
    return metric


def test_the_metric_is_the_mean_of_curves_and_its_area_that_of_the_mean_curve():
    metric = filled()
    rows = [
        compression_curves(
            head_of(),
            normal(n, U, seed=seed).relu(),
            probabilities(n, U, seed=seed),
            torch.arange(n) % K,
            THESIS,
        )
        for seed, n in enumerate((N, 1))
    ]
    probability = torch.cat([row.probability for row in rows])
    curve = metric.curve()
    assert curve.levels.tolist() == THESIS
    assert torch.allclose(curve.probability, probability.mean(0), rtol=1e-12)
    assert torch.allclose(curve.accuracy, torch.cat([row.correct for row in rows]).double().mean(0))
    assert torch.allclose(curve.units_off, torch.cat([row.units_off for row in rows]).mean(0))
    half = 1.959964 * probability.std(0) / math.sqrt(N + 1)
    assert torch.allclose(curve.low, (probability.mean(0) - half).clamp(0, 1), rtol=1e-6)
    assert torch.allclose(curve.high, (probability.mean(0) + half).clamp(0, 1), rtol=1e-6)
    assert metric.compute().item() == pytest.approx(normalized_auc(curve.probability[None], THESIS).item())


def test_a_data_set_loses_the_same_units_for_all_images():
    seen = []

    class Watched(nn.Module):
        def forward(self, x):
            seen.append(x == 0)
            return torch.zeros(len(x), K).double()

    metric = CompressionResilience(scope="dataset", levels=[0, 0.5], by="units")
    metric.update(
        Watched(), torch.ones(N, U).double(), probabilities(1, U)[0], torch.zeros(N, dtype=torch.int64)
    )
    assert (seen[1] == seen[1][0]).all()
    assert seen[1][0].sum() == 5  # 4.5, rounded up


@pytest.mark.parametrize("scope", ["image", "dataset"])
def test_random_orders_depend_on_the_seed_alone(scope):
    first, again, other = (filled(order="random", scope=scope, seed=seed).compute() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_random_orders_leave_torchs_own_random_numbers_alone():
    head, state = head_of(), torch.get_rng_state()
    metric = CompressionResilience("random")
    metric.update(head, normal(N, U).relu(), probabilities(N, U), torch.arange(N) % K)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_defaults_of_random_are_those_of_the_thesis():
    metric = CompressionResilience("random")
    assert metric.by == "units"
    assert [round(4096 * level) for level in metric.levels] == list(range(0, 4097, 128))


def test_the_curve_is_nan_before_any_image_and_its_interval_before_the_second():
    metric = CompressionResilience()
    assert metric.curve().probability.isnan().all()
    metric.update(head_of(), normal(1, U).relu(), probabilities(1, U), torch.tensor([0]))
    assert not metric.curve().probability.isnan().any()
    assert metric.curve().low.isnan().all()


def test_the_plot_shows_the_curve_on_the_axes_given():
    metric = filled(order="least")
    _, axes = pyplot.subplots()
    _, found = metric.plot(ax=axes)
    assert found is axes
    assert axes.lines[0].get_ydata() == pytest.approx(metric.curve().probability.tolist())
    assert "least relevant" in axes.get_title()
    figure, _ = metric.plot(val=[metric.compute(), metric.compute()])
    assert figure is not axes.figure
    pyplot.close("all")


@pytest.mark.parametrize("order", ["most", "random"])
def test_a_curve_knows_its_area_and_can_be_plotted_without_its_metric(order):
    metric = filled(order=order)
    curve = metric.curve()
    assert curve.area == pytest.approx(metric.compute().item(), rel=1e-12)
    metric.reset()
    figure, axes = curve.plot()
    assert figure is axes.figure
    assert axes.lines[0].get_xdata() == pytest.approx(list(metric.levels))
    assert axes.lines[0].get_ydata() == pytest.approx(curve.probability.tolist())
    assert order in axes.get_title()
    assert ("share of units" in axes.get_xlabel()) == (order == "random")
    pyplot.close("all")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"p": torch.rand(N, U)}, ValueError, "sum to at most 1"),
        ({"p": probabilities(N, U + 1)}, ValueError, r"shape of activations, \(4, 9\)"),
        ({"p": probabilities(N - 1, U)}, ValueError, r"row per example, 4, got shape \(3, 9\)"),
        ({"p": probabilities(N, U)[0]}, ValueError, 'choose scope="dataset"'),
        ({"target": torch.rand(N)}, TypeError, "target must be an integer"),
        ({"target": torch.tensor([0, 1, 2, 3])}, ValueError, r"0\.\.2 \(classes\), got 0\.\.3"),
        ({"target": torch.tensor([0, 1])}, ValueError, r"shape \(4,\)"),
        ({"head": nn.Dropout(0.5)}, ValueError, r"training mode: it \(Dropout\)"),
        ({"head": lambda x: x.sum()}, ValueError, r"logits of shape \(4, K\), got \(\)"),
        ({"head": lambda x: x / 0}, ValueError, "logits that are not finite"),
        ({"h": torch.full((N, U), math.nan)}, ValueError, "activations must be finite"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, error, message):
    arguments = {
        "head": head_of(),
        "h": normal(N, U),
        "p": probabilities(N, U),
        "target": torch.arange(N) % K,
    }
    metric = CompressionResilience()
    with pytest.raises(error, match=message):
        metric.update(*(arguments | change).values())
    assert metric.curve().probability.isnan().all()


def test_bad_options_are_refused_by_name():
    for options, message in (
        ({"order": "best"}, 'order must be "most", "least" or "random"'),
        ({"by": "count"}, 'by must be "mass" or "units"'),
        ({"scope": "batch"}, 'scope must be "image" or "dataset"'),
        ({"levels": [0, 2]}, r"levels must lie in 0\.\.1"),
        ({"levels": [0.5]}, "at least two and rise"),
        ({"levels": [0.5, 0.5]}, "at least two and rise"),
    ):
        with pytest.raises(ValueError, match=message):
            CompressionResilience(**options)
    with pytest.raises(ValueError, match="one p_EB for all images"):
        CompressionResilience(scope="dataset").update(
            head_of(), normal(N, U), probabilities(N, U), torch.arange(N) % K
        )
