"""Recurrent cells that people write themselves go through the ordinary rules, without a special class."""

from __future__ import annotations

import pytest
import torch
from dense_reference import numbers, randomize
from torch import nn

from captum_ext.attr import ExcitationBackprop, RecurrentExcitationBackprop

C, H, T, S = 2, 3, 4, (3, 4)
BOTH = pytest.mark.parametrize("negative", ["support", "clamp"])


class ConvLSTM(nn.Module):
    """The convolutional LSTM in the forms that circulate.

    joint: one convolution of [x, h], split with ``torch.split`` (ndrplz's). chunk: the same with ``chunk``.
    sum: convolutions of x and of h (automan000's), with peepholes if asked for. gates: one for each gate.
    """

    def __init__(self, form="joint", phi=torch.tanh, peephole=False, init="zeros", store="stack"):
        super().__init__()
        self.form, self.phi, self.init, self.store = form, phi, init, store
        self.joint = nn.Conv2d(C + H, 4 * H, 3, padding=1)
        self.of_x = nn.Conv2d(C, 4 * H, 3, padding=1)
        self.of_h = nn.Conv2d(H, 4 * H, 3, padding=1, bias=False)
        self.peephole = nn.Parameter(torch.zeros(3, H, *S)) if peephole else None
        self.head = nn.Linear(H * S[0] * S[1], 2)

    def gates(self, x, h):
        if self.form in ("joint", "chunk"):
            z = self.joint(torch.cat([x, h], dim=1))
            return torch.split(z, H, dim=1) if self.form == "joint" else z.chunk(4, 1)
        if self.form == "sum":
            return (self.of_x(x) + self.of_h(h)).chunk(4, 1)
        rows = self.of_x.weight.chunk(4), self.of_x.bias.chunk(4), self.of_h.weight.chunk(4)
        return tuple(
            nn.functional.conv2d(x, w, b, padding=1) + nn.functional.conv2d(h, u, padding=1)
            for w, b, u in zip(*rows, strict=True)
        )

    def forward(self, x):
        n, t = x.shape[:2]
        h = c = x.new_zeros(n, H, *S)
        if self.init == "none":
            h = c = None
        hidden = x.new_zeros(n, t, H, *S) if self.store == "buffer" else []
        for step in range(t):
            if h is None:
                h, c = torch.zeros(n, H, *S, dtype=x.dtype), torch.zeros(n, H, *S, dtype=x.dtype)
            i, f, o, g = self.gates(x[:, step], h)
            if self.peephole is not None:
                i, f = i + self.peephole[0] * c, f + self.peephole[1] * c
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * self.phi(g)
            if self.peephole is not None:
                o = o + self.peephole[2] * c
            h = torch.sigmoid(o) * self.phi(c)
            if self.store == "buffer":
                hidden[:, step] = h
            else:
                hidden.append(h)
        outputs = torch.stack(hidden, 1) if self.store == "stack" else hidden
        outputs = torch.cat([h[:, None] for h in hidden], 1) if self.store == "cat" else outputs
        return self.head(outputs[:, -1].flatten(1))


def as_lstm(net: ConvLSTM) -> nn.Module:
    """The same as a plain LSTM, convolutions written out as matrices; gates in torch's order i, f, g, o."""
    size = H * S[0] * S[1]

    def matrix(conv, channels):
        basis = torch.eye(channels * S[0] * S[1]).double().view(-1, channels, *S)
        columns = nn.functional.conv2d(basis, conv.weight, padding=1).view(len(basis), 4, size)
        return columns[:, [0, 1, 3, 2]].flatten(1).T

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(C * S[0] * S[1], size, batch_first=True).double()
            self.head = net.head
            bias = net.of_x.bias.view(4, H, 1).expand(-1, -1, S[0] * S[1])[[0, 1, 3, 2]].reshape(-1)
            with torch.no_grad():
                self.lstm.weight_ih_l0.copy_(matrix(net.of_x, C))
                self.lstm.weight_hh_l0.copy_(matrix(net.of_h, H))
                self.lstm.bias_ih_l0.copy_(bias)
                self.lstm.bias_hh_l0.zero_()

        def forward(self, x):
            return self.head(self.lstm(x.flatten(2))[0][:, -1])

    return Flat().eval()


