"""LSTMs, cell by cell and neuron by neuron, along the value path of Bargal et al. (2018).

h_t = o phi(c_t): all to c_t. c_t = f c_{t-1} + i g: shared by what supports c_t's sign. g: one joint step
over x_t and h_{t-1}. The gates get nothing. A constant initial state is a bias.
"""

from __future__ import annotations

import math
from itertools import chain

import pytest
import torch
from dense_reference import eb, numbers, randomize
from recurrent_reference import Cell
from torch import nn

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop
from captum_ext.models import ReLULSTM

D, H, T = 3, 2, 4
BOTH = pytest.mark.parametrize("negative", ["support", "clamp"])


# ------------------------------------------------------------------------------------- the scalar computation


def sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))


def relu(z: float) -> float:
    return max(z, 0.0)


def positive(value: float) -> float:
    return max(value, 0.0)


class ScalarLSTM:
    """One layer in one direction for one example, as Python floats; gates in torch's order i, f, g, o."""

    def __init__(self, weight_ih, weight_hh, bias, phi, clamp):
        self.w, self.u, self.b = weight_ih.tolist(), weight_hh.tolist(), bias.tolist()
        self.phi, self.clamp, self.size = phi, clamp, weight_hh.shape[1]

    def forward(self, xs, h_0, c_0):
        self.xs, self.steps = xs, []
        h, c, n = h_0, c_0, self.size
        for x in xs:
            z = [
                self.b[r]
                + sum(w * v for w, v in zip(self.w[r], x, strict=True))
                + sum(u * v for u, v in zip(self.u[r], h, strict=True))
                for r in range(4 * n)
            ]
            i, f, o = ([sigmoid(z[k * n + j]) for j in range(n)] for k in (0, 1, 3))
            g = [self.phi(z[2 * n + j]) for j in range(n)]
            old = [f[j] * c[j] for j in range(n)]
            new = [i[j] * g[j] for j in range(n)]
            step = {"h": h, "old": old, "new": new, "g": g}
            c = [old[j] + new[j] for j in range(n)]
            h = [o[j] * self.phi(c[j]) for j in range(n)]
            self.steps.append({**step, "c": c, "out": h})
        return [step["out"] for step in self.steps], h, c

    def sign(self, state: float) -> int:
        return -1 if state < 0 and not self.clamp else 1

    def backward(self, m_out, m_h=None, m_c=None, initial_state_competes=False):
        """Mass of the inputs, of h_0 and c_0, and what was dropped."""
        n, rows = self.size, [2 * self.size + j for j in range(self.size)]
        m_h, m_c = m_h or [0.0] * n, m_c or [0.0] * n
        m_x, dropped = [[0.0] * len(x) for x in self.xs], 0.0
        for t in reversed(range(len(self.xs))):
            step, x = self.steps[t], self.xs[t]
            constant = t == 0 and not initial_state_competes
            m_before, c_before = [0.0] * n, [0.0] * n
            for j, row in enumerate(rows):
                mass = m_out[t][j] + m_h[j] + m_c[j]
                s = self.sign(step["c"][j])
                carried = 0.0 if constant else positive(s * step["old"][j])
                entered = positive(s * step["new"][j])
                if carried + entered == 0.0:
                    dropped += mass
                    continue
                c_before[j] += mass * carried / (carried + entered)
                mass = mass * entered / (carried + entered)
                s = self.sign(step["g"][j])
                from_x = [self.pull(s, a, w) for a, w in zip(x, self.w[row], strict=True)]
                from_h = [self.pull(s, a, u) for a, u in zip(step["h"], self.u[row], strict=True)]
                if constant:
                    from_h = [0.0] * n
                total = sum(from_x) + sum(from_h)
                if total == 0.0:
                    dropped += mass
                    continue
                for k, share in enumerate(from_x):
                    m_x[t][k] += mass * share / total
                for k, share in enumerate(from_h):
                    m_before[k] += mass * share / total
            m_h, m_c = m_before, c_before
        return m_x, m_h, m_c, dropped

    def pull(self, s: int, a: float, w: float) -> float:
        return 0.0 if self.clamp and a < 0 else positive(s * a * w)


