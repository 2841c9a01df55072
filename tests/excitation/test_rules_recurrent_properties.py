"""Properties of every recurrent layer over random ones: conservation, linearity, separate examples."""

from __future__ import annotations

import pytest
import torch
from dense_reference import numbers, randomize
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_reference import Net
from torch import nn

from captum_ext.attr import ExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.excitation import Mass, record
from captum_ext.models import ReLULSTM

D = 3

modules = st.builds(
    lambda kind, hidden, layers, both, first, bias: kind(hidden, layers, both, first, bias),
    st.sampled_from(
        [
            lambda h, n, b, f, i: nn.LSTM(D, h, n, bidirectional=b, batch_first=f, bias=i),
            lambda h, n, b, f, i: nn.LSTM(D, h + 1, n, bidirectional=b, batch_first=f, bias=i, proj_size=h),
            lambda h, n, b, f, i: nn.GRU(D, h, n, bidirectional=b, batch_first=f, bias=i),
            lambda h, n, b, f, i: nn.RNN(D, h, n, bidirectional=b, batch_first=f, bias=i),
            lambda h, n, b, f, i: nn.RNN(D, h, n, "relu", bidirectional=b, batch_first=f, bias=i),
        ]
    ),
    *(st.integers(1, 4), st.integers(1, 2), st.booleans(), st.booleans(), st.booleans()),
)
negatives = st.sampled_from(["support", "clamp"])
seeds = st.integers(0, 10_000)
PROFILE = settings(max_examples=40, deadline=None)


def with_states(module, n, seed):
    """Inputs and initial states that all are explained."""
    rows = module.num_layers * (1 + module.bidirectional)
    sizes = [getattr(module, "proj_size", 0) or module.hidden_size]
    sizes += [module.hidden_size] if module.mode == "LSTM" else []
    return tuple(numbers(n, rows, size, seed=seed + k + 1) for k, size in enumerate(sizes))


@PROFILE
@given(modules, negatives, st.integers(1, 5), seeds)
def test_masses_of_inputs_and_states_and_what_was_dropped_sum_to_one(module, negative, t, seed):
    net = randomize(Net(module), seed)
    inputs = (numbers(3, t, D, seed=seed), *with_states(module, 3, seed))
    maps, delta = ExcitationBackprop(net, negative=negative).attribute(
        inputs, target=(t - 1, 1), return_convergence_delta=True
    )
    total = sum(mass.flatten(1).sum(1) for mass in maps)
    torch.testing.assert_close(total + delta, torch.ones(3).double(), rtol=1e-9, atol=1e-9)
    assert all((mass >= 0).all() for mass in maps)
    assert (delta > -1e-9).all()


@PROFILE
@given(modules, negatives, st.integers(1, 4), seeds)
def test_examples_do_not_depend_on_their_batch(module, negative, t, seed):
    net = randomize(Net(module), seed)
    inputs = (numbers(3, t, D, seed=seed), *with_states(module, 3, seed))
    engine = ExcitationBackprop(net, negative=negative)
    together = engine.attribute(inputs, target=(0, 1))
    for row in range(3):
        alone = engine.attribute(tuple(x[row : row + 1] for x in inputs), target=(0, 1))
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[row : row + 1], b, rtol=1e-9, atol=1e-12)


@PROFILE
@given(modules, negatives, st.integers(1, 4), seeds)
def test_masses_are_linear_in_the_mass_at_the_output(module, negative, t, seed):
    net = randomize(Net(module), seed)
    leaf = numbers(2, t, D, seed=seed).requires_grad_()
    a, b = numbers(2, seed=seed + 1), numbers(2, seed=seed + 2)
    with record(net, lambda: net(leaf)[:, t - 1, 0], [leaf], negative) as recording:

        def explain(start):
            (mass,) = recording.propagate([recording.output], [Mass(start)], [leaf], "unreachable")
            return mass.total

        torch.testing.assert_close(
            explain(2 * a - 3 * b), 2 * explain(a) - 3 * explain(b), rtol=1e-9, atol=1e-12
        )


@PROFILE
@given(modules, negatives, seeds, st.floats(0.1, 10.0))
def test_scaling_the_classifier_changes_nothing(module, negative, seed, factor):
    net, x = randomize(Net(module), seed), numbers(2, 3, D, seed=seed)
    engine = ExcitationBackprop(net, negative=negative)
    before = engine.attribute(x, target=(2, 1))
    with torch.no_grad():
        net.head.weight.mul_(factor)
    torch.testing.assert_close(engine.attribute(x, target=(2, 1)), before, rtol=1e-9, atol=1e-12)


