"""LSTMs with projections: h_t = W_r (o phi(c)) is a linear map, one with the maps that read h_t."""

from __future__ import annotations

import pytest
import torch
from dense_reference import numbers, randomize
from recurrent_reference import Explained, Net
from torch import nn

from captum_ext.attr import ExcitationBackprop

D, H, P = 3, 4, 2
BOTH = pytest.mark.parametrize("negative", ["support", "clamp"])

LSTMS = {
    "projection": {"proj_size": P, "batch_first": True},
    "projection without bias": {"proj_size": P, "bias": False},
    "two layers with projections": {"proj_size": P, "num_layers": 2},
    "two bidirectional layers with projections": {"proj_size": P, "num_layers": 2, "bidirectional": True},
    "none": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}


@BOTH
@pytest.mark.parametrize(("n", "t"), [(1, 1), (3, 5)])
@pytest.mark.parametrize("given", [False, True], ids=["zero states", "constant states"])
@pytest.mark.parametrize("name", LSTMS)
def test_lstm_equals_the_loops_over_its_neurons(name, given, n, t, negative):
    lstm = nn.LSTM(D, H, **LSTMS[name])
    rows = lstm.num_layers * (1 + lstm.bidirectional)
    states = (numbers(rows, lstm.proj_size or H, seed=21), numbers(rows, H, seed=22))
    net = randomize(Net(lstm, states if given else None), seed=3)
    x = numbers(n, t, D)
    maps, delta = ExcitationBackprop(net, negative=negative).attribute(
        x, target=(t - 1, 1), return_convergence_delta=True
    )
    for row in range(n):
        expected = Explained(lstm, net.head, x[row], t - 1, 1, negative, net.initial)
        torch.testing.assert_close(net.head(expected.outputs), net(x)[row], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(maps[row], expected.map, rtol=1e-9, atol=1e-9)
        assert abs(float(delta[row]) - expected.dropped) < 1e-9


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_initial_states_that_depend_on_the_input_compete(seed, negative):
    net = randomize(Net(nn.LSTM(D, H, proj_size=P)), seed)
    x, h_0, c_0 = numbers(2, 4, D, seed=seed), numbers(2, 1, P, seed=seed + 9), numbers(2, 1, H, seed=seed)
    maps, m_h, m_c = ExcitationBackprop(net, negative=negative).attribute((x, h_0, c_0), target=(3, 0))
    for row in range(2):
        initial = (h_0[row], c_0[row])
        expected = Explained(net.module, net.head, x[row], 3, 0, negative, initial, competes=True)
        wanted_h, wanted_c = expected.states[0]
        torch.testing.assert_close(maps[row], expected.map, rtol=1e-9, atol=1e-9)
        total = torch.tensor([sum(pair) for pair in wanted_h], dtype=torch.float64)
        torch.testing.assert_close(m_h[row, 0], total, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            m_c[row, 0], torch.tensor(wanted_c, dtype=torch.float64), rtol=1e-9, atol=1e-9
        )


class ByHand(nn.Module):
    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm, self.head = lstm, nn.Linear(P, 2)

    def forward(self, x):
        lstm, linear = self.lstm, nn.functional.linear
        h, c, hidden = x.new_zeros(len(x), P), x.new_zeros(len(x), H), []
        for x_t in x.unbind(1):
            z = linear(x_t, lstm.weight_ih_l0, lstm.bias_ih_l0)
            i, f, g, o = (z + linear(h, lstm.weight_hh_l0, lstm.bias_hh_l0)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = linear(o.sigmoid() * c.tanh(), lstm.weight_hr_l0)
            hidden.append(h)
        return self.head(torch.stack(hidden, 1))


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_a_projected_lstm_written_by_hand_gives_the_map_of_the_layer(seed, negative):
    layer = randomize(Net(nn.LSTM(D, H, proj_size=P, batch_first=True)), seed)
    by_hand = ByHand(layer.module).double().eval()
    by_hand.head = layer.head
    x = numbers(3, 4, D, seed=seed)
    torch.testing.assert_close(by_hand(x), layer(x))
    expected = ExcitationBackprop(layer, negative=negative).attribute(x, target=(3, 1))
    found = ExcitationBackprop(by_hand, negative=negative).attribute(x, target=(3, 1))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
