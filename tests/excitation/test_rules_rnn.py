"""Plain recurrent layers, h_t = phi(W x_t + U h_{t-1} + b): one joint step over x_t and h_{t-1}."""

from __future__ import annotations

import pytest
import torch
from dense_reference import numbers, randomize
from recurrent_reference import Explained, Net
from torch import nn

from captum_ext.attr import ExcitationBackprop

D, H = 3, 2
BOTH = pytest.mark.parametrize("negative", ["support", "clamp"])
PHI = pytest.mark.parametrize("phi", ["tanh", "relu"])

RNNS = {
    "batch first": {"batch_first": True},
    "time first": {},
    "no bias": {"bias": False, "batch_first": True},
    "two layers": {"num_layers": 2, "dropout": 0.5},
    "bidirectional": {"bidirectional": True, "batch_first": True},
    "two bidirectional layers": {"num_layers": 2, "bidirectional": True},
}


@BOTH
@PHI
@pytest.mark.parametrize(("n", "t"), [(1, 1), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize("given", [False, True], ids=["zero states", "constant states"])
@pytest.mark.parametrize("name", RNNS)
def test_rnn_equals_the_loops_over_its_neurons(name, given, n, t, phi, negative):
    rnn = nn.RNN(D, H, nonlinearity=phi, **RNNS[name])
    h_0 = numbers(rnn.num_layers * (1 + rnn.bidirectional), H, seed=21)
    net = randomize(Net(rnn, (h_0,) if given else None), seed=3)
    x = numbers(n, t, D)
    maps, delta = ExcitationBackprop(net, negative=negative).attribute(
        x, target=(t - 1, 1), return_convergence_delta=True
    )
    for row in range(n):
        expected = Explained(rnn, net.head, x[row], t - 1, 1, negative, net.initial)
        torch.testing.assert_close(net.head(expected.outputs), net(x)[row], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(maps[row], expected.map, rtol=1e-9, atol=1e-9)
        assert abs(float(delta[row]) - expected.dropped) < 1e-9


@BOTH
@PHI
@pytest.mark.parametrize("seed", range(3))
def test_initial_states_that_depend_on_the_input_compete(seed, phi, negative):
    net = randomize(Net(nn.RNN(D, H, 2, nonlinearity=phi)), seed)
    x, h_0 = numbers(2, 4, D, seed=seed), numbers(2, 2, H, seed=seed + 9)
    maps, m_0 = ExcitationBackprop(net, negative=negative).attribute((x, h_0), target=(3, 0))
    for row in range(2):
        expected = Explained(net.module, net.head, x[row], 3, 0, negative, (h_0[row],), competes=True)
        wanted = [[sum(pair) for pair in expected.states[k][0]] for k in range(2)]
        torch.testing.assert_close(maps[row], expected.map, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(m_0[row], torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-9)


class Loop(nn.Module):
    """The layer as a loop over a cell, or over torch's operations."""

    def __init__(self, rnn: nn.RNN, style: str) -> None:
        super().__init__()
        self.style, self.head = style, nn.Linear(H, 2)
        self.cell = nn.RNNCell(D, H, nonlinearity=rnn.nonlinearity).double()
        self.cell.load_state_dict({k.removesuffix("_l0"): v for k, v in rnn.state_dict().items()})

    def forward(self, x):
        h, cell = x.new_zeros(len(x), H), self.cell
        phi = torch.tanh if cell.nonlinearity == "tanh" else torch.relu
        hidden = []
        for x_t in x.unbind(1):
            if self.style == "cell":
                h = cell(x_t, h)
            elif self.style == "unbatched cell":
                h = torch.stack([cell(x_n, h_n) for x_n, h_n in zip(x_t, h, strict=True)])
            else:
                z = nn.functional.linear(x_t, cell.weight_ih, cell.bias_ih)
                h = phi(z + nn.functional.linear(h, cell.weight_hh, cell.bias_hh))
            hidden.append(h)
        return self.head(torch.stack(hidden, 1))


@BOTH
@PHI
@pytest.mark.parametrize("style", ["cell", "unbatched cell", "by hand"])
def test_a_loop_gives_the_map_of_the_layer(style, phi, negative):
    layer = randomize(Net(nn.RNN(D, H, nonlinearity=phi, batch_first=True)), seed=6)
    loop = Loop(layer.module, style).double().eval()
    loop.head = layer.head
    x = numbers(3, 4, D)
    torch.testing.assert_close(loop(x), layer(x))
    expected = ExcitationBackprop(layer, negative=negative).attribute(x, target=(3, 1))
    found = ExcitationBackprop(loop, negative=negative).attribute(x, target=(3, 1))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
