"""Parameter randomisation against copies of the model made random by hand, and methods that must fail it."""

import copy

import pytest
import torch
from faithfulness_toys import GradientTimesInput, Toy, brightness, clips
from torch import nn

from captum_ext.attr import ExcitationBackprop
from captum_ext.metrics import ParameterRandomization
from captum_ext.metrics.functional import (
    map_correlation,
    parameter_randomization,
    randomized_layers,
)

X = clips(0, 2)
TARGET = torch.tensor([1, 4])


class Spy:
    """Keeps a copy of the parameters at each call."""

    def __init__(self, model):
        self.model = model
        self.seen = []

    def __call__(self, x, target):
        self.seen.append({name: p.detach().clone() for name, p in self.model.named_parameters()})
        return GradientTimesInput(self.model)(x, target)


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_layers_become_random_from_the_top_and_stay_so():
    model = Toy()
    spy = Spy(model)
    curve = parameter_randomization(model, spy, X, TARGET)
    assert curve.layers == ("head", "norm", "conv", "")
    original, head, norm, conv, root = spy.seen
    assert changed(original, head) == {"head.weight", "head.bias"}
    # Zeros stay zeros; ones, which reset_parameters leaves, do not.
    assert changed(head, norm) == {"norm.weight"}
    assert changed(norm, conv) == {"conv.weight", "conv.bias"}
    assert changed(conv, root) == {"scale"}


def test_layers_become_random_one_by_one_when_independent():
    model = Toy()
    spy = Spy(model)
    parameter_randomization(model, spy, X, TARGET, mode="independent")
    original, *after = spy.seen
    assert [changed(original, values) for values in after] == [
        {"head.weight", "head.bias"},
        {"norm.weight"},
        {"conv.weight", "conv.bias"},
        {"scale"},
    ]


@pytest.mark.parametrize("mode", ["cascading", "independent"])
@pytest.mark.parametrize(("similarity", "absolute"), [("spearman", False), ("pearson", True)])
def test_the_curve_compares_the_maps_of_models_with_those_parameters(mode, similarity, absolute):
    model = Toy()
    spy = Spy(model)
    curve = parameter_randomization(
        model, spy, X, TARGET, mode=mode, similarity=similarity, absolute=absolute
    )
    maps = []
    for values in spy.seen:
        twin = copy.deepcopy(model)
        twin.load_state_dict(values, strict=False)
        maps.append(GradientTimesInput(twin)(X.clone(), TARGET))
    expected = [map_correlation(maps[0], other, similarity, absolute) for other in maps[1:]]
    assert torch.equal(curve.similarities, torch.stack(expected, dim=1))
    assert curve.similarities.shape == (2, 4)


def test_a_method_that_never_looks_at_the_model_fails_and_one_that_does_passes():
    model = Toy()
    blind = ParameterRandomization(model, brightness)
    seeing = ParameterRandomization(model, GradientTimesInput(model), absolute=True)
    for metric in (blind, seeing):
        metric.update(X, TARGET)
    assert blind.compute() == 1
    assert set(blind.curve().values()) == {1.0}
    assert seeing.compute() < 0.7
    assert seeing.summary().chance == 0


def test_excitation_backprop_fails_at_the_classifier_without_contrast_and_passes_with_it():
    # The finding of Sixt et al. (ICML 2020), and that no explainer keeps weights of before.
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(120, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 6)
    ).eval()
    eb = ExcitationBackprop(model)
    found = {False: [], True: []}
    for contrastive, similarities in found.items():
        for seed in range(6):
            curve = parameter_randomization(
                model,
                lambda x, target, contrastive=contrastive: eb.attribute(
                    x, target=target, contrastive=contrastive
                ),
                clips(0, 3).abs(),
                2,
                layers=["5"],
                seed=seed,
            )
            similarities.append(curve.similarities.mean().item())
    assert all(0.8 < similarity < 1 for similarity in found[False])
    assert abs(sum(found[True]) / 6) < 0.3


def test_the_metric_tells_the_curve_over_all_clips():
    model = Toy()
    metric = ParameterRandomization(model, GradientTimesInput(model), layers=["head", "conv"])
    assert all(value != value for value in metric.curve().values())
    curves = []
    for seed, n in ((1, 2), (2, 1)):
        metric.update(clips(seed, n), 0)
        curves.append(
            parameter_randomization(
                model, GradientTimesInput(model), clips(seed, n), 0, layers=["head", "conv"]
            ).similarities
        )
    assert list(metric.curve()) == ["head", "conv"]
    assert list(metric.curve().values()) == pytest.approx(torch.cat(curves).mean(0).tolist())
    assert metric.compute().item() == pytest.approx(torch.cat(curves).mean().item())