@PROFILE
@given(seeds, st.integers(1, 5))
def test_a_relu_lstm_without_biases_drops_nothing_where_the_class_has_evidence(seed, t):
    """Non-negative states, weights and inputs: the case that the papers assume."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = ReLULSTM(D, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    net = randomize(Net(), seed)
    with torch.no_grad():
        net.lstm.bias.zero_()
        net.head.weight.abs_()
    x = numbers(3, t, D, seed=seed, signed=False)
    alive = net.lstm(x)[0][:, -1].sum(1) > 0
    maps = ExcitationBackprop(net).attribute(x, target=1)
    torch.testing.assert_close(maps.sum((1, 2)), alive.double(), rtol=1e-9, atol=1e-9)


FRONTS = {
    "LSTM": lambda: nn.LSTM(D, 4, 2, batch_first=True, bidirectional=True),
    "projected LSTM": lambda: nn.LSTM(D, 4, proj_size=2, batch_first=True),
    "GRU": lambda: nn.GRU(D, 4, 2, bidirectional=True),
    "RNN": lambda: nn.RNN(D, 4, batch_first=True),
    "LSTMCell": lambda: nn.LSTMCell(D, 4),
    "GRUCell": lambda: nn.GRUCell(D, 4),
    "RNNCell": lambda: nn.RNNCell(D, 4),
    "two cells": lambda: nn.ModuleList([nn.GRUCell(D, 4), nn.RNNCell(4, 4)]),
    "one call per clip": lambda: nn.GRU(D, 4),
}


class Clips(nn.Module):
    """A per-frame convolution and a recurrent layer; scores at the last step."""

    def __init__(self, name, folding):
        super().__init__()
        self.conv, self.relu, self.name, self.folding = nn.Conv2d(3, D, 2), nn.ReLU(), name, folding
        self.recurrent, self.head = FRONTS[name](), nn.LazyLinear(2)

    def forward(self, clips):
        n, _, t = clips.shape[:3]
        frames = clips.transpose(1, 2) if self.folding == "NT" else clips.permute(2, 0, 1, 3, 4)
        features = self.relu(self.conv(frames.flatten(0, 1))).amax((2, 3))
        features = features.view(n, t, D) if self.folding == "NT" else features.view(t, n, D).transpose(0, 1)
        if self.name == "one call per clip":
            return self.head(torch.stack([self.recurrent(sequence)[0][-1] for sequence in features]))
        if isinstance(self.recurrent, nn.RNNBase):
            first = self.recurrent.batch_first
            outputs = self.recurrent(features if first else features.transpose(0, 1))[0]
            return self.head(outputs[:, -1] if first else outputs[-1])
        cells = self.recurrent if isinstance(self.recurrent, nn.ModuleList) else [self.recurrent]
        states = [None] * len(cells)
        for x in features.unbind(1):
            for index, cell in enumerate(cells):
                states[index] = cell(x, states[index])
                x = states[index][0] if isinstance(states[index], tuple) else states[index]
        return self.head(x)


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("folding", ["NT", "TN"])
@pytest.mark.parametrize("name", FRONTS)
def test_the_boundary_of_every_cell_is_the_input_of_its_lowest_layer(name, folding, contrastive):
    clips = numbers(2, 3, 4, 3, 5, signed=False)
    net = Clips(name, folding)
    net(clips.float())
    net = randomize(net, seed=1)
    found, named = (
        RecurrentExcitationBackprop(net, "relu", boundary=boundary, frame_order=folding).attribute(
            clips, 1, contrastive=contrastive
        )
        for boundary in (None, "relu")
    )
    assert found.shape == (2, D, 4, 2, 4)
    total = torch.full((2,), float(not contrastive)).double()
    torch.testing.assert_close(found.sum((1, 2, 3, 4)), total, rtol=1e-9, atol=1e-9)
    # Max pooling moves all mass of the features to one position each, so both boundaries are one.
    torch.testing.assert_close(found, named, rtol=1e-9, atol=1e-12)
    if name != "one call per clip" or not contrastive:
        assert found.abs().sum() > 0.5
    other = {"NT": "TN", "TN": "NT"}[folding]
    with pytest.raises(ValueError, match=f"frame_order='{folding}'"):
        RecurrentExcitationBackprop(net, "relu", frame_order=other).attribute(clips, 1)