def classifier_step(weights, h, clamp):
    """Eq. 1 at the output unit, whose state counts as positive."""
    shares = [0.0 if clamp and a < 0 else positive(a * w) for a, w in zip(h, weights, strict=True)]
    total = sum(shares)
    return [share / total if total else 0.0 for share in shares]


def scalar_layers(lstm, clamp):
    """The layers of an nn.LSTM or ReLULSTM, each a list of directions."""
    if isinstance(lstm, ReLULSTM):
        return [[ScalarLSTM(lstm.weight_ih, lstm.weight_hh, lstm.bias, relu, clamp)]]
    layers = []
    for layer in range(lstm.num_layers):
        directions = []
        for suffix in ("", "_reverse")[: 1 + lstm.bidirectional]:
            names = [f"{name}_l{layer}{suffix}" for name in ("weight_ih", "weight_hh")]
            w, u = (getattr(lstm, name) for name in names)
            b = torch.zeros(len(w))
            if lstm.bias:
                b = sum(getattr(lstm, f"bias_{kind}_l{layer}{suffix}") for kind in ("ih", "hh"))
            directions.append(ScalarLSTM(w, u, b, math.tanh, clamp))
        layers.append(directions)
    return layers


def explain_scalar(lstm, head, x, step, target, negative, h_0=None, c_0=None):
    """EB of one clip x, (T, D), from class ``target`` at time ``step``; returns the map and the output."""
    clamp, n = negative == "clamp", head.weight.shape[1]
    layers = scalar_layers(lstm, clamp)
    sequence, index = x.tolist(), 0
    for directions in layers:
        outputs = []
        for direction, cell in enumerate(directions):
            states = [[0.0] * cell.size if s is None else s[index].tolist() for s in (h_0, c_0)]
            index += 1
            y, _, _ = cell.forward(sequence[::-1] if direction else sequence, *states)
            outputs.append(y[::-1] if direction else y)
        sequence = [list(chain(*(y[t] for y in outputs))) for t in range(len(sequence))]
    mass = [[0.0] * n for _ in sequence]
    mass[step] = classifier_step(head.weight[target].tolist(), sequence[step], clamp)
    for directions in reversed(layers):
        below = None
        for direction, cell in enumerate(directions):
            part = [m[direction * cell.size : (direction + 1) * cell.size] for m in mass]
            m_x = cell.backward(part[::-1] if direction else part)[0]
            m_x = m_x[::-1] if direction else m_x
            below = m_x if below is None else [
                [a + b for a, b in zip(p, q, strict=True)] for p, q in zip(below, m_x, strict=True)
            ]  # fmt: skip
        mass = below
    return torch.tensor(mass, dtype=torch.float64), torch.tensor(sequence, dtype=torch.float64)


# ----------------------------------------------------------------------------------------------- the networks


class Recurrent(nn.Module):
    """An LSTM under a classifier that is applied at every step; clips are (N, T, D)."""

    def __init__(self, lstm, width, h_0=None, c_0=None):
        super().__init__()
        self.lstm, self.head, self.h_0, self.c_0 = lstm, nn.Linear(width, 2), h_0, c_0

    def states(self, n):
        if self.h_0 is None:
            return ()
        states = tuple(s[:, None].expand(-1, n, -1).contiguous() for s in (self.h_0, self.c_0))
        return (states if isinstance(self.lstm, nn.LSTM) else tuple(s[0] for s in states),)

    def forward(self, x):
        if isinstance(self.lstm, nn.LSTM) and not self.lstm.batch_first:
            return self.head(self.lstm(x.transpose(0, 1), *self.states(len(x)))[0].transpose(0, 1))
        return self.head(self.lstm(x, *self.states(len(x)))[0])


def initial(lstm):
    rows = 1 if isinstance(lstm, ReLULSTM) else lstm.num_layers * (1 + lstm.bidirectional)
    h_0, c_0 = numbers(rows, H, seed=21), numbers(rows, H, seed=22)
    return (h_0.abs(), c_0.abs()) if isinstance(lstm, ReLULSTM) else (h_0, c_0)


