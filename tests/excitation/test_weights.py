"""Signed weights: kept only while they are right, and large ones taken a few rows at a time."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum_ext.attr import ExcitationBackprop
from captum_ext.excitation import large_linear
from captum_ext.excitation.rules import linear as linear_rules
from captum_ext.excitation.weights import SignedWeight, WeightCache


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 3 * 4, 6), nn.Tanh(),
        nn.Linear(6, 3),
    )  # fmt: skip
    with torch.no_grad():
        net[1].running_var.uniform_(0.5, 2.0)
        net[1].weight.normal_()
    return net.double().eval()


X = torch.randn(2, 2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def swap_rows(net: nn.Sequential) -> None:
    weight = net[4].weight.data
    weight[[0, 1]] = weight[[1, 0]].clone()


def swap_neighbours(net: nn.Sequential) -> None:
    weight = net[4].weight.data
    weight[0, [7, 8]] = weight[0, [8, 7]].clone()


CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "data copied over": lambda net: net[0].weight.data.copy_(torch.randn(5, 2, 3, 3)),
    "data added to": lambda net: net[4].weight.data.add_(0.1),
    "data replaced": lambda net: setattr(net[4].weight, "data", torch.randn(6, 60, dtype=torch.float64)),
    "rows swapped": swap_rows,
    "one entry": lambda net: net[0].weight.data[3, 1, 2, 0].neg_(),
    "no_grad": lambda net: nn.init.normal_(net[4].weight),
    "entry far from the start": lambda net: net[4].weight.data[5, 58].add_(0.01),
    "neighbours swapped": swap_neighbours,
    "gamma": lambda net: net[1].weight.data.neg_(),
    "variance": lambda net: net[1].running_var.mul_(torch.rand(5)),
    "parameter replaced": lambda net: setattr(net[4], "weight", nn.Parameter(torch.randn(6, 60).double())),
    "state dict": lambda net: net.load_state_dict({k: v + 0.3 for k, v in net.state_dict().items()}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_weights_are_never_explained_by_old_ones(change: Callable[[nn.Sequential], object]) -> None:
    net = small_net()
    eb = ExcitationBackprop(net)
    before = eb.attribute(X, target=1, contrastive=True)
    change(net)
    after = eb.attribute(X, target=1, contrastive=True)
    assert torch.equal(after, ExcitationBackprop(net).attribute(X, target=1, contrastive=True))
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("unit", [0, 17, 354, 399])
@pytest.mark.parametrize("value", [1e-3, 1.0, 100.0])
def test_no_entry_of_a_wide_layer_can_change_unnoticed(unit: int, value: float) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 3)).eval()
    with torch.no_grad():
        net[0].bias.fill_(10.0)
        net[2].weight[0].zero_()
        net[2].weight[0, unit] = 1.0  # the score sees one unit
    x = torch.rand(1, 400)
    eb = ExcitationBackprop(net)
    eb.attribute(x, target=0)
    net[0].weight.data[unit, unit] += value
    assert torch.equal(eb.attribute(x, target=0), ExcitationBackprop(net).attribute(x, target=0))


def test_unchanged_weights_are_split_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[SignedWeight] = []

    class Counted(SignedWeight):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr("captum_ext.excitation.weights.SignedWeight", Counted)
    net = small_net()
    parameters = [net[0].weight, net[4].weight, net[6].weight]
    eb = ExcitationBackprop(net)
    eb.attribute(X, target=1)
    split = [s for s in made if any(s.value.data_ptr() == p.data_ptr() for p in parameters)]
    assert split
    made.clear()
    eb.attribute(X, target=0)
    assert not [s for s in made if any(s.value.data_ptr() == p.data_ptr() for p in parameters)]


def test_parts_are_freed_with_their_parameter() -> None:
    cache = WeightCache()
    weight = nn.Parameter(torch.randn(4, 3))
    part = weakref.ref(cache(weight).part(1, torch.float32))
    assert cache(weight).part(1, torch.float32) is part()
    del weight
    gc.collect()
    assert part() is None


def test_tensors_that_are_no_parameters_are_not_kept() -> None:
    cache = WeightCache()
    weight = torch.randn(4, 3)
    assert cache(weight) is not cache(weight)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301
def test_explainers_can_be_copied_after_use(
    copied: Callable[[ExcitationBackprop], ExcitationBackprop],
) -> None:
    eb = ExcitationBackprop(small_net())
    expected = eb.attribute(X, target=2)
    assert torch.equal(copied(eb).attribute(X, target=2), expected)


class Head(nn.Module):
    """Linear layers in the positions that matter: below ReLU, batch norm, another linear map; on steps."""

    def __init__(self, behind: str, steps: bool) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second = nn.Linear(7, 9), nn.Linear(9, 4, bias=False)
        self.norm = nn.BatchNorm1d(9)
        nn.init.normal_(self.norm.weight)
        self.behind, self.steps = behind, steps

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        match self.behind:
            case "relu":
                y = y.relu()
            case "tanh":
                y = y.tanh()
            case "batch norm":
                y = self.norm(y if y.dim() == 2 else y.transpose(1, 2))
                y = y if y.dim() == 2 else y.transpose(1, 2)
        y = self.second(y)
        return y.mean(1) if self.steps else y


@pytest.mark.parametrize("behind", ["relu", "tanh", "batch norm", "nothing"])
@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("contrastive", [False, True])
def test_large_layers_follow_the_same_rule(
    monkeypatch: pytest.MonkeyPatch, behind: str, steps: bool, negative: str, contrastive: bool
) -> None:
    head = Head(behind, steps).double().eval()
    x = torch.randn((3, 5, 7) if steps else (3, 7), dtype=torch.float64)
    eb = ExcitationBackprop(head, negative)
    expected = eb.attribute(x, target=[0, 3, 1], contrastive=contrastive)
    used: list[object] = []
    monkeypatch.setattr(linear_rules, "is_large", lambda weight: used.append(weight) or True)
    monkeypatch.setattr(large_linear, "_ENTRIES_AT_A_TIME", 2 * 7)  # rows do not divide evenly
    found = eb.attribute(x, target=[0, 3, 1], contrastive=contrastive)
    assert len(used) == 2
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    assert found.abs().sum() > 0.1


def test_only_layers_that_are_large_are_taken_by_rows() -> None:
    assert large_linear.is_large(torch.empty(4096, 4096, device="meta"))
    assert not large_linear.is_large(torch.empty(1000, 2048, device="meta"))
