"""What must hold for any network, on networks drawn at random."""

from __future__ import annotations

import pytest
import torch
from dense_reference import Fn, Gate, Join, assert_engine_follows_the_rule, classifier_on, eb, numbers
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop

settings.register_profile(
    "excitation", max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
SETTINGS = settings.get_profile("excitation")


def conv(bias=True):
    return nn.Conv2d(2, 2, 3, padding=1, bias=bias)


def seq(*layers):
    return nn.Sequential(*layers)


def add(a, b):
    return a + b


# Every layer keeps the shape (2, 3, 3), so that any sequence of them is a network.
LAYERS = {
    "conv": conv,
    "conv, bn": lambda: seq(conv(), nn.BatchNorm2d(2)),
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "leaky": nn.LeakyReLU,
    "relu6": nn.ReLU6,
    "max pool": lambda: nn.MaxPool2d(3, 1, 1),
    "avg pool": lambda: nn.AvgPool2d(3, 1, 1),
    "linear": lambda: nn.Linear(3, 3),
    "group norm": lambda: nn.GroupNorm(1, 2),
    "residual": lambda: Join(add, seq(conv(), nn.BatchNorm2d(2)), nn.Identity()),
    "difference": lambda: Join(lambda a, b: a - b, conv(), nn.Tanh()),
    "cat and mix": lambda: seq(
        Join(lambda a, b: torch.cat([a, b], 1), conv(), nn.Identity(), moves=True), nn.Conv2d(4, 2, 1)
    ),
    "gate": lambda: Gate(lambda v, g: v * g, nn.Identity(), seq(conv(), nn.Sigmoid())),
    "squeeze": lambda: Gate(lambda v, g: v * g, conv(), seq(nn.AdaptiveAvgPool2d(1), nn.Sigmoid())),
    "scale": lambda: Fn("affine", lambda x: x * -1.5),
    "transpose": lambda: Fn("move", lambda x: x.transpose(2, 3)),
    "roll": lambda: Fn("move", lambda x: x.roll(1, 2)),
    "dropout": nn.Dropout,
}
CONSERVING = {
    "conv, relu": lambda: seq(conv(False), nn.ReLU()),
    "conv": lambda: conv(False),
    "relu": nn.ReLU,
    "max pool": lambda: nn.MaxPool2d(3, 1, 1),
    "avg pool": lambda: nn.AvgPool2d(3, 1, 1),
    "residual": lambda: seq(Join(add, conv(False), nn.Identity()), nn.ReLU()),
    "cat and mix": lambda: seq(
        Join(lambda a, b: torch.cat([a, b], 1), conv(False), nn.ReLU(), moves=True),
        nn.Conv2d(4, 2, 1, bias=False),
    ),
    "gate": lambda: Gate(lambda v, g: v * g, nn.Identity(), seq(conv(), nn.Sigmoid())),
    "scale": lambda: Fn("affine", lambda x: x * 0.5),
    "roll": lambda: Fn("move", lambda x: x.roll(1, 2)),
}
CHAIN = ("conv, relu", "conv", "relu", "max pool", "avg pool", "roll")
names = st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=5)
conserving = st.lists(st.sampled_from(sorted(CONSERVING)), min_size=1, max_size=5)
chains = st.lists(st.sampled_from(CHAIN), min_size=1, max_size=5)
seeds = st.integers(0, 1000)
treatments = st.sampled_from(["support", "clamp"])


def network(names, seed, layers=LAYERS, n=2, signed=True):
    x = numbers(n, 2, 3, 3, signed=signed, seed=seed)
    return classifier_on(seq(*[layers[name]() for name in names]), x, seed=seed), x


@SETTINGS
@given(names, seeds, treatments)
def test_random_networks_follow_the_rule(names, seed, negative):
    net, x = network(names, seed, n=1)
    assert_engine_follows_the_rule(net, x, negative)


@SETTINGS
@given(names, seeds, treatments)
def test_mass_is_a_distribution_less_what_is_dropped(names, seed, negative):
    net, x = network(names, seed, n=3)
    maps, delta = ExcitationBackprop(net, negative=negative).attribute(
        x, target=0, return_convergence_delta=True
    )
    assert maps.min() >= -1e-15
    assert delta.min() >= -1e-12
    assert delta.max() <= 1 + 1e-12
    torch.testing.assert_close(maps.sum((1, 2, 3)) + delta, torch.ones(3).double(), rtol=0, atol=1e-12)


@SETTINGS
@given(conserving, seeds, st.booleans())
def test_relu_networks_without_biases_drop_nothing_below_a_positive_logit(names, seed, signed):
    net, x = network(names, seed, CONSERVING, n=1, signed=signed)
    net[-1].bias.data.zero_()
    assume(net(x)[0, 1] > 1e-6)
    assert abs(float(eb(net, x).sum()) - 1) < 1e-9


