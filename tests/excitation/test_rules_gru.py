"""GRUs, neuron by neuron, and in every way in which people write them.

h_t = (1 - z) n + z h_{t-1}: shared between the two summands. n = tanh(W x + b + r (U h + b_h)): one joint
step over x_t and h_{t-1}. The gates get nothing. A constant initial state is a bias.
"""

from __future__ import annotations

import pytest
import torch
from dense_reference import numbers, randomize
from recurrent_reference import Explained, Net
from torch import nn

from captum_ext.attr import ExcitationBackprop

D, H = 3, 2
BOTH = pytest.mark.parametrize("negative", ["support", "clamp"])

GRUS = {
    "batch first": {"batch_first": True},
    "time first": {},
    "no bias": {"bias": False, "batch_first": True},
    "two layers": {"num_layers": 2, "dropout": 0.5},
    "bidirectional": {"bidirectional": True, "batch_first": True},
    "two bidirectional layers": {"num_layers": 2, "bidirectional": True},
}


def initial_states(module: nn.RNNBase) -> tuple[torch.Tensor, ...]:
    rows = module.num_layers * (1 + module.bidirectional)
    sizes = [getattr(module, "proj_size", 0) or module.hidden_size]
    if module.mode == "LSTM":
        sizes.append(module.hidden_size)
    return tuple(numbers(rows, size, seed=21 + k) for k, size in enumerate(sizes))


@BOTH
@pytest.mark.parametrize(("n", "t"), [(1, 1), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize("given", [False, True], ids=["zero states", "constant states"])
@pytest.mark.parametrize("name", GRUS)
def test_gru_equals_the_loops_over_its_neurons(name, given, n, t, negative):
    gru = nn.GRU(D, H, **GRUS[name])
    net = randomize(Net(gru, initial_states(gru) if given else None), seed=3)
    x = numbers(n, t, D)
    for step in {0, t - 1}:
        maps, delta = ExcitationBackprop(net, negative=negative).attribute(
            x, target=(step, 1), return_convergence_delta=True
        )
        for row in range(n):
            expected = Explained(gru, net.head, x[row], step, 1, negative, net.initial)
            torch.testing.assert_close(net.head(expected.outputs), net(x)[row], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(maps[row], expected.map, rtol=1e-9, atol=1e-9)
            assert abs(float(delta[row]) - expected.dropped) < 1e-9


@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_initial_states_that_depend_on_the_input_compete(seed, negative):
    net = randomize(Net(nn.GRU(D, H, 2, bidirectional=True)), seed)
    x, h_0 = numbers(2, 4, D, seed=seed), numbers(2, 4, H, seed=seed + 9)
    maps, m_0 = ExcitationBackprop(net, negative=negative).attribute((x, h_0), target=(3, 0))
    for row in range(2):
        expected = Explained(net.module, net.head, x[row], 3, 0, negative, (h_0[row],), competes=True)
        wanted = [[sum(pair) for pair in expected.states[k][0]] for k in range(4)]
        torch.testing.assert_close(maps[row], expected.map, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(m_0[row], torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_one_step_of_one_neuron_by_hand():
    """r = z = 1/2, n = tanh(2 x_1 - x_2 + 3 r h_0): x_1 = 1 and x_2 = -2 give 2 each, h_0 = 4 gives 6."""
    gru = nn.GRU(2, 1, batch_first=True, bias=False).double()
    with torch.no_grad():
        gru.weight_ih_l0.zero_()[2] = torch.tensor([2.0, -1.0]).double()
        gru.weight_hh_l0.zero_()[2] = 3.0
    net = Net(gru).double().eval()
    with torch.no_grad():
        net.head.weight.fill_(1.0)
    x, h_0 = torch.tensor([[[1.0, -2.0]]]).double(), torch.tensor([[[4.0]]]).double()
    m_x, m_0 = ExcitationBackprop(net).attribute((x, h_0), target=(0, 0))
    new = torch.tanh(torch.tensor(10.0)).double().item() / 2
    to_new = new / (new + 2.0)
    torch.testing.assert_close(m_x, to_new * torch.tensor([[[0.2, 0.2]]]).double(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(float(m_0), 1 - 0.4 * to_new, rtol=1e-6, atol=1e-9)


class ByHand(nn.Module):
    """A GRU written as a loop, in several styles, with the weights of an nn.GRUCell."""

    def __init__(self, cell: nn.GRUCell, style: str, h_0: torch.Tensor | None = None) -> None:
        super().__init__()
        self.cell, self.style, self.h_0, self.head = cell, style, h_0, nn.Linear(H, 2)

    def step(self, x, h):
        cell = self.cell
        if self.style == "cell":
            return cell(x, h)
        from_x = nn.functional.linear(x, cell.weight_ih, cell.bias_ih)
        if self.style == "separate":
            rows, biases = cell.weight_hh.chunk(3), cell.bias_hh.chunk(3)
            r_h, z_h, n_h = (nn.functional.linear(h, w, b) for w, b in zip(rows, biases, strict=True))
        else:
            r_h, z_h, n_h = nn.functional.linear(h, cell.weight_hh, cell.bias_hh).chunk(3, 1)
        r_x, z_x, n_x = from_x.split(H, dim=1)
        r, z = torch.sigmoid(r_x + r_h), (z_x + z_h).sigmoid()
        n = torch.tanh(n_x + r * n_h)
        if self.style == "lerp":
            return torch.lerp(n, h, z)
        if self.style == "addcmul":
            return torch.addcmul((1 - z) * n, z, h)
        return n * (1 - z) + h * z

    def forward(self, x, *given):
        h = x.new_zeros(len(x), H) if self.h_0 is None else self.h_0.expand(len(x), -1)
        h = given[0][:, 0] if given else h
        hidden = []
        for x_t in x.unbind(1):
            h = self.step(x_t, h)
            hidden.append(h)
        return self.head(torch.stack(hidden, 1))


@BOTH
@pytest.mark.parametrize("states", ["zero", "constant", "explained"])
@pytest.mark.parametrize("style", ["cell", "joint", "separate", "lerp", "addcmul"])
@pytest.mark.parametrize("seed", [4, 5])
def test_a_gru_written_by_hand_gives_the_map_of_the_layer(seed, style, states, negative):
    gru = nn.GRU(D, H, batch_first=True)
    h_0 = numbers(1, H, seed=7) if states == "constant" else None
    layer = randomize(Net(gru, None if h_0 is None else (h_0,)), seed)
    cell = nn.GRUCell(D, H).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in gru.state_dict().items()})
    by_hand = ByHand(cell, style, h_0).double().eval()
    by_hand.head = layer.head
    inputs = (numbers(3, 4, D, seed=seed),)
    if states == "explained":
        inputs += (numbers(3, 1, H, seed=8),)
    torch.testing.assert_close(by_hand(*inputs), layer(*inputs))
    expected = ExcitationBackprop(layer, negative=negative).attribute(inputs, target=(3, 1))
    found = ExcitationBackprop(by_hand, negative=negative).attribute(inputs, target=(3, 1))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_dropout_between_layers_in_training_mode_is_refused():
    net = Net(nn.GRU(D, H, 2, dropout=0.5)).double().train()
    with pytest.raises(ValueError, match=r"dropout between recurrent layers .* module 'module'.*model.eval"):
        ExcitationBackprop(net).attribute(numbers(2, 3, D), target=(0, 0))
