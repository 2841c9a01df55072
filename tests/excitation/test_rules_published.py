"""recurrence="published": the recurrences of the papers' released code, written as loops in float64.

Inside the unit plain gradients go to all four gates; at W x + U h everything goes to W x, so only the cell
state connects the steps; W x is a step of Excitation Backprop without h and without the bias.
"""

from __future__ import annotations

import pytest
import torch
from dense_reference import numbers, randomize
from torch import nn

from captum_ext.attr import RecurrentExcitationBackprop
from captum_ext.excitation import Mass, UnsupportedOperationError, capture, record
from captum_ext.models import FrameCNNLSTM, ReLULSTM

D, H, T = 4, 3, 5


def published_loop(x, weights, phi, slope, m_out, m_c, h_0, c_0):
    """Mass of the inputs of one sequence x (T, D), from that of the outputs (T, H) and of the last c (H,)."""
    w, u, b = weights
    h, c, steps = h_0, c_0, []
    for x_t in x:
        i, f, g, o = (w @ x_t + u @ h + b).chunk(4)
        i, f, o = i.sigmoid(), f.sigmoid(), o.sigmoid()
        z_g, before = g, c
        c = f * c + i * phi(g)
        h = o * phi(c)
        steps.append((x_t, i, f, phi(g), z_g, o, c, before))
    m_x = torch.zeros_like(x)
    for t in reversed(range(len(x))):
        x_t, i, f, g, z_g, o, c, before = steps[t]
        s = m_c + m_out[t] * o * slope(c)
        m_c = s * f
        m_z = [s * g * i * (1 - i), s * before * f * (1 - f), s * i * slope(z_g)]
        m_z = torch.cat([*m_z, m_out[t] * phi(c) * o * (1 - o)])
        for j, row in enumerate(w):
            pulls = (x_t * row).clamp(min=0)
            if pulls.sum() > 0:
                m_x[t] += m_z[j] * pulls / pulls.sum()
    return m_x, m_c


PHI = {
    "tanh": (torch.tanh, lambda z: 1 - z.tanh() ** 2),
    "relu": (torch.relu, lambda z: (z > 0).double()),
}


class Clips(nn.Module):
    """Frames (N, 3, T, 1, 1) through a 1 x 1 convolution into a recurrent layer, scores at every step."""

    def __init__(self, recurrence, state=None, relu=True):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, D, 1), nn.ReLU() if relu else nn.Identity()
        self.recurrence, self.state, self.head = recurrence, state, nn.Linear(H, 2)

    def features(self, clips):
        n, _, t = clips.shape[:3]
        return self.relu(self.conv(clips.transpose(1, 2).flatten(0, 1))).view(n, t, D)

    def forward(self, clips):
        x, n = self.features(clips), len(clips)
        state = () if self.state is None else (tuple(s.expand(n, -1).contiguous() for s in self.state),)
        if isinstance(self.recurrence, nn.LSTMCell):
            h, c = state[0] if state else (x.new_zeros(n, H),) * 2
            hidden = []
            for x_t in x.unbind(1):
                h, c = self.recurrence(x_t, (h, c))
                hidden.append(h)
            return self.head(torch.stack(hidden, 1))
        if isinstance(self.recurrence, nn.LSTM):
            state = tuple(tuple(s[None] for s in pair) for pair in state)
        return self.head(self.recurrence(x, *state)[0])


def parameters(module):
    suffix = "_l0" if isinstance(module, nn.LSTM) else ""
    bias = module.bias if isinstance(module, ReLULSTM) else sum(
        getattr(module, f"bias_{kind}{suffix}") for kind in ("ih", "hh")
    )  # fmt: skip
    return getattr(module, "weight_ih" + suffix), getattr(module, "weight_hh" + suffix), bias


MODULES = {
    "nn.LSTM": lambda: nn.LSTM(D, H, batch_first=True),
    "nn.LSTMCell": lambda: nn.LSTMCell(D, H),
    "ReLULSTM": lambda: ReLULSTM(D, H),
}


def alive(net):
    """Weights under which mass reaches the inputs."""
    net = randomize(net, seed=3)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "bias" in name:
                parameter.fill_(0.5)
        net.head.weight.abs_()
    return net


def classifier_step(net, hidden):
    pulls = (hidden * net.head.weight[1]).clamp(min=0)
    return pulls / pulls.sum() if pulls.sum() > 0 else pulls


def masses_of_features(net, clips, target, recurrence="published"):
    """Mass at the frame features before it is normalised, (N, T, D)."""
    leaf = clips.clone().requires_grad_()
    step, k = target

    def run():
        return net(leaf)[:, step, k]

    with capture(net.relu) as calls, record(net, run, [leaf], "support", recurrence=recurrence) as recording:
        start = Mass(torch.ones_like(recording.output))
        (mass,) = recording.propagate([recording.output], [start], calls, "unreachable")
    return mass.total.view(len(clips), T, D)