def conv_lstm(**settings):
    net = randomize(ConvLSTM(**settings), seed=4)
    with torch.no_grad():  # all forms hold the same weights
        net.joint.weight.copy_(torch.cat([net.of_x.weight, net.of_h.weight], 1))
        net.joint.bias.copy_(net.of_x.bias)
        for module in (net.joint, net.of_x, net.of_h):
            module.weight.mul_(0.5)
    return net


@BOTH
@pytest.mark.parametrize("form", ["joint", "chunk", "sum", "gates"])
def test_conv_lstm_equals_the_lstm_of_its_matrices(form, negative):
    net, x = conv_lstm(form=form), numbers(2, T, C, *S)
    flat = as_lstm(net)
    torch.testing.assert_close(net(x), flat(x))
    expected = ExcitationBackprop(flat, negative=negative).attribute(x, target=1)
    found = ExcitationBackprop(net, negative=negative).attribute(x, target=1)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("store", ["stack", "cat", "buffer"])
@pytest.mark.parametrize("init", ["zeros", "none"])
@pytest.mark.parametrize("form", ["joint", "sum"])
def test_the_way_states_are_made_and_kept_changes_nothing(form, init, store):
    x = numbers(2, T, C, *S)
    expected = ExcitationBackprop(conv_lstm(form="chunk")).attribute(x, target=1)
    found = ExcitationBackprop(conv_lstm(form=form, init=init, store=store)).attribute(x, target=1)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("phi", [torch.tanh, torch.relu], ids=["tanh", "relu"])
@pytest.mark.parametrize("form", ["joint", "sum"])
def test_peepholes_are_gates_and_get_nothing(form, phi):
    """With the gates' values fixed, peepholes leave the map as it is; here mass is conserved with them."""
    net = conv_lstm(form=form, phi=phi, peephole=True)
    with torch.no_grad():
        net.peephole.copy_(numbers(3, H, *S, seed=5))
    maps, delta = ExcitationBackprop(net).attribute(
        numbers(2, T, C, *S), target=1, return_convergence_delta=True
    )
    torch.testing.assert_close(maps.sum((1, 2, 3, 4)) + delta, torch.ones(2).double())
    assert (maps >= 0).all()
    assert (delta < 0.9).all()


class Frames(nn.Module):
    """A per-frame convolution below a hand-written cell: the boundary is named."""

    def __init__(self, cell):
        super().__init__()
        self.conv, self.relu, self.cell = nn.Conv2d(3, C, 1), nn.ReLU(), cell

    def forward(self, clips):
        n, _, t = clips.shape[:3]
        frames = self.relu(self.conv(clips.transpose(1, 2).flatten(0, 1)))
        return self.cell(frames.view(n, t, *frames.shape[1:]))


@pytest.mark.parametrize("contrastive", [False, True])
def test_eb_r_through_a_hand_written_cell_sums_to_one_or_to_zero(contrastive):
    net = randomize(Frames(conv_lstm(form="sum")), seed=7)
    clips = numbers(2, 3, T, *S, signed=False)
    maps = RecurrentExcitationBackprop(net, "relu", boundary="relu").attribute(
        clips, 1, contrastive=contrastive
    )
    assert maps.shape == (2, C, T, *S)
    total = torch.full((2,), float(not contrastive)).double()
    torch.testing.assert_close(maps.sum((1, 2, 3, 4)), total, rtol=1e-9, atol=1e-9)


# -------------------------------------------------------------------------------------- cells without a class


class MinimalGatedUnit(nn.Module):
    """f = sigmoid(.), n = tanh(W x + U (f h)), h = (1 - f) h + f n."""

    def __init__(self):
        super().__init__()
        self.gate, self.w, self.u = nn.Linear(C + H, H), nn.Linear(C, H), nn.Linear(H, H, bias=False)

    def forward(self, x, h):
        f = self.gate(torch.cat([x, h], -1)).sigmoid()
        return (1 - f) * h + f * torch.tanh(self.w(x) + self.u(f * h))


