"""Properties of graphs drawn at random: any operation may read any earlier tensor, once or several times.

All tensors have the shape (N, C, H, W), so that the operations can be wired in any way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch
from dense_reference import eb, numbers, randomize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_ext.excitation import Mass, numerics, record
from captum_ext.excitation.functions import RecurrentFunction
from captum_ext.excitation.maps import SumMap

N, C, H, W = 2, 4, 3, 5
N_CLASSES = 3
PROFILE = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


# ---------------------------------------------------------------------------------------- operations


class Apply(nn.Module):
    """A function of one or two tensors."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.function(*tensors)


class Concatenation(nn.Module):
    """Two tensors concatenated and mixed; ``swap`` writes the same with the operands exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = conv(2 * C, kernel_size=1)
        self.swapped = False

    def swap(self) -> None:
        self.swapped = True
        with torch.no_grad():
            self.mix.weight.copy_(self.mix.weight.roll(C, 1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.mix(torch.cat([b, a] if self.swapped else [a, b], 1))


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.swapped = False

    def swap(self) -> None:
        self.swapped = True

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return b + a if self.swapped else a + b


class Gate(nn.Module):
    """One tensor times a sigmoid of the other, at every position or as squeeze and excitation."""

    def __init__(self, squeeze: bool) -> None:
        super().__init__()
        self.squeeze, self.mix = squeeze, conv(kernel_size=1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * self.mix(b.mean((2, 3), keepdim=True) if self.squeeze else b).sigmoid()


class Attention(nn.Module):
    """Self-attention over the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(C, 2, batch_first=True)

    def forward(self, a: Tensor) -> Tensor:
        tokens = a.flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return mixed.transpose(1, 2).unflatten(2, (H, W))


class Recurrent(nn.Module):
    """A recurrent layer that runs along the columns."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.layer = kind(C * H, C * H, batch_first=True)

    def forward(self, a: Tensor) -> Tensor:
        steps = a.permute(0, 3, 1, 2).flatten(2)
        return self.layer(steps)[0].unflatten(2, (C, H)).permute(0, 2, 3, 1)


class Scalable(nn.Module):
    """Two convolutions; what the first is multiplied by, the second is divided by."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(), conv()

    def scale(self, factor: float) -> None:
        with torch.no_grad():
            self.first.weight.mul_(factor)
            self.first.bias.mul_(factor)
            self.second.weight.div_(factor)

    def forward(self, a: Tensor) -> Tensor:
        return self.second(self.first(a).relu())


