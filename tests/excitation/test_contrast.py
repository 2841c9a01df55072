"""Contrastive EB is the difference of two independent runs, one with the classifier's weight negated."""

from __future__ import annotations

import copy

import pytest
import torch
from dense_reference import Fn, eb, explain, numbers, randomize
from torch import nn

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop

BOTH = pytest.mark.parametrize("negative", ["support", "clamp"])


def seq(*layers):
    return nn.Sequential(*layers)


def mean(*axes):
    return Fn("linear", lambda x: x.mean(axes))


def negated(net: nn.Module, name: str) -> nn.Module:
    net = copy.deepcopy(net)
    with torch.no_grad():
        net.get_submodule(name).weight.neg_()
    return net


def at_most_one(mass: torch.Tensor) -> torch.Tensor:
    """Normalise each row to sum 1, rows without mass stay 0."""
    total = mass.flatten(1).sum(1).view(-1, *[1] * (mass.dim() - 1))
    return torch.where(total > 0, mass / total, 0.0)


def two_runs(net: nn.Module, dual: nn.Module, x, target, negative, layer: str):
    """EB(net) - EB(dual), each divided by its mass at ``layer``; four runs that share nothing."""
    maps = []
    for model in (net, dual):
        mass = LayerExcitationBackprop(model, layer, negative).attribute(x, target=target)
        total = mass.flatten(1).sum(1).view(-1, *[1] * (x.dim() - 1))
        maps.append(torch.where(total > 0, eb(model, x, target, negative) / total, 0.0))
    return maps[0] - maps[1]


def ceb(net, x, target=1, negative="support", layer=None):
    return ExcitationBackprop(net, negative, layer).attribute(x, target=target, contrastive=True)