@SETTINGS
@given(chains, seeds, st.floats(0.01, 100.0))
def test_scaling_the_weights_of_a_layer_changes_nothing(names, seed, factor):
    net, x = network(names, seed, CONSERVING)
    before = eb(net, x)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data.mul_(factor)
            torch.testing.assert_close(eb(net, x), before, rtol=1e-9, atol=1e-9)


@SETTINGS
@given(names, seeds, treatments)
def test_no_example_influences_another(names, seed, negative):
    net, x = network(names, seed, n=3)
    together = eb(net, x, negative=negative)
    alone = torch.cat([eb(net, row[None], negative=negative) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
    others = x.clone()
    others[1:] = 1000 * numbers(2, 2, 3, 3, seed=seed + 7)
    torch.testing.assert_close(eb(net, others, negative=negative)[0], together[0], rtol=1e-9, atol=1e-12)


@SETTINGS
@given(names, seeds, st.booleans())
def test_recording_leaves_every_value_as_it_is(names, seed, contrastive):
    net, x = network(names, seed)
    outputs = []
    plain = net(x)
    handle = net.register_forward_hook(lambda m, i, output: outputs.append(output.detach().clone()))
    ExcitationBackprop(net).attribute(x, target=1, contrastive=contrastive)
    handle.remove()
    assert torch.equal(outputs[0], plain)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True, "bias": False}], ids=str)
def test_recording_leaves_the_values_of_an_lstm_as_they_are(options):
    lstm, outputs = nn.LSTM(3, 4, batch_first=True, **options).double(), []
    x = numbers(2, 5, 3)
    net = seq(lstm, Fn("move", lambda states: states[0][:, -1])).eval()
    net.register_forward_hook(lambda m, i, output: outputs.append(output.detach().clone()))
    ExcitationBackprop(net).attribute(x, target=1)
    torch.testing.assert_close(outputs[0], net(x), rtol=1e-14, atol=1e-15)


@SETTINGS
@given(st.permutations(range(3)), seeds, treatments)
def test_permuting_concatenated_operands_permutes_the_map(order, seed, negative):
    branches = [seq(conv(), nn.Tanh()), conv(), nn.Identity()]
    x = numbers(2, 2, 3, 3, seed=seed)

    def net_of(order):
        cat = Join(lambda *abc: torch.cat(abc, 1), *[branches[k] for k in order], moves=True)
        return seq(cat, nn.Conv2d(6, 2, 1), nn.Tanh())

    first = classifier_on(net_of([0, 1, 2]), x, seed=seed)
    second = seq(net_of(order), *first[1:]).double().eval()
    channels = [2 * k + c for k in order for c in range(2)]
    with torch.no_grad():
        second[0][1].weight.copy_(first[0][1].weight[:, channels])
        second[0][1].bias.copy_(first[0][1].bias)
    torch.testing.assert_close(
        eb(second, x, negative=negative), eb(first, x, negative=negative), rtol=1e-9, atol=1e-12
    )
    at_cat = [LayerExcitationBackprop(n, "0.0", negative).attribute(x, target=1) for n in (first, second)]
    torch.testing.assert_close(at_cat[1], at_cat[0][:, channels], rtol=1e-9, atol=1e-12)


@SETTINGS
@given(st.permutations(range(4)), seeds, treatments)
def test_sums_do_not_depend_on_the_order_of_their_operands(order, seed, negative):
    branches = [seq(conv(), nn.Tanh()), conv(), nn.Identity(), seq(conv(), nn.ReLU())]
    x = numbers(2, 2, 3, 3, seed=seed)
    first = classifier_on(seq(Join(lambda *s: sum(s), *branches), nn.Tanh()), x, seed=seed)
    second = seq(seq(Join(lambda *s: sum(s), *[branches[k] for k in order]), nn.Tanh()), *first[1:])
    torch.testing.assert_close(
        eb(second.eval(), x, negative=negative), eb(first, x, negative=negative), rtol=1e-9, atol=1e-12
    )


@SETTINGS
@given(names, names, seeds, treatments)
def test_the_map_at_a_layer_holds_what_the_rest_of_the_network_sends_there(below, above, seed, negative):
    """Above an activation the network can be cut: the layer's map is the input map of what is on top."""
    x = numbers(2, 2, 3, 3, seed=seed)
    bottom, top = ([LAYERS[name]() for name in names] for names in (below, above))
    body = seq(*bottom, nn.Tanh(), nn.Identity(), seq(*top))
    net = classifier_on(body, x, seed=seed)
    cut = len(below) + 1
    found = LayerExcitationBackprop(net, f"0.{cut}", negative).attribute(x, target=1)
    top = seq(net[0][cut + 1], *net[1:])
    expected = eb(top, net[0][: cut + 1](x).detach(), negative=negative)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
