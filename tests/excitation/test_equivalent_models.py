"""Two ways of writing the same computation have the same map."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_ext.attr import ExcitationBackprop

N, T, D, K = 3, 5, 4, 6


class Net(nn.Module):
    def __init__(self, run):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.fc = nn.Linear(D, 7), nn.Linear(7, 7), nn.Linear(7, K)
        self.lstm, self.time_first = nn.LSTM(7, 7, batch_first=True), nn.LSTM(7, 7)
        self.time_first.load_state_dict(self.lstm.state_dict())
        nn.init.constant_(self.fc.bias, -9.0)  # all logits below zero: a net value would support nothing
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def logits(net, x):
    return net.fc(net.a(x).relu())


def filled(net, x):
    out = torch.zeros(len(x), T, K, dtype=x.dtype)
    for t in range(T):
        out[:, t].copy_(logits(net, x[:, t]))
    return out


def largest(scores):
    return scores.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)


def masked(scores):
    keep = torch.ones_like(scores, dtype=torch.bool)
    keep[:, 2] = False
    return keep


def relu_on_a_slice(net, x):
    z = net.a(x)
    z[..., :4].relu_()
    return net.fc(z.tanh()).mean(1)


def relu_beside_a_slice(net, x):
    z = net.a(x)
    return net.fc(torch.cat([z[..., :4].relu(), z[..., 4:]], -1).tanh()).mean(1)


PAIRS = {
    "max over time": (lambda n, x: logits(n, x).max(1)[0], lambda n, x: largest(logits(n, x))),
    "amax over time": (lambda n, x: logits(n, x).amax(1), lambda n, x: largest(logits(n, x))),
    "mean of the two best": (
        lambda n, x: logits(n, x).topk(2, 1)[0].mean(1),
        lambda n, x: (lambda s: s.gather(1, s.argsort(1, descending=True)[:, :2]).mean(1))(logits(n, x)),
    ),
    "sorted": (lambda n, x: logits(n, x).sort(1)[0].mean(1), lambda n, x: logits(n, x).mean(1)),
    "masked mean": (
        lambda n, x: logits(n, x).masked_fill(~masked(logits(n, x)), 0).mean(1),
        lambda n, x: logits(n, x)[:, [0, 1, 3, 4]].sum(1),
    ),
    "scores copied into a buffer": (lambda n, x: filled(n, x).mean(1), lambda n, x: logits(n, x).mean(1)),
    "mean of log-probabilities": (
        lambda n, x: F.log_softmax(logits(n, x), -1).mean(1),
        lambda n, x: logits(n, x).mean(1),
    ),
    "relu on a slice in place": (relu_on_a_slice, relu_beside_a_slice),
    "keywords": (
        lambda n, x: torch.stack(
            tensors=[n.fc(torch.relu(input=n.a(x[:, t]))) for t in range(T)], dim=1
        ).mean(1),
        lambda n, x: logits(n, x).mean(1),
    ),
    "a cast in between": (
        lambda n, x: n.fc(n.b(n.a(x).relu()).float().double()).mean(1),
        lambda n, x: n.fc(n.b(n.a(x).relu())).mean(1),
    ),
    "relu by a mask": (
        lambda n, x: (lambda z: n.fc(z * (z > 0)).mean(1))(n.a(x)),
        lambda n, x: logits(n, x).mean(1),
    ),
    "time first": (
        lambda n, x: n.fc(n.lstm(n.a(x).relu())[0]).mean(1),
        lambda n, x: n.fc(n.time_first(n.a(x).relu().transpose(0, 1))[0]).mean(0),
    ),
}


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("pair", PAIRS)
def test_two_ways_of_writing_a_model_have_one_map(pair, negative):
    torch.manual_seed(1)
    x = torch.randn(N, T, D).double()
    maps = [
        ExcitationBackprop(Net(run).double().eval(), negative).attribute(x, target=[0, 3, 5])
        for run in PAIRS[pair]
    ]
    assert maps[0].abs().sum() > 0.5
    # Through float the two differ by its rounding.
    tolerance = 1e-5 if "cast" in pair else 1e-9
    torch.testing.assert_close(maps[0], maps[1], rtol=tolerance, atol=tolerance)


def test_an_initial_state_below_zero_supports_with_its_own_sign():
    class FromState(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.cell = nn.Linear(1, 1, bias=False), nn.LSTMCell(1, 1, bias=False)
            with torch.no_grad():
                self.start.weight.fill_(-1.0)
                self.cell.weight_ih.zero_()
                self.cell.weight_hh.fill_(-1.0)

        def forward(self, x):
            h = self.start(x)
            return self.cell(torch.zeros_like(x), (h, torch.zeros_like(x)))[0]

    found, delta = ExcitationBackprop(FromState().double().eval()).attribute(
        torch.ones(2, 1).double(), target=0, return_convergence_delta=True
    )
    assert torch.equal(found, torch.ones(2, 1).double())
    assert not delta.any()


def test_a_chain_of_linear_maps_may_be_as_long_as_a_clip():
    class RunningSum(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 3)
            nn.init.uniform_(self.fc.weight)

        def forward(self, x):
            total = self.fc(x[:, 0])
            for t in range(1, x.shape[1]):
                total = total + self.fc(x[:, t])
            return total

    x = torch.rand(1, 1200, 2)
    found = ExcitationBackprop(RunningSum().eval()).attribute(x, target=1)
    assert abs(float(found.sum()) - 1) < 1e-4