FEATURES = {
    "relu": lambda: [nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten()],
    "tanh": lambda: [nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten()],
    "relu and pool": lambda: [nn.Conv2d(2, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    "bn, relu and mean": lambda: [nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), mean(2, 3)],
    "relu6, max pool": lambda: [nn.Conv2d(2, 3, 2), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten()],
}
SIGNED_SUMS = {
    "mean of tanh": lambda: [nn.Conv2d(2, 3, 2), nn.Tanh(), mean(2, 3)],
    "linear bottleneck": lambda: [nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)],
    "pool of a convolution": lambda: [nn.Conv2d(2, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
}


def classified(layers, x):
    body = randomize(seq(*layers))
    with torch.no_grad():
        width = body(x).shape[1]
    return seq(body, randomize(nn.Linear(width, 3), 1))


def assert_difference_of_two_dense_runs(net, x, negative):
    found = ceb(net, x, negative=negative)
    for row in range(len(x)):
        example, expected = x[row : row + 1], torch.zeros_like(x[:1])
        for sign, model in ((1, net), (-1, negated(net, "1"))):
            # The output unit is the only parent here: the classifier's input holds mass 1, or none.
            expected += sign * explain(model, example, 1, negative)[0]
        torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-9, atol=1e-9)


@BOTH
@pytest.mark.parametrize("features", FEATURES)
def test_contrast_is_the_difference_of_two_dense_runs(features, negative):
    x = numbers(3, 2, 3, 4)
    assert_difference_of_two_dense_runs(classified(FEATURES[features](), x), x, negative)


@BOTH
@pytest.mark.parametrize("features", SIGNED_SUMS)
def test_contrast_above_a_signed_linear_map_is_the_difference_of_two_dense_runs(features, negative):
    """The classifier and the linear map under it are one map in both runs."""
    x = numbers(3, 2, 3, 4)
    assert_difference_of_two_dense_runs(classified(SIGNED_SUMS[features](), x), x, negative)


@BOTH
@pytest.mark.parametrize("features", FEATURES)
def test_contrast_sums_to_zero_where_it_is_taken(features, negative):
    x = numbers(3, 2, 3, 4)
    net = classified(FEATURES[features](), x)
    contrast = LayerExcitationBackprop(net, "0", negative).attribute(x, target=1, contrastive=True)
    dual = negated(net, "1")
    masses = [LayerExcitationBackprop(m, "0", negative).attribute(x, target=1) for m in (net, dual)]
    supported = [mass.sum(1) > 0 for mass in masses]
    both = supported[0] & supported[1]
    assert both.any()
    assert contrast.sum(1)[both].abs().max() < 1e-12
    expected = at_most_one(masses[0]) - at_most_one(masses[1])
    torch.testing.assert_close(contrast, expected, rtol=1e-9, atol=1e-12)


class Stepwise(nn.Module):
    """One classifier, called on every frame; the scores are stacked."""

    def __init__(self, reduce=None):
        super().__init__()
        self.features, self.top, self.reduce = seq(nn.Linear(4, 5), nn.ReLU()), nn.Linear(5, 3), reduce

    def forward(self, x):
        scores = torch.stack([self.top(self.features(frame)) for frame in x.unbind(1)], dim=1)
        return scores if self.reduce is None else self.reduce(scores)


@BOTH
@pytest.mark.parametrize(
    ("reduce", "target"),
    [(None, (2, 1)), (lambda y: y.mean(1), 1), (lambda y: y.sum(1), 0)],
    ids=["one step", "mean of the steps", "sum of the steps"],
)
def test_a_classifier_called_at_every_step_flips_at_every_step(reduce, target, negative):
    net, x = randomize(Stepwise(reduce), 2), numbers(3, 3, 4)
    positive, dual = (eb(m, x, target, negative) for m in (net, negated(net, "top")))
    expected = positive - dual
    torch.testing.assert_close(ceb(net, x, target, negative), expected, rtol=1e-9, atol=1e-12)
    if reduce is None:
        assert (expected[:, :2] == 0).all()


class Tied(nn.Module):
    """The classifier's weight is also a layer further down."""

    def __init__(self, tied: bool):
        super().__init__()
        self.top = nn.Linear(4, 4)
        self.bottom = self.top if tied else nn.Linear(4, 4)

    def forward(self, x):
        return self.top(torch.relu(self.bottom(x)))


@BOTH
def test_tied_weights_elsewhere_do_not_flip(negative):
    tied, apart, x = randomize(Tied(True)), Tied(False).double().eval(), numbers(3, 4)
    apart.top.load_state_dict(tied.top.state_dict())
    apart.bottom.load_state_dict(tied.top.state_dict())
    expected = eb(apart, x, 1, negative) - eb(negated(apart, "top"), x, 1, negative)
    torch.testing.assert_close(ceb(tied, x, 1, negative), expected, rtol=1e-9, atol=1e-12)


@BOTH
@pytest.mark.parametrize("layer", ["1", "3", "4"])
def test_the_contrast_can_be_taken_at_any_layer(layer, negative):
    """Biases drop mass on the way, so each run is normalised to another total."""
    x = numbers(3, 4)
    layers = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Tanh(), nn.Identity(), nn.Linear(6, 3)
    net = randomize(seq(*layers))
    dual = negated(net, "5")
    expected = two_runs(net, dual, x, 2, negative, layer)
    torch.testing.assert_close(ceb(net, x, 2, negative, layer), expected, rtol=1e-9, atol=1e-12)
    there = LayerExcitationBackprop(net, layer, negative, layer).attribute(x, target=2, contrastive=True)
    plus, minus = (
        LayerExcitationBackprop(model, layer, negative).attribute(x, target=2) for model in (net, dual)
    )
    torch.testing.assert_close(there, at_most_one(plus) - at_most_one(minus), rtol=1e-9, atol=1e-12)


def test_nothing_of_the_model_is_negated_for_good():
    x = numbers(2, 2, 3, 4)
    net = classified(FEATURES["relu"](), x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    expected = eb(net, x)
    ceb(net, x)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(eb(net, x), expected)


class Film(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn, self.lstm, self.top = seq(nn.Conv2d(1, 3, 2), nn.ReLU()), nn.LSTM(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        n, _, t = x.shape[:3]
        frames = self.cnn(x.transpose(1, 2).flatten(0, 1)).flatten(1).view(n, t, -1)
        return self.top(self.lstm(frames.transpose(0, 1))[0][-1])


@BOTH
def test_recurrent_contrast_is_the_difference_of_two_runs_at_the_boundary(negative):
    net, x = randomize(Film(), 5), numbers(3, 1, 4, 2, 3)
    found, delta = RecurrentExcitationBackprop(net, "cnn", negative=negative).attribute(
        x, target=1, contrastive=True, return_convergence_delta=True
    )
    layer = [
        RecurrentExcitationBackprop(model, "cnn", negative=negative).attribute(x, target=1)
        for model in (net, negated(net, "top"))
    ]
    torch.testing.assert_close(found, layer[0] - layer[1], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.sum((1, 2, 3, 4)) + delta, torch.zeros(3).double(), rtol=0, atol=1e-12)
    for mass in layer:
        total = mass.sum((1, 2, 3, 4))
        assert ((total - 1).abs().lt(1e-12) | (total == 0)).all()


@BOTH
def test_recurrent_maps_are_normalised_over_time_and_neurons_together(negative):
    net, x = randomize(Film(), 6), numbers(3, 1, 4, 2, 3)
    found = RecurrentExcitationBackprop(net, "cnn", negative=negative).attribute(x, target=1)
    rows = LayerExcitationBackprop(net, "cnn", negative).attribute(x, target=1)
    torch.testing.assert_close(found, at_most_one(rows), rtol=1e-9, atol=1e-12)
