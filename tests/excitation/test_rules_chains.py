"""Linear maps with nothing non-linear between them are one map, path by path."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from dense_reference import Fn, Join, assert_engine_follows_the_rule, classifier_on, eb, numbers, randomize
from torch import nn


def conv(c_in: int = 2, c_out: int = 2, k: int = 3) -> nn.Module:
    return nn.Conv2d(c_in, c_out, k, padding=k // 2)


def bn(c: int = 2) -> nn.Module:
    return nn.BatchNorm2d(c)


def move(fn):
    return Fn("move", fn)


def seq(*layers):
    return nn.Sequential(*layers)


def add(a, b):
    return a + b


POSITION = nn.Parameter(numbers(1, 2, 3, 4, seed=5))
INDEX = torch.tensor([1, 0, 1])
CHAINS = {
    "conv, conv": lambda: [conv(), conv()],
    "1x1, 1x1, 1x1": lambda: [conv(2, 3, 1), conv(3, 2, 1), conv(2, 3, 1)],
    "conv, avg pool, conv": lambda: [conv(), nn.AvgPool2d(2, 1), conv()],
    "conv, mean": lambda: [conv(), Fn("linear", lambda x: x.mean((2, 3)))],
    "linear, view, mean": lambda: [
        nn.Linear(4, 6),
        move(lambda x: x.view(len(x), -1, 3)),
        Fn("linear", lambda x: x.mean(1)),
    ],
    "conv, permute, linear": lambda: [conv(), move(lambda x: x.permute(0, 2, 3, 1)), nn.Linear(2, 3)],
    "conv, transpose, sum": lambda: [
        conv(),
        move(lambda x: x.transpose(1, 3)),
        Fn("linear", lambda x: x.sum(1)),
    ],
    "conv, slice, conv": lambda: [conv(), move(lambda x: x[:, :1]), conv(1, 2)],
    "conv, index, conv": lambda: [conv(), move(lambda x: x[:, INDEX]), conv(3, 1)],
    "conv, index_select, sum": lambda: [
        conv(),
        move(lambda x: torch.index_select(x, 1, INDEX)),
        Fn("linear", lambda x: x.sum(1)),
    ],
    "conv, flip, roll, conv": lambda: [conv(), move(lambda x: x.flip(2).roll(1, 3)), conv()],
    "conv, pad, conv": lambda: [conv(), move(lambda x: F.pad(x, (1, 0, 0, 1))), conv()],
    "conv, reflected pad, conv": lambda: [conv(), move(lambda x: F.pad(x, (1, 1, 1, 1), "reflect")), conv()],
    "conv, constant pad, conv": lambda: [
        conv(),
        move(lambda x: F.pad(x, (1, 1), value=2.0)),
        conv(),
    ],
    "conv, expand, sum": lambda: [
        conv(),
        move(lambda x: x[:, :, None].expand(-1, -1, 2, -1, -1)),
        Fn("linear", lambda x: x.sum(2)),
    ],
    "conv, pixel shuffle, conv": lambda: [conv(2, 4), nn.PixelShuffle(2), conv(1, 2)],
    "conv, chunk, sum": lambda: [conv(2, 4), Fn("linear", lambda x: add(*x.chunk(2, 1)))],
    "conv, split, difference": lambda: [
        conv(2, 3),
        Fn("linear", lambda x: torch.sub(*[p[:, :1] for p in x.split([2, 1], 1)])),
    ],
    "conv, unbind, stack": lambda: [
        conv(),
        move(lambda x: torch.stack(x.unbind(1)[::-1], 2)),
        Fn("linear", lambda x: x.mean(2)),
    ],
    "conv, dropout, conv": lambda: [conv(), nn.Dropout(0.5), conv()],
    "conv, clone, to, contiguous, conv": lambda: [
        conv(),
        move(lambda x: x.clone().to(torch.float64).contiguous()),
        conv(),
    ],
    "conv, interpolate, conv": lambda: [conv(), nn.Upsample(scale_factor=2, mode="bilinear"), conv()],
    "conv, transposed conv": lambda: [conv(), nn.ConvTranspose2d(2, 1, 2, 2)],
    "conv, bn": lambda: [conv(), bn()],
    "conv, bn, conv": lambda: [conv(), bn(), conv()],
    "conv, bn, bn": lambda: [conv(), bn(), bn()],
    "conv, bn, avg pool, bn, conv": lambda: [conv(), bn(), nn.AvgPool2d(2), bn(), conv()],
    "bn, conv": lambda: [bn(), conv()],
    "conv, times -2, conv": lambda: [conv(), Fn("affine", lambda x: x * -2.0), conv()],
    "conv, over -2, plus 1, conv": lambda: [conv(), Fn("affine", lambda x: x / -2.0 + 1.0), conv()],
    "conv, 1 - x, conv": lambda: [conv(), Fn("affine", lambda x: 1 - x), conv()],
    "conv, -x, conv": lambda: [conv(), Fn("affine", lambda x: -x), conv()],
    "conv, imul, isub, conv": lambda: [
        conv(),
        Fn("affine", lambda x: x.clone().mul_(-0.5).sub_(1.0).div_(0.3)),
        conv(),
    ],
    "conv, plus position, conv": lambda: [
        conv(),
        Fn("affine", lambda x: POSITION + x),
        conv(),
    ],
    "conv, sum of convs, conv": lambda: [conv(), Join(add, conv(), conv()), conv()],
    "conv, residual, conv": lambda: [conv(), Join(add, seq(conv(), bn()), nn.Identity()), conv()],
    "conv, x - conv, conv": lambda: [conv(), Join(lambda a, b: a - b, nn.Identity(), conv()), conv()],
    "conv, cat of convs, bn, conv": lambda: [
        conv(),
        Join(lambda a, b: torch.cat([a, b], 1), conv(), conv(2, 1), moves=True),
        bn(3),
        conv(3, 2),
    ],
    "conv, self twice": lambda: [conv(), Fn("linear", lambda x: x + x)],
    "conv, builtin sum": lambda: [conv(), Fn("linear", lambda x: sum([x, x[:, :1], x[:, 1:]]))],
}


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("after", [nn.ReLU, nn.Tanh, nn.Identity], ids=["relu", "tanh", "nothing"])
@pytest.mark.parametrize("signed", [False, True], ids=["non-negative", "signed"])
@pytest.mark.parametrize("name", CHAINS)
def test_chain_is_one_map(name, signed, after, negative):
    x = numbers(2, 2, 3, 4, signed=signed)
    assert_engine_follows_the_rule(classifier_on(seq(*CHAINS[name](), after()), x), x, negative)


ATTRIBUTES = {
    "mT": ((2, 3), lambda x: x.mT),
    "mH": ((2, 3), lambda x: x.mH),
    "T": ((3,), lambda x: x.T.T),
    "H": ((3,), lambda x: x.H.H),
}


@pytest.mark.parametrize("after", [nn.ReLU, nn.Tanh], ids=["relu", "tanh"])
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_transposing_attribute_does_not_break_the_chain(attribute, after):
    shape, transpose = ATTRIBUTES[attribute]
    x = numbers(2, *shape)
    net = classifier_on(
        seq(nn.Linear(3, 2), move(transpose), nn.Linear(2, 2), after()),
        x,
    )
    assert_engine_follows_the_rule(net, x)


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("steps", [1, 3])
def test_mean_of_logits_over_time_is_one_map_with_the_classifier(steps, negative):
    x = numbers(2, steps, 4)
    net = randomize(seq(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2), Fn("linear", lambda y: y.mean(1))))
    assert_engine_follows_the_rule(net, x, negative)


@pytest.mark.parametrize("negative", ["support", "clamp"])
def test_a_map_that_several_operations_read_answers_each(negative):
    """One convolution read by tanh, by a sum and by another convolution: each takes its own kind of mass."""
    x = numbers(2, 2, 3, 4)
    reader = Join(lambda a, b, c: a + b - c, nn.Tanh(), nn.Identity(), conv())
    assert_engine_follows_the_rule(classifier_on(seq(conv(), reader, nn.Tanh()), x), x, negative)


@pytest.mark.parametrize("negative", ["support", "clamp"])
def test_relu_of_both_signs_reads_either_kind(negative):
    x = numbers(2, 2, 3, 4)
    crelu = Join(
        lambda a, b: torch.cat([a, b], 1),
        nn.ReLU(),
        seq(Fn("affine", lambda z: -z), nn.ReLU()),
        moves=True,
    )
    assert_engine_follows_the_rule(classifier_on(seq(conv(), crelu), x), x, negative)


def fold(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """Explicit folding of batch norm, as in torch.nn.utils.fuse_conv_bn_eval."""
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    with torch.no_grad():
        layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.copy_((layer.bias - norm.running_mean) * factor + norm.bias)
    return layer


LAYERS = {
    "linear": ((5,), lambda: nn.Linear(5, 6), lambda: nn.BatchNorm1d(6)),
    "conv1d": ((2, 7), lambda: nn.Conv1d(2, 6, 3), lambda: nn.BatchNorm1d(6)),
    "conv2d": ((2, 4, 5), lambda: nn.Conv2d(2, 6, 3), lambda: nn.BatchNorm2d(6)),
    "conv2d in groups": ((2, 4, 5), lambda: nn.Conv2d(2, 6, 3, groups=2), lambda: nn.BatchNorm2d(6)),
    "conv3d": ((1, 3, 4, 3), lambda: nn.Conv3d(1, 6, 2), lambda: nn.BatchNorm3d(6)),
}


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("after", [nn.ReLU, nn.Tanh, nn.Identity], ids=["relu", "tanh", "nothing"])
@pytest.mark.parametrize("name", LAYERS)
def test_explicitly_folded_batch_norm_gives_the_identical_map(name, after, negative):
    shape, layer, norm = LAYERS[name]
    x = numbers(3, *shape)
    net = classifier_on(seq(layer(), norm(), after()), x)
    (first, second, *_), *rest = net
    assert (second.weight < 0).any()
    assert (second.weight > 0).any()
    expected = eb(net, x, negative=negative)
    folded = seq(fold(first, second), after(), *rest)
    torch.testing.assert_close(eb(folded, x, negative=negative), expected, rtol=1e-9, atol=1e-12)


BATCH_NORM_PLACES = {
    "behind a linear layer over time": [nn.Linear(4, 3), nn.Flatten(1, 2), nn.BatchNorm1d(6)],
    "behind conv, transposed": [nn.ConvTranspose2d(2, 3, 2), bn(3)],
    "behind a ReLU": [conv(), nn.ReLU(), bn(), nn.ReLU()],
    "behind the input": [bn()],
    "behind a max pool": [conv(), nn.MaxPool2d(2), bn()],
    "behind a residual sum of states": [Join(add, seq(conv(), nn.ReLU()), nn.Identity()), bn()],
    "in a residual branch": [Join(add, seq(conv(), bn()), nn.Identity())],
    "in both branches": [Join(add, seq(conv(), bn()), seq(conv(2, 2, 1), bn()))],
    "of a conv that others read": [seq(conv(), Join(add, bn(), nn.Identity()))],
    "twice over one conv": [seq(conv(), Join(add, bn(), bn()))],
    "without affine": [conv(), nn.BatchNorm2d(2, affine=False)],
}


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("after", [nn.ReLU, nn.Tanh, nn.Identity], ids=["relu", "tanh", "nothing"])
@pytest.mark.parametrize("place", BATCH_NORM_PLACES)
def test_batch_norm(place, after, negative):
    x = numbers(2, 2, 3, 4) if "over time" not in place else numbers(2, 2, 4)
    layers = BATCH_NORM_PLACES[place]
    if "over time" in place:
        layers = [layers[0], move(lambda y: y.flatten(1)), nn.BatchNorm1d(6)]
    assert_engine_follows_the_rule(classifier_on(seq(*layers, after()), x), x, negative)


@pytest.mark.parametrize("call", ["F.batch_norm", "torch.batch_norm"])
def test_batch_norm_called_as_a_function(call):
    x, gamma, beta = numbers(2, 2, 3, 4), torch.tensor([1.5, -0.5]).double(), numbers(2)
    mean, var = torch.tensor([0.1, -0.3]).double(), torch.tensor([2.0, 0.5]).double()

    def norm(y):
        if call == "F.batch_norm":
            return F.batch_norm(y, mean, var, gamma, beta)
        return torch.batch_norm(y, gamma, beta, mean, var, False, 0.1, 1e-5, False)

    net = classifier_on(seq(conv(), Fn("affine", norm), nn.Tanh()), x)
    assert_engine_follows_the_rule(net, x)