class CoupledLSTMState(nn.Module):
    """A state whose forget and input gates sum to 1, the simple recurrent unit's: c = f c + (1 - f) W x."""

    def __init__(self):
        super().__init__()
        self.gate, self.w = nn.Linear(C, H), nn.Linear(C, H)

    def forward(self, x, h):
        f = torch.sigmoid(self.gate(x))
        return f * h + (1 - f) * self.w(x)


class Residual(nn.Module):
    """h + tanh(W x + U h)."""

    def __init__(self):
        super().__init__()
        self.w, self.u = nn.Linear(C, H), nn.Linear(H, H)

    def forward(self, x, h):
        return h + torch.tanh(self.w(x) + self.u(h))


class Independent(nn.Module):
    """ReLU(W x + u h) with one weight per neuron."""

    def __init__(self):
        super().__init__()
        self.w, self.u = nn.Linear(C, H), nn.Parameter(torch.ones(H))

    def forward(self, x, h):
        return torch.relu(self.w(x) + self.u * h)


class Unrolled(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(H, 2)

    def forward(self, x):
        h = x.new_zeros(len(x), H)
        for x_t in x.unbind(1):
            h = self.cell(x_t, h)
        return self.head(h)


CELLS = (MinimalGatedUnit, CoupledLSTMState, Residual, Independent)


@BOTH
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cell", CELLS)
def test_mass_of_a_minimal_cell_is_conserved_up_to_what_is_dropped(cell, seed, negative):
    net = randomize(Unrolled(cell()), seed)
    maps, delta = ExcitationBackprop(net, negative=negative).attribute(
        numbers(4, T, C, seed=seed), target=1, return_convergence_delta=True
    )
    torch.testing.assert_close(maps.sum((1, 2)) + delta, torch.ones(4).double(), rtol=1e-9, atol=1e-9)
    assert (maps >= 0).all()
    assert (delta < 1 + 1e-9).all()
    if negative == "support":
        assert (delta < 0.5).any()


@pytest.mark.parametrize("cell", CELLS)
def test_examples_do_not_depend_on_their_batch(cell):
    net, x = randomize(Unrolled(cell()), 1), numbers(4, T, C)
    engine = ExcitationBackprop(net)
    together = engine.attribute(x, target=1)
    alone = torch.cat([engine.attribute(x[row : row + 1], target=1) for row in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)


def test_a_gate_on_half_of_a_layer_is_one_map_with_it():
    """a * sigmoid(b) of one layer's halves equals that of two layers, and F.linear scaled by the gate."""

    class Halves(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(C, 2 * H), nn.Linear(H, 2)

        def forward(self, x):
            a, b = self.layer(x).chunk(2, 1)
            return self.head(a * torch.sigmoid(b))

    net, x = randomize(Halves(), 3), numbers(4, C)
    w, v = net.layer.weight[:H], net.head.weight[1]
    gate = net.layer(x)[:, H:].sigmoid()
    pulls = (v * gate).unsqueeze(2) * w * x.unsqueeze(1)
    expected = pulls.clamp(min=0).sum(1) / pulls.clamp(min=0).sum((1, 2), keepdim=True)[:, 0]
    torch.testing.assert_close(
        ExcitationBackprop(net).attribute(x, target=1), expected.detach(), rtol=1e-9, atol=1e-12
    )


# ------------------------------------------------------------------------------ states detached between steps


@pytest.mark.parametrize("make", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("how", ["detach", "data"])
def test_detached_states_are_biases_so_only_the_last_step_has_evidence(make, how):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = make(C, H), nn.Linear(H, 2)

        def forward(self, x, h=None, c=None):
            for x_t in x.unbind(1):
                if h is not None:
                    h, c = ((s.detach() if how == "detach" else s.data) for s in (h, h if c is None else c))
                state = None if h is None else (h, c) if make is nn.LSTMCell else h
                state = self.cell(x_t, state)
                h, c = state if make is nn.LSTMCell else (state, None)
            return self.head(h)

    net, x = randomize(Detached(), 2), numbers(2, T, C)
    maps, delta = ExcitationBackprop(net).attribute(x, target=1, return_convergence_delta=True)
    assert torch.equal(maps[:, :-1], torch.zeros(2, T - 1, C).double())
    torch.testing.assert_close(maps.sum((1, 2)) + delta, torch.ones(2).double(), rtol=1e-9, atol=1e-9)
    assert float(maps.sum()) > 0
