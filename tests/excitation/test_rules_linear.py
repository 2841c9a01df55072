"""Linear and convolutional layers, pools and means against their dense matrices."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from dense_reference import (
    Fn,
    Tape,
    assert_engine_follows_the_rule,
    classifier_on,
    dense,
    eb,
    explain,
    numbers,
    randomize,
)
from torch import nn

AFTER = {"relu": nn.ReLU, "tanh": nn.Tanh, "nothing": nn.Identity}
SIZE = {1: (7,), 2: (4, 5), 3: (3, 2, 3)}


def conv(n: int, *, transposed: bool = False, **settings) -> nn.Module:
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{n}d")
    return kind(2, 2 * settings.get("groups", 1), **{"kernel_size": 2, **settings})


def cases_of_convolution():
    plain = [
        {},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"dilation": 2, "padding": 2, "groups": 2, "bias": False},
        {"padding": "same"},
        {"kernel_size": 3, "padding": "same", "dilation": 1},
        {"padding": "valid"},
        {"padding": "same", "padding_mode": "replicate"},
        *({"kernel_size": 3, "padding": 1, "padding_mode": m} for m in ("reflect", "replicate", "circular")),
    ]
    upward = [
        {},
        {"stride": 2, "padding": 1, "kernel_size": 3},
        {"stride": 2, "output_padding": 1},
        {"dilation": 2, "groups": 2, "bias": False},
    ]
    for n in (1, 2, 3):
        for transposed, cases in ((False, plain), (True, upward)):
            for settings in cases:
                words = " ".join(f"{k}={v}" for k, v in settings.items())
                yield pytest.param(n, transposed, settings, id=f"{'T' * transposed}{n}d {words}")


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("signed", [False, True], ids=["non-negative", "signed"])
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize(("n", "transposed", "settings"), cases_of_convolution())
def test_convolution_equals_its_dense_matrix(n, transposed, settings, after, signed, negative):
    x = numbers(2 if n == 1 else 1, 2, *SIZE[n], signed=signed)
    net = classifier_on(nn.Sequential(conv(n, transposed=transposed, **settings), AFTER[after]()), x)
    assert_engine_follows_the_rule(net, x, negative)


W = numbers(5, 3, seed=7)
B = numbers(3, seed=8)
PARAMETER = nn.Parameter(W)
MAPS_OF_VECTORS = {
    "Linear": nn.Linear(5, 3),
    "Linear without bias": nn.Linear(5, 3, bias=False),
    "x @ W": Fn("linear", lambda x: x @ W),
    "matmul with a Parameter": Fn("linear", lambda x: torch.matmul(x, PARAMETER)),
    "F.linear by keyword": Fn("linear", lambda x: F.linear(input=x, weight=W.T, bias=B)),
}
ONE_ROW_ONLY = {
    "addmm": Fn("linear", lambda x: torch.addmm(B, x, W)),
    "mm": Fn("linear", lambda x: x.mm(W)),
}


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("signed", [False, True], ids=["non-negative", "signed"])
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *itertools.product(MAPS_OF_VECTORS, [(3, 5), (3, 2, 5), (3, 2, 2, 5)]),
        *itertools.product(ONE_ROW_ONLY, [(3, 5)]),
    ],
)
def test_matrix_product_equals_eq_1(name, shape, after, signed, negative):
    layer = {**MAPS_OF_VECTORS, **ONE_ROW_ONLY}[name]
    x = numbers(*shape, signed=signed)
    assert_engine_follows_the_rule(classifier_on(nn.Sequential(layer, AFTER[after]()), x), x, negative)


@pytest.mark.parametrize("shape", [(5,), (2, 5)], ids=str)
def test_linear_takes_rows_without_a_batch_axis(shape):
    x = numbers(3, *shape)
    layer = randomize(nn.Linear(5, 2))
    rows = Fn("linear", lambda x: torch.stack([layer(row) for row in x]))
    assert_engine_follows_the_rule(classifier_on(nn.Sequential(rows, nn.Tanh()), x), x)


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_convolution_of_unbatched_inputs(n, transposed):
    x = numbers(2, 2, *SIZE[n])
    layer = randomize(conv(n, transposed=transposed))
    rows = Fn("linear", lambda x: torch.stack([layer(row) for row in x]))
    assert_engine_follows_the_rule(classifier_on(nn.Sequential(rows, nn.Tanh()), x), x)


def linear(fn):
    return Fn("linear", fn)


AVERAGES = {
    "AvgPool1d": (1, nn.AvgPool1d(3, 2, 1)),
    "AvgPool1d ceil": (1, nn.AvgPool1d(2, ceil_mode=True)),
    "AvgPool2d": (2, nn.AvgPool2d(2)),
    "AvgPool2d overlap, pad in count": (2, nn.AvgPool2d(3, 1, 1)),
    "AvgPool2d pad not in count": (2, nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "AvgPool2d ceil": (2, nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)),
    "AvgPool2d divisor": (2, nn.AvgPool2d(2, divisor_override=3)),
    "AvgPool3d": (3, nn.AvgPool3d(2, 1)),
    "AvgPool3d ceil": (3, nn.AvgPool3d(2, ceil_mode=True)),
    "AdaptiveAvgPool1d": (1, nn.AdaptiveAvgPool1d(3)),
    "AdaptiveAvgPool2d": (2, nn.AdaptiveAvgPool2d((3, 2))),
    "AdaptiveAvgPool2d 1": (2, nn.AdaptiveAvgPool2d(1)),
    "AdaptiveAvgPool3d": (3, nn.AdaptiveAvgPool3d((2, 1, 3))),
    "mean method": (2, linear(lambda x: x.mean((2, 3)))),
    "torch.mean": (2, linear(lambda x: torch.mean(x, dim=1, keepdim=True))),
    "torch.mean by keyword": (2, linear(lambda x: torch.mean(input=x, dim=-1))),
    "sum method": (2, linear(lambda x: x.sum(dim=(1, 2)))),
    "torch.sum": (3, linear(lambda x: torch.sum(x, 2))),
    "nearest": (2, nn.Upsample(scale_factor=2)),
    "bilinear": (2, nn.Upsample((6, 4), mode="bilinear")),
    "bilinear, corners aligned": (2, nn.Upsample((5, 3), mode="bilinear", align_corners=True)),
    "linear 1d": (1, nn.Upsample(4, mode="linear")),
    "trilinear": (3, nn.Upsample((2, 4, 3), mode="trilinear")),
    "area": (2, linear(lambda x: F.interpolate(x, (2, 2), mode="area"))),
}


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("before", ["input", "relu", "tanh", "conv"])
@pytest.mark.parametrize("name", AVERAGES)
def test_average_equals_its_dense_matrix(name, before, negative):
    n, layer = AVERAGES[name]
    x = numbers(2, 2, *SIZE[n])
    layers = [] if before == "input" else [conv(n, kernel_size=3, padding=1)]
    layers += {"relu": [nn.ReLU()], "tanh": [nn.Tanh()]}.get(before, [])
    assert_engine_follows_the_rule(classifier_on(nn.Sequential(*layers, layer), x), x, negative)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("negative", ["support", "clamp"])
def test_a_batch_is_explained_like_its_examples(batch, negative):
    x = numbers(batch, 2, 4, 5)
    net = classifier_on(nn.Sequential(conv(2), nn.ReLU(), conv(2), nn.Tanh()), x)
    alone = torch.cat([eb(net, row[None], negative=negative) for row in x])
    torch.testing.assert_close(eb(net, x, negative=negative), alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_mass_starts_at_the_output_unit_as_if_it_were_positive(target):
    """Also where the score is negative: its sign is that of the question, not of the answer."""
    x = numbers(3, 4)
    net = nn.Sequential(randomize(nn.Linear(4, 3)))
    net[0].bias.data.fill_(-100.0)
    assert (net(x) < 0).all()
    assert_engine_follows_the_rule(net, x, target=target)


def test_one_layer_by_hand():
    """a = (1, 2, -3), w = (2, -1, -1): contributions 2, -2, 3."""
    net = nn.Sequential(nn.Linear(3, 1)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, -1.0, -1.0]]))
        net[0].bias.fill_(100.0)
    x = torch.tensor([[1.0, 2.0, -3.0]]).double()
    torch.testing.assert_close(eb(net, x, 0), torch.tensor([[0.4, 0.0, 0.6]]).double())
    torch.testing.assert_close(eb(net, x, 0, "clamp"), torch.tensor([[1.0, 0.0, 0.0]]).double())


def test_the_reference_takes_contributions_per_path():
    """The composed matrices of the reference are the sums over all paths, enumerated one by one."""
    x = numbers(1, 3)
    first, second = randomize(nn.Linear(3, 4), 1), randomize(nn.Linear(4, 2), 2)
    a, v, w = x[0].tolist(), first.weight.tolist(), second.weight.tolist()
    paths = [[sum(max(a[i] * v[m][i] * w[1][m], 0.0) for m in range(4)) for i in range(3)]]
    expected = torch.tensor(paths, dtype=torch.float64)
    found, _ = explain(nn.Sequential(first, second), x, 1)
    torch.testing.assert_close(found, expected / expected.sum())


def test_the_dense_matrix_of_a_convolution_is_the_convolution():
    x, layer = numbers(1, 2, 4, 5), randomize(conv(2, stride=2, padding=1))
    (matrix,) = dense(layer, x)
    (y,) = layer(x) - layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(matrix @ x.reshape(-1), y.reshape(-1))
    assert Tape().parts(matrix)[0].min() >= 0
