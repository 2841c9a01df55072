"""Wrong rules must not agree with the engine: the comparison has teeth.

Each control changes one thing in the slow computation. On a network where that thing matters the engine
agrees with the right rule and disagrees with the wrong one by far more than the tolerance of the other tests.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from dense_reference import (
    Fn,
    Gate,
    Join,
    Product,
    Tape,
    classifier_on,
    dense,
    eb,
    explain,
    numbers,
    randomize,
)
from torch import nn

from captum_ext.attr import ExcitationBackprop

FAR = 1e-3


def conv():
    return nn.Conv2d(2, 2, 3, padding=1)


def seq(*layers):
    return nn.Sequential(*layers)


class BiasInTheDenominator(Tape):
    """zennit's composite: b^+ competes."""

    def also_in_the_denominator(self, node, j):
        if node.bare[j]:
            return 0.0
        explained = sum(
            (up[j] - down[j]) @ torch.tensor(state.value).double() for state, (up, down) in node.paths.items()
        )
        return max(float(node.value.reshape(-1)[j] - explained), 0.0)


class AbsoluteWeights(Tape):
    """|a w| in place of (a w)^+."""

    def contribution(self, a, up, down, sign):
        return abs(a) * (up + down)


class NetWeightsOfChains(Tape):
    """Two linear maps multiplied first, the positive part taken afterwards."""

    def contribution(self, a, up, down, sign):
        return max(sign * a * (up - down), 0.0)


class GammaWithoutItsSign(Tape):
    """Batch norm passed through."""

    def affine(self, fn, node):
        self.parts = lambda weight: (weight.abs(), torch.zeros_like(weight))
        node = super().affine(fn, node)
        del self.parts
        return node


class SumByGradient(Tape):
    """Every operand of a sum gets all."""

    def join(self, fn, *nodes, moves=False):
        if len(nodes) == 1 or moves:
            return super().join(fn, *nodes, moves=moves)
        value = fn(*[node.value.clone() for node in nodes])
        same = torch.eye(value.numel(), dtype=torch.float64)
        return self.state(value, *((node, same, self.own_signs(node)) for node in nodes))


class SumByNetValue(Tape):
    """Operands of a sum compete with their net values, not with their own supports."""

    def linear_node(self, node, behind):
        same = torch.eye(node.value.numel(), dtype=torch.float64)
        return self.state(node.value, (node, same, self.own_signs(node)))


class GatesTakeHalf(Tape):
    def gated(self, fn, value, gate):
        return self.product(fn, value, gate)

    gated_layer = gated


class ValueTakesAll(Tape):
    def product(self, fn, a, b):
        return self.gated(fn, a, b)


class ParentsArePositive(Tape):
    def own_signs(self, node):
        return [1] * node.value.numel()


class NegativeChildrenGetNothing(Tape):
    def contribution(self, a, up, down, sign):
        return super().contribution(max(a, 0.0), up, down, sign)


class SaturatedUnitsDropMass(Tape):
    def activation(self, fn, node, signs=None):
        output = super().activation(fn, node, signs)
        state = self.states[-1]
        ((behind, same, sign),) = state.routes
        state.routes = [(behind, same * (output.value.reshape(-1, 1) < 6), sign)]
        return output


class MaxPoolByAverage(Tape):
    def winner(self, fn, node):
        return self.join(lambda x: F.avg_pool2d(x, 2), node)


class UniformAverage(Tape):
    """The gradient of a mean: every entry gets the same."""

    def join(self, fn, *nodes, moves=False):
        if not isinstance(fn, nn.AvgPool2d):
            return super().join(fn, *nodes, moves=moves)
        weights = super().join(fn, *nodes)
        (pool,) = dense(fn, nodes[0].value)
        return self.state(weights.value, (nodes[0], pool, self.own_signs(nodes[0])))


def add(a, b):
    return a + b


def times(a, b):
    return a * b


CONTROLS = {
    BiasInTheDenominator: lambda: [conv(), nn.ReLU()],
    AbsoluteWeights: lambda: [conv(), nn.ReLU()],
    NetWeightsOfChains: lambda: [conv(), conv(), nn.ReLU()],
    GammaWithoutItsSign: lambda: [conv(), nn.BatchNorm2d(2), nn.ReLU()],
    SumByGradient: lambda: [Join(add, seq(conv(), nn.ReLU()), nn.Identity()), nn.ReLU()],
    SumByNetValue: lambda: [Join(add, conv(), nn.Identity()), nn.ReLU()],
    GatesTakeHalf: lambda: [Gate(times, conv(), seq(conv(), nn.Sigmoid()))],
    ValueTakesAll: lambda: [Product(times, conv(), seq(conv(), nn.Tanh()))],
    ParentsArePositive: lambda: [conv(), nn.Tanh()],
    NegativeChildrenGetNothing: lambda: [conv(), nn.Tanh()],
    SaturatedUnitsDropMass: lambda: [conv(), Fn("affine", lambda x: 9 * x), nn.ReLU6()],
    MaxPoolByAverage: lambda: [conv(), nn.ReLU(), nn.MaxPool2d(2)],
    UniformAverage: lambda: [conv(), nn.ReLU(), nn.AvgPool2d(2)],
}


@pytest.mark.parametrize("wrong", CONTROLS, ids=lambda rule: rule.__name__)
def test_a_wrong_rule_disagrees_with_the_engine(wrong):
    x = numbers(1, 2, 4, 4)
    net = classifier_on(seq(*CONTROLS[wrong]()), x)
    found = eb(net, x)
    torch.testing.assert_close(found, explain(net, x, 1)[0], rtol=1e-9, atol=1e-9)
    assert (found - explain(net, x, 1, tape=wrong)[0]).abs().max() > FAR


def test_splitting_the_cell_input_by_net_value_first_is_not_the_joint_step():
    """An identity that counts as non-linear makes x's and h's part of the cell input states of their own."""

    class Cell(nn.Module):
        def __init__(self, two_stages):
            super().__init__()
            self.w, self.u, self.top = nn.Linear(3, 8), nn.Linear(2, 8, bias=False), nn.Linear(2, 2)
            self.two_stages = two_stages

        def forward(self, x):
            h = c = x.new_zeros(len(x), 2)
            for x_t in x.unbind(1):
                a, b = self.w(x_t), self.u(h)
                if self.two_stages:
                    a, b = F.hardtanh(a, -1e9, 1e9), F.hardtanh(b, -1e9, 1e9)
                i, f, g, o = (a + b).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            return self.top(h)

    joint, split, x = randomize(Cell(False)), randomize(Cell(True)), numbers(3, 4, 3)
    assert torch.equal(joint(x), split(x))
    assert (eb(joint, x) - eb(split, x)).abs().max() > FAR


def test_the_dual_of_another_layer_is_another_contrast():
    x = numbers(3, 4)
    net = randomize(seq(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2)))
    found = ExcitationBackprop(net).attribute(x, target=1, contrastive=True)
    expected = eb(net, x)
    net[2].weight.data.neg_()
    assert (found - (expected - eb(net, x))).abs().max() > FAR