def test_the_seed_alone_draws_the_parameters():
    model = Toy()
    runs = []
    for global_seed, seed in ((0, 0), (1, 0), (1, 5)):
        torch.manual_seed(global_seed)
        spy = Spy(model)
        parameter_randomization(model, spy, X, TARGET, seed=seed)
        runs.append(spy.seen[-1])
    assert changed(runs[0], runs[1]) == set()
    assert changed(runs[0], runs[2]) == set(runs[0]) - {"norm.bias"}


def test_a_method_that_draws_draws_the_same_each_time():
    model = Toy()

    def noisy(x, target):
        return x.sum(1) + torch.randn(x.shape[0], *x.shape[2:])

    assert (parameter_randomization(model, noisy, X, TARGET).similarities == 1).all()


def test_a_block_is_one_layer_and_the_order_is_the_one_given():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.ReLU(), nn.Linear(3, 2)).eval()
    assert randomized_layers(model) == ("2", "0.1", "0.0")
    assert randomized_layers(model, ["0", "2"]) == ("0", "2")
    spy_seen = []

    def explain(x, target):
        spy_seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return x.sum(1)

    parameter_randomization(model, explain, X, 0, layers=["0", "2"])
    assert changed(spy_seen[0], spy_seen[1]) == {"0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"}
    assert changed(spy_seen[1], spy_seen[2]) == {"2.weight", "2.bias"}


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.top = nn.Linear(4, 4, bias=False)
        self.top.weight = self.first.weight
        self.raw = nn.ParameterList([torch.full((2, 3), 2.0), torch.zeros(3)])
        self.ids = nn.Parameter(torch.arange(3), requires_grad=False)
        self.first.bias.requires_grad_(False)


def test_shared_frozen_and_bare_parameters_are_made_random_once_and_given_back():
    model = Tied().eval()
    seen = []

    def explain(x, target):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return x.sum(1)

    curve = parameter_randomization(model, explain, X, mode="independent")
    assert curve.layers == ("raw", "top", "first")
    original, raw, top, first = seen
    assert changed(original, raw) == {"raw.0"}  # the zeros stay
    assert raw["raw.0"].std() > 0
    assert raw["raw.0"].abs().mean() < 8
    assert changed(original, top) == {"first.weight"}
    assert changed(original, first) == {"first.bias"}
    assert not model.first.bias.requires_grad
    assert model.top.weight is model.first.weight
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, original[name]), name


def test_weights_that_reset_parameters_does_not_reach_are_drawn():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))).eval()
    seen = []

    def explain(x, target):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return x.sum(1)

    parameter_randomization(model, explain, X)
    assert changed(seen[0], seen[-1]) == set(seen[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_any_precision_are_made_random(dtype):
    model = nn.Sequential(nn.Linear(3, 2), nn.LSTM(2, 2)).to(dtype).eval()
    before = copy.deepcopy(model.state_dict())
    curve = parameter_randomization(model, brightness, X)
    assert curve.layers == ("1", "0")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": Toy().train()}, ValueError, "training mode"),
        ({"model": brightness}, TypeError, "function"),
        ({"model": nn.ReLU().eval()}, ValueError, "no floating-point parameters"),
        ({"layers": ["haed"]}, ValueError, r"'haed'; did you mean one of \['head'\]"),
        ({"layers": ["head", "head"]}, ValueError, "an earlier layer"),
        ({"mode": "random"}, ValueError, "'random'"),
        ({"similarity": "ssim"}, ValueError, "'ssim'"),
        ({"clips": X[0]}, ValueError, r"\(N, C, T, H, W\)"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, error, message):
    arguments = {"model": Toy(), "explanation_func": brightness, "clips": X, "target": 0, **change}
    with pytest.raises(error, match=message):
        parameter_randomization(**arguments)


def test_one_module_in_training_mode_is_named():
    model = Toy()
    model.norm.train()
    with pytest.raises(ValueError, match=r"module 'norm' \(BatchNorm3d\)"):
        parameter_randomization(model, brightness, X, 0)