LSTMS = {
    "nn.LSTM": (lambda: nn.LSTM(D, H, batch_first=True), H),
    "time first": (lambda: nn.LSTM(D, H), H),
    "no bias": (lambda: nn.LSTM(D, H, bias=False), H),
    "two layers": (lambda: nn.LSTM(D, H, 2, batch_first=True), H),
    "two layers, dropout in eval": (lambda: nn.LSTM(D, H, 2, dropout=0.5), H),
    "bidirectional": (lambda: nn.LSTM(D, H, bidirectional=True, batch_first=True), 2 * H),
    "two bidirectional layers": (lambda: nn.LSTM(D, H, 2, bidirectional=True), 2 * H),
    "ReLULSTM": (lambda: ReLULSTM(D, H), H),
}


@BOTH
@pytest.mark.parametrize("step", [0, 1, T - 1])
@pytest.mark.parametrize("given", [False, True], ids=["zero states", "constant states"])
@pytest.mark.parametrize("signed", [False, True], ids=["non-negative", "signed"])
@pytest.mark.parametrize("name", LSTMS)
def test_lstm_equals_the_loops_over_its_neurons(name, signed, given, step, negative):
    make, width = LSTMS[name]
    lstm = make()
    net = randomize(Recurrent(lstm, width, *(initial(lstm) if given else ())), seed=3)
    x = numbers(3, T, D, signed=signed)
    maps = ExcitationBackprop(net, negative=negative).attribute(x, target=(step, 1))
    for row in range(3):
        states = (net.h_0, net.c_0) if given else (None, None)
        expected, output = explain_scalar(net.lstm, net.head, x[row], step, 1, negative, *states)
        torch.testing.assert_close(net.head(output), net(x)[row], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(maps[row], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_relu_lstm_conserves_mass(seed):
    net = randomize(Recurrent(ReLULSTM(D, 8), 8), seed)
    with torch.no_grad():
        net.lstm.bias.zero_()
    x = numbers(4, T, D, signed=False, seed=seed)
    hidden = net.lstm(x)[0][:, -1]
    net.head.weight.data.abs_()
    alive = hidden.sum(1) > 0
    assert alive.any()
    mass = eb(net, x, (T - 1, 1)).sum((1, 2))
    torch.testing.assert_close(mass[alive], torch.ones_like(mass[alive]), rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ the same cell, written in different ways


class ByHand(nn.Module):
    """The cell in torch's operations, with the weights of a torch.nn.LSTM or ReLULSTM."""

    def __init__(self, lstm, style, phi, h_0=None, c_0=None):
        super().__init__()
        self.style, self.phi, self.h_0, self.c_0 = style, phi, h_0, c_0
        if isinstance(lstm, ReLULSTM):
            w, u, b = lstm.weight_ih, lstm.weight_hh, lstm.bias
        else:
            w, u, b = lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0 + lstm.bias_hh_l0
        w, u, b = w.detach(), u.detach(), b.detach()
        self.ih, self.hh = nn.Linear(D, 4 * H).double(), nn.Linear(H, 4 * H, bias=False).double()
        self.joint = nn.Linear(D + H, 4 * H).double()
        self.cell = nn.LSTMCell(D, H).double()
        with torch.no_grad():
            self.ih.weight.copy_(w), self.ih.bias.copy_(b), self.hh.weight.copy_(u)
            self.joint.weight.copy_(torch.cat([w, u], 1)), self.joint.bias.copy_(b)
            self.cell.weight_ih.copy_(w), self.cell.weight_hh.copy_(u)
            self.cell.bias_ih.copy_(b), self.cell.bias_hh.zero_()

    def forward(self, x):
        zeros = x.new_zeros(len(x), H)
        h = zeros if self.h_0 is None else self.h_0.expand(len(x), -1)
        c = zeros if self.c_0 is None else self.c_0.expand(len(x), -1)
        hidden = []
        for x_t in x.unbind(1):
            if self.style == "LSTMCell":
                h, c = self.cell(x_t, (h, c))
            else:
                if self.style == "joint":
                    z = self.joint(torch.cat([x_t, h], 1))
                elif self.style == "addmm":
                    z = torch.addmm(self.ih.bias, x_t, self.ih.weight.T) + h @ self.hh.weight.T
                else:
                    z = self.ih(x_t) + self.hh(h)
                i, f, g, o = z.chunk(4, 1)
                if self.style == "in place":
                    c = (f.sigmoid() * c).add_(i.sigmoid() * self.phi(g))
                else:
                    c = torch.sigmoid(f) * c + torch.sigmoid(i) * self.phi(g)
                h = o.sigmoid() * self.phi(c)
            hidden.append(h)
        return (torch.stack(hidden, 1),)


@BOTH
@pytest.mark.parametrize("style", ["sum", "addmm", "in place", "joint", "LSTMCell"])
@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_a_cell_written_by_hand_gives_the_map_of_the_layer(kind, style, negative):
    if (kind, style) == ("relu", "LSTMCell"):
        pytest.skip("torch has no ReLU cell")
    lstm = nn.LSTM(D, H, batch_first=True) if kind == "tanh" else ReLULSTM(D, H)
    layer = randomize(Recurrent(lstm, H), seed=4)
    by_hand = Recurrent(ByHand(lstm, style, torch.tanh if kind == "tanh" else torch.relu), H).eval()
    by_hand.head = layer.head
    x = numbers(3, T, D)
    torch.testing.assert_close(by_hand(x), layer(x))
    expected = eb(layer, x, (T - 1, 1), negative)
    torch.testing.assert_close(eb(by_hand, x, (T - 1, 1), negative), expected, rtol=1e-9, atol=1e-12)


@BOTH
@pytest.mark.parametrize("style", ["sum", "LSTMCell"])
def test_constant_initial_states_are_biases_however_the_cell_is_written(style, negative):
    lstm = nn.LSTM(D, H, batch_first=True)
    layer = randomize(Recurrent(lstm, H, *initial(lstm)), seed=4)
    by_hand = Recurrent(ByHand(lstm, style, torch.tanh, *initial(lstm)), H).eval()
    by_hand.head = layer.head
    x = numbers(3, T, D)
    torch.testing.assert_close(by_hand(x), layer(x))
    expected = eb(layer, x, (1, 1), negative)
    torch.testing.assert_close(eb(by_hand, x, (1, 1), negative), expected, rtol=1e-9, atol=1e-12)


class Seeded(nn.Module):
    """Initial states, and if asked the inputs, that depend on an explained vector."""

    def __init__(self, lstm, constant_sequence=False, squash=torch.tanh):
        super().__init__()
        self.lstm, self.constant_sequence, self.squash = lstm, constant_sequence, squash
        self.to_h, self.to_c, self.head = nn.Linear(3, H), nn.Linear(3, H), nn.Linear(H, 2)

    def forward(self, start, x):
        h, c = self.squash(self.to_h(start)), self.squash(self.to_c(start))
        if isinstance(self.lstm, nn.LSTM):
            h, c = h[None], c[None]
        return self.head(self.lstm(x, (h, c))[0][:, -1])


def explain_seeded(net, start, x, negative, words_compete=True):
    clamp = negative == "clamp"
    ((cell,),) = scalar_layers(net.lstm, clamp)
    pre = [(lin.weight @ start + lin.bias).tolist() for lin in (net.to_h, net.to_c)]
    states = [net.squash(torch.tensor(z, dtype=torch.float64)).tolist() for z in pre]
    outputs, _, _ = cell.forward(x.tolist(), *states)
    if not words_compete:
        cell.xs = [[0.0] * len(row) for row in cell.xs]
    m_out = [[0.0] * H for _ in outputs]
    m_out[-1] = classifier_step(net.head.weight[1].tolist(), outputs[-1], clamp)
    m_x, *m_states, _ = cell.backward(m_out, initial_state_competes=True)
    m_start = [0.0] * 3
    for layer, mass, values in zip((net.to_h, net.to_c), m_states, pre, strict=True):
        for j in range(H):
            s = cell.sign(values[j])
            weights = layer.weight[j].tolist()
            shares = [cell.pull(s, a, w) for a, w in zip(start.tolist(), weights, strict=True)]
            for k, share in enumerate(shares):
                m_start[k] += mass[j] * share / sum(shares) if sum(shares) else 0.0
    return torch.tensor(m_start, dtype=torch.float64), torch.tensor(m_x, dtype=torch.float64)


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_initial_states_that_depend_on_the_input_compete(seed, negative):
    net = randomize(Seeded(nn.LSTM(D, H, batch_first=True)), seed)
    start, x = numbers(2, 3, seed=seed), numbers(2, T, D, seed=seed + 1)
    maps = ExcitationBackprop(net, negative=negative).attribute((start, x), target=1)
    for row in range(2):
        expected = explain_seeded(net, start[row], x[row], negative)
        for found, wanted in zip(maps, expected, strict=True):
            torch.testing.assert_close(found[row], wanted, rtol=1e-9, atol=1e-9)


@BOTH
@pytest.mark.parametrize("squash", [torch.relu, torch.tanh], ids=["non-negative", "signed"])
@pytest.mark.parametrize("seed", range(6))
def test_initial_states_of_a_relu_lstm_compete_also_below_zero(seed, squash, negative):
    net = randomize(Seeded(ReLULSTM(D, H), squash=squash), seed)
    start, x = numbers(2, 3, seed=seed), numbers(2, T, D, seed=seed + 1)[:, :1]
    maps = ExcitationBackprop(net, negative=negative).attribute((start, x), target=1)
    for row in range(2):
        expected = explain_seeded(net, start[row], x[row], negative)
        for found, wanted in zip(maps, expected, strict=True):
            torch.testing.assert_close(found[row], wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_constant_sequence_is_a_bias_where_only_the_initial_state_is_explained(seed):
    """A captioner's words are constants when the picture in its initial state is explained."""
    net = randomize(Seeded(nn.LSTM(D, H, batch_first=True)), seed)
    start, x = numbers(2, 3, seed=seed), numbers(2, T, D, seed=seed + 1)
    maps = ExcitationBackprop(net).attribute(start, target=1, additional_forward_args=(x,))
    for row in range(2):
        expected, _ = explain_seeded(net, start[row], x[row], "support", words_compete=False)
        torch.testing.assert_close(maps[row], expected, rtol=1e-9, atol=1e-9)


@BOTH
@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_features_from_a_linear_layer_compete_with_their_own_children(kind, negative):
    """No non-linearity between the features and the cell: g_t is one map of the inputs and of h_{t-1}."""
    lstm = nn.LSTM(D, H, batch_first=True) if kind == "tanh" else ReLULSTM(D, H)
    net = randomize(nn.Sequential(nn.Linear(5, D), Recurrent(lstm, H)), seed=6)
    by_hand = Recurrent(ByHand(lstm, "sum", torch.tanh if kind == "tanh" else torch.relu), H)
    by_hand.head = net[1].head
    x = numbers(3, T, 5)
    expected = eb(nn.Sequential(net[0], by_hand).eval(), x, (T - 1, 0), negative)
    torch.testing.assert_close(eb(net, x, (T - 1, 0), negative), expected, rtol=1e-9, atol=1e-12)


def test_one_step_of_one_neuron_by_hand():
    """c = i g, g = tanh(2 x_1 - x_2 + 3 h_0): x_1 = 1 and x_2 = -2 support it equally; h_0 is a bias."""
    lstm = nn.LSTM(2, 1, batch_first=True, bias=False).double()
    with torch.no_grad():
        lstm.weight_ih_l0.zero_()[2] = torch.tensor([2.0, -1.0]).double()
        lstm.weight_hh_l0.zero_()[2] = 3.0
    net = Recurrent(lstm, 1, torch.ones(1, 1).double(), torch.ones(1, 1).double()).double().eval()
    net.head.weight.data.fill_(1.0)
    x = torch.tensor([[[1.0, -2.0]]]).double()
    torch.testing.assert_close(eb(net, x, (0, 0)), torch.tensor([[[0.5, 0.5]]]).double())


@BOTH
@pytest.mark.parametrize("seed", range(4))
def test_gru_with_the_reset_gate_before_its_weights_follows_the_same_rules(seed, negative):
    """h = (1 - z) n + z h', n = tanh(W x + U (r h')): compared with loops over its neurons."""

    class GRU(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.u = nn.Linear(D, 3 * H), nn.Linear(H, 3 * H, bias=False)
            self.joint, self.head = nn.Linear(D + H, H), nn.Linear(H, 2)

        def forward(self, x):
            h = x.new_zeros(len(x), H)
            for x_t in x.unbind(1):
                r, z = (self.w(x_t) + self.u(h))[:, : 2 * H].sigmoid().chunk(2, 1)
                n = torch.tanh(self.joint(torch.cat([x_t, r * h], 1)))
                h = (1 - z) * n + z * h
            return self.head(h)

    net, clamp = randomize(GRU(), seed), negative == "clamp"
    cell = Cell(torch.zeros(2, 1, 1), [], clamp)
    x = numbers(2, T, D, seed=seed)
    maps = eb(net, x, 1, negative)
    for row in range(2):
        h, steps = torch.zeros(H).double(), []
        with torch.no_grad():
            for x_t in x[row]:
                r, z = (net.w(x_t) + net.u(h))[: 2 * H].sigmoid().chunk(2)
                children = torch.cat([x_t, r * h])
                n = torch.tanh(net.joint(children))
                new, old, before = (1 - z) * n, z * h, h
                h = new + old
                steps.append([v.tolist() for v in (children, n, new, old, before)])
        # A state is the sum of two parts, each of which the classifier and the reset gate's product see:
        # the classifier by sign, since it is a linear map behind a sum; the gates by the state's own sign.
        mass = [[0.0, 0.0] for _ in range(H)]
        pairs = [cell.pair(a) for a in steps[-1][2]], [cell.pair(b) for b in steps[-1][3]]
        both = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(*pairs, strict=True)]
        weights = net.head.weight[1].tolist()
        cell.split(1.0, [(mass, k, pair, weights[k]) for k, pair in enumerate(both)], 1)
        expected = []
        for children, n, new, old, before in reversed(steps):
            below = [[0.0, 0.0] for _ in range(D + H)]
            mass_before = [[0.0, 0.0] for _ in range(H)]
            for j in range(H):
                for kind in (0, 1):
                    a, b = cell.pair(new[j])[kind], cell.pair(old[j])[kind]
                    if a + b == 0.0:
                        continue
                    for k, part in enumerate(cell.own(mass[j][kind] * b / (a + b), before[j])):
                        mass_before[j][k] += part
                    row_of_n = net.joint.weight[j].tolist()
                    shares = [(below, k, cell.pair(v), row_of_n[k]) for k, v in enumerate(children)]
                    cell.split(mass[j][kind] * a / (a + b), shares, cell.sign(n[j]))
            expected.insert(0, [sum(pair) for pair in below[:D]])
            for j in range(H):  # r h' hands its mass to h', as a state
                for k, part in enumerate(cell.own(sum(below[D + j]), before[j])):
                    mass_before[j][k] += part
            mass = mass_before
        wanted = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(maps[row], wanted, rtol=1e-9, atol=1e-9)


def test_layer_maps_of_the_recurrent_layers_input():
    net = randomize(nn.Sequential(nn.Linear(5, D), nn.ReLU(), Recurrent(nn.LSTM(D, H), H)), seed=2)
    x = numbers(2, T, 5)
    features = LayerExcitationBackprop(net, "1").attribute(x, target=(T - 1, 0))
    torch.testing.assert_close(features, eb(net[2], net[:2](x).detach(), (T - 1, 0)), rtol=1e-9, atol=1e-12)