def conv(channels: int = C, kernel_size: int = 3, **options: object) -> nn.Module:
    return nn.Conv2d(channels, C, kernel_size, padding=kernel_size // 2, **options)


def seq(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


# A norm sits on a layer here: on a ReLU it would send mass to units that are off, which lose it.
UNARY = {
    "conv": conv,
    "grouped conv": lambda: conv(groups=2),
    "conv, bn": lambda: seq(conv(bias=False), nn.BatchNorm2d(C)),
    "conv, layer norm": lambda: seq(conv(), nn.LayerNorm((W,))),
    "linear": lambda: nn.Linear(W, W),
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "max pool": lambda: nn.MaxPool2d(3, 1, 1),
    "avg pool": lambda: nn.AvgPool2d(3, 1, 1),
    "mean": lambda: Apply(lambda a: a.mean(2, keepdim=True).expand_as(a)),
    "slices": lambda: Apply(lambda a: torch.cat([a[..., 2:], a[..., :2]], 3)),
    "attention": Attention,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "two convs": Scalable,
}
BINARY = {
    "add": Sum,
    "subtract": lambda: Apply(lambda a, b: a - b),
    "concatenate": Concatenation,
    "gate": lambda: Gate(squeeze=False),
    "squeeze": lambda: Gate(squeeze=True),
    "multiply": lambda: Apply(lambda a, b: a * b),
}
# f(c x) = c f(x) for c > 0, once the biases are zero.
HOMOGENEOUS = ("conv", "grouped conv", "linear", "relu", "max pool", "avg pool", "mean", "slices", "add",
               "subtract", "concatenate", "two convs")  # fmt: skip


class Graph(nn.Module):
    """Operations in order; each reads one or two of the tensors before it, counted from the latest."""

    def __init__(self, wiring: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.operations = nn.ModuleList({**UNARY, **BINARY}[name]() for name, _, _ in wiring)
        self.sources = [(a, b) if name in BINARY else (a,) for name, a, b in wiring]
        self.head = nn.Linear(C * H * W, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tensors = [x]
        for operation, back in zip(self.operations, self.sources, strict=True):
            tensors.append(operation(*[tensors[-1 - k % len(tensors)] for k in back]))
        return self.head(tensors[-1].flatten(1))


def wirings(*names: str) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    back = st.integers(0, 3)
    return st.lists(st.tuples(st.sampled_from(names), back, back), min_size=1, max_size=7)


def graph(wiring: list[tuple[str, int, int]], seed: int) -> nn.Module:
    net = randomize(Graph(wiring), seed)
    with torch.no_grad():
        net.head.weight.mul_(0.5)
    return net


everything = wirings(*UNARY, *BINARY)
seeds = st.integers(0, 10_000)
treatments = st.sampled_from(["support", "clamp"])


@contextmanager
def counting_drops() -> Iterator[list[float]]:
    """Mass of parents without support, counted where it is divided, and what recurrent layers keep."""
    drops: list[float] = []
    backward = RecurrentFunction.backward

    def divide(mass: Tensor, support: Tensor) -> Tensor:
        drops.append(float(mass[support < torch.finfo(support.dtype).tiny].sum()) / numerics.UNIT)
        return numerics.safe_divide(mass, support)

    def watched(ctx: object, *masses: Tensor) -> tuple[Tensor | None, ...]:
        received = backward(ctx, *masses)
        lost = sum(float(m.sum()) for m in masses) - sum(float(m.sum()) for m in received if m is not None)
        lost /= numerics.UNIT
        assert lost > -1e-9, "a recurrent layer made mass"
        drops.append(lost)
        return received

    with (
        mock.patch("captum_ext.excitation.maps.safe_divide", divide),
        mock.patch.object(RecurrentFunction, "backward", staticmethod(watched)),
    ):
        yield drops


def assert_conserved(net: nn.Module, x: Tensor, negative: str = "support") -> None:
    with counting_drops() as drops:
        found = eb(net, x, negative=negative)
    assert found.min() >= 0
    assert abs(float(found.sum()) + sum(drops) - len(x)) < 1e-9


# ---------------------------------------------------------------------------------------- properties


@PROFILE
@given(everything, seeds, treatments)
def test_the_map_and_what_was_dropped_on_the_way_sum_to_one(wiring, seed, negative):
    assert_conserved(graph(wiring, seed), numbers(N, C, H, W, seed=seed), negative)


@PROFILE
@given(everything, seeds, treatments, st.floats(0.01, 100.0))
def test_maps_are_linear_in_the_mass_at_the_output(wiring, seed, negative, factor):
    net, x = graph(wiring, seed), numbers(N, C, H, W, seed=seed)
    leaf = x.requires_grad_()
    first, second = numbers(2, N, N_CLASSES, signed=False, seed=seed)
    with record(net, lambda: net(leaf.clone()), [leaf], negative) as recording:

        def mass_from(start: Tensor) -> Tensor:
            (mass,) = recording.propagate([recording.output], [Mass(start)], [leaf], "unreachable")
            return mass.total

        together = mass_from(first + factor * second)
        expected = mass_from(first) + factor * mass_from(second)
        units = sum(mass_from(first * unit) for unit in torch.eye(N_CLASSES).double())
        torch.testing.assert_close(together, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(units, mass_from(first), rtol=1e-9, atol=1e-12)


@PROFILE
@given(everything, seeds, treatments, st.floats(0.01, 100.0))
def test_scaling_weights_changes_nothing_where_it_does_not_change_what_the_model_computes(
    wiring, seed, negative, factor
):
    net, x = graph([("two convs", 0, 0), *wiring], seed), numbers(N, C, H, W, seed=seed)
    before = eb(net, x, negative=negative)
    for operation in net.operations:
        if isinstance(operation, Scalable):
            operation.scale(factor)
    with torch.no_grad():
        net.head.weight.mul_(factor)  # the bias takes no part, so it need not be scaled
    torch.testing.assert_close(eb(net, x, negative=negative), before, rtol=1e-7, atol=1e-9)


@PROFILE
@given(wirings(*HOMOGENEOUS), seeds, treatments, st.floats(0.01, 100.0))
def test_without_biases_the_scale_of_the_input_does_not_matter(wiring, seed, negative, factor):
    net, x = graph(wiring, seed), numbers(N, C, H, W, seed=seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    before = eb(net, x, negative=negative)
    torch.testing.assert_close(eb(net, factor * x, negative=negative), before, rtol=1e-7, atol=1e-9)


@PROFILE
@given(everything, seeds, treatments)
def test_no_example_of_a_batch_matters_to_another(wiring, seed, negative):
    net, x = graph(wiring, seed), numbers(3, C, H, W, seed=seed)
    together = eb(net, x, negative=negative)
    alone = torch.cat([eb(net, row[None], negative=negative) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-7, atol=1e-9)


@PROFILE
@given(everything, seeds, treatments)
def test_the_order_of_the_operands_of_sums_and_concatenations_does_not_matter(wiring, seed, negative):
    net = graph([("conv", 0, 0), ("relu", 0, 0), ("add", 0, 1), ("concatenate", 0, 2), *wiring], seed)
    x = numbers(N, C, H, W, seed=seed)
    before = eb(net, x, negative=negative)
    n_swapped = 0
    for operation in net.operations:
        if isinstance(operation, Sum | Concatenation):
            operation.swap()
            n_swapped += 1
    assert n_swapped >= 2
    torch.testing.assert_close(eb(net, x, negative=negative), before, rtol=1e-7, atol=1e-9)


# ---------------------------------------------------------------------------------------- controls


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_every_operation_is_in_a_graph_that_conserves_mass(name):
    net, x = graph([("conv", 0, 0), ("tanh", 0, 0), (name, 0, 2)], 3), numbers(N, C, H, W)
    assert net(x).std() > 0
    assert_conserved(net, x)
    assert eb(net, x).sum() > 0.1 * N


def all_to_both(self: SumMap, mass: Tensor) -> tuple[Tensor, ...]:
    return tuple(mass for _ in self.operands)


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("captum_ext.excitation.maps.SumMap.distribute", all_to_both),
        ("captum_ext.excitation.numerics.safe_divide", lambda mass, support: mass / (support + 0.1)),
    ],
    ids=["sums by gradient", "an epsilon in the denominator"],
)
def test_a_broken_rule_violates_conservation(where, wrong):
    net, x = graph([("conv", 0, 0), ("relu", 0, 0), ("add", 0, 1)], 3), numbers(N, C, H, W)
    assert_conserved(net, x)
    with mock.patch(where, wrong), pytest.raises(AssertionError):
        assert_conserved(net, x)