@pytest.mark.parametrize("step", [0, 2, T - 1])
@pytest.mark.parametrize("given", [False, True], ids=["zero states", "constant states"])
@pytest.mark.parametrize("name", MODULES)
def test_published_recurrences_equal_their_loops(name, given, step):
    states = (numbers(1, H, seed=11), numbers(1, H, seed=12)) if given else None
    if name == "ReLULSTM" and given:
        states = tuple(state.abs() for state in states)
    net = alive(Clips(MODULES[name](), states))
    clips = numbers(2, 3, T, 1, 1)
    found = masses_of_features(net, clips, (step, 1))
    phi, slope = PHI["relu" if name == "ReLULSTM" else "tanh"]
    with torch.no_grad():
        x = net.features(clips)
        hidden = []
        net.head.register_forward_hook(lambda _, args, __: hidden.append(args[0]))
        net(clips)
        for row in range(2):
            m_out = torch.zeros(T, H).double()
            m_out[step] = classifier_step(net, hidden[0][row, step])
            h_0, c_0 = (s[0] for s in states) if given else torch.zeros(2, H).double()
            zero = torch.zeros(H).double()
            m_x, _ = published_loop(x[row], parameters(net.recurrence), phi, slope, m_out, zero, h_0, c_0)
            torch.testing.assert_close(found[row], m_x, rtol=1e-9, atol=1e-12)
            assert torch.equal(found[row, step + 1 :], torch.zeros(T - step - 1, D).double())
    assert found.abs().sum() > 1e-3


def test_eb_r_normalises_the_published_masses():
    net, clips = alive(Clips(ReLULSTM(D, H))), numbers(2, 3, T, 1, 1)
    masses = masses_of_features(net, clips, (T - 1, 1))
    maps = RecurrentExcitationBackprop(net, "relu", recurrence="published").attribute(clips, (T - 1, 1))
    expected = masses / masses.sum((1, 2), keepdim=True)  # eqs. 5 and 6
    torch.testing.assert_close(maps[..., 0, 0].transpose(1, 2), expected, rtol=1e-9, atol=1e-12)


def test_published_and_value_path_differ():
    net = alive(Clips(ReLULSTM(D, H)))
    clips = numbers(2, 3, T, 1, 1)
    value, published = (
        RecurrentExcitationBackprop(net, "relu", recurrence=recurrence).attribute(clips, (T - 1, 1))
        for recurrence in ("value", "published")
    )
    assert (value - published).abs().max() > 0.05


def test_the_default_is_the_value_path():
    net = randomize(Clips(nn.LSTM(D, H, batch_first=True)), seed=3)
    clips = numbers(2, 3, T, 1, 1)
    default = RecurrentExcitationBackprop(net, "relu").attribute(clips, (1, 1))
    assert torch.equal(
        default, RecurrentExcitationBackprop(net, "relu", recurrence="value").attribute(clips, (1, 1))
    )


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (lambda: nn.GRU(D, H, batch_first=True), "GRUs"),
        (lambda: nn.RNN(D, H, batch_first=True), "plain recurrent layers"),
        (lambda: nn.LSTM(D, 6, proj_size=H, batch_first=True), "LSTMs with projections"),
    ],
    ids=["GRU", "RNN", "projection"],
)
def test_cells_that_the_code_does_not_know_are_refused(module, what):
    net = randomize(Clips(module()), seed=3)
    engine = RecurrentExcitationBackprop(net, "relu", recurrence="published")
    with pytest.raises(UnsupportedOperationError, match=f"not for {what}.*module 'recurrence'.*'value'"):
        engine.attribute(numbers(2, 3, T, 1, 1), (1, 1))


def test_a_hand_written_recurrence_is_refused():
    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.u = nn.Conv2d(3, H, 1), nn.ReLU(), nn.Linear(H, H)

        def forward(self, clips):
            h = clips.new_zeros(len(clips), H)
            for frame in clips.unbind(2):
                h = torch.tanh(self.relu(self.conv(frame)).flatten(1) + self.u(h))
            return h

    net = randomize(ByHand(), seed=3)
    engine = RecurrentExcitationBackprop(net, "relu", boundary="relu", recurrence="published")
    with pytest.raises(ValueError, match=r"recurrence='published' is only known for nn\.LSTM"):
        engine.attribute(numbers(2, 3, T, 1, 1), 1)


def test_an_unknown_recurrence_is_refused():
    with pytest.raises(ValueError, match="recurrence must be 'value' or 'published', got 'caffe'"):
        RecurrentExcitationBackprop(FrameCNNLSTM(2), "features", recurrence="caffe")
