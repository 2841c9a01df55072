"""Activations, max pools, normalisations, sums, products and rearrangements."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from dense_reference import (
    Fn,
    Gate,
    Join,
    Product,
    assert_engine_follows_the_rule,
    classifier_on,
    eb,
    numbers,
    randomize,
)
from torch import nn

from captum_ext.attr import ExcitationBackprop

BOTH = pytest.mark.parametrize("negative", ["support", "clamp"])
SIGNED = pytest.mark.parametrize("signed", [False, True], ids=["non-negative", "signed"])


def conv(c_in: int = 2, c_out: int = 2, k: int = 3) -> nn.Module:
    return nn.Conv2d(c_in, c_out, k, padding=k // 2)


def seq(*layers):
    return nn.Sequential(*layers)


def own(fn):
    return Fn("own", fn)


def plus(fn):
    return Fn("plus", fn)


# ----------------------------------------------------------------------------------------------- activations

ACTIVATIONS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": Fn("relu", F.relu),
    "F.relu in place": Fn("relu", lambda x: F.relu(x, inplace=True)),
    "torch.relu": Fn("relu", torch.relu),
    "torch.relu_": Fn("relu", torch.relu_),
    "x.relu()": Fn("relu", lambda x: x.relu()),
    "x.relu_() used for its effect": Fn("relu", lambda x: (x.relu_(), x)[1]),
    "clamp at 0": plus(lambda x: x.clamp(min=0)),
    "clamp_min": plus(lambda x: x.clamp_min(0)),
    "ReLU6": nn.ReLU6(),
    "ReLU6, saturated": seq(Fn("affine", lambda x: 9 * x), nn.ReLU6()),
    "F.relu6 in place": plus(lambda x: F.relu6(20 * x, inplace=True)),
    "hardtanh, saturated": seq(Fn("affine", lambda x: 9 * x), nn.Hardtanh()),
    "tanh": nn.Tanh(),
    "torch.tanh": own(torch.tanh),
    "x.tanh_()": own(lambda x: x.tanh_()),
    "GELU": nn.GELU(),
    "GELU by tanh": nn.GELU("tanh"),
    "SiLU": nn.SiLU(),
    "SiLU in place": nn.SiLU(inplace=True),
    "LeakyReLU": nn.LeakyReLU(0.1),
    "LeakyReLU in place": nn.LeakyReLU(0.1, inplace=True),
    "F.leaky_relu": own(lambda x: F.leaky_relu(x, 0.2, True)),
    "ELU": nn.ELU(),
    "ELU in place": nn.ELU(inplace=True),
    "Hardswish": nn.Hardswish(),
    "Hardswish in place": nn.Hardswish(inplace=True),
    "Softsign": nn.Softsign(),
    "Mish": nn.Mish(),
    "sigmoid as a value": nn.Sigmoid(),
    "torch.sigmoid": plus(torch.sigmoid),
    "hardsigmoid as a value": nn.Hardsigmoid(),
    "softplus": nn.Softplus(),
    "softmax as a value": nn.Softmax(1),
    "hand-written SiLU": Gate(lambda v, g: v * g, nn.Identity(), nn.Sigmoid(), scales_layers=False),
    "dropout": seq(nn.Tanh(), nn.Dropout(0.5)),
    "dropout2d": seq(nn.ReLU(), nn.Dropout2d(0.5)),
}


@BOTH
@SIGNED
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_passes_mass_to_the_map_behind(name, signed, negative):
    x = numbers(2, 2, 3, 4, signed=signed)
    net = classifier_on(seq(conv(), ACTIVATIONS[name], conv(2, 3), nn.Tanh()), x)
    assert_engine_follows_the_rule(net, x, negative)


@BOTH
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_a_state_passes_mass(name, negative):
    x = numbers(2, 2, 3, 4)
    net = classifier_on(seq(conv(), nn.Tanh(), ACTIVATIONS[name]), x)
    assert_engine_follows_the_rule(net, x, negative)


@pytest.mark.parametrize(
    "activation",
    [plus(lambda x: x.softmax(-1)), plus(lambda x: F.log_softmax(x, dim=1)), nn.Sigmoid(), plus(torch.tanh)],
    ids=["softmax", "log_softmax", "sigmoid", "tanh"],
)
def test_an_activation_of_the_output_is_skipped(activation):
    x = numbers(3, 4)
    logits = randomize(seq(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)))
    expected = eb(logits, x)
    torch.testing.assert_close(eb(seq(logits, activation), x), expected)
    assert_engine_follows_the_rule(seq(logits, activation), x)


# ------------------------------------------------------------------------------------------------- max pools


def winner(fn):
    return Fn("max", fn)


MAXIMA = {
    "MaxPool1d": ((2, 7), nn.MaxPool1d(3, 2, 1)),
    "MaxPool2d": ((2, 4, 5), nn.MaxPool2d(2)),
    "MaxPool2d, overlapping": ((2, 4, 5), nn.MaxPool2d(3, 1, 1)),
    "MaxPool2d, ceil, dilated": ((2, 4, 5), nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True)),
    "MaxPool3d": ((2, 3, 3, 4), nn.MaxPool3d(2)),
    "AdaptiveMaxPool1d": ((2, 7), nn.AdaptiveMaxPool1d(3)),
    "AdaptiveMaxPool2d": ((2, 4, 5), nn.AdaptiveMaxPool2d((2, 3))),
    "AdaptiveMaxPool3d": ((2, 3, 3, 4), nn.AdaptiveMaxPool3d(2)),
    "with indices": ((2, 4, 5), winner(lambda x: F.max_pool2d(x, 2, return_indices=True)[0])),
    "amax": ((2, 4, 5), winner(lambda x: x.amax((2, 3)))),
    "max over an axis": ((2, 4, 5), winner(lambda x: x.max(1).values)),
    "torch.maximum": ((2, 4, 5), winner(lambda x: torch.maximum(x[:, :1], x[:, 1:]))),
}


@BOTH
@pytest.mark.parametrize("before", ["input", "conv", "relu", "tanh"])
@pytest.mark.parametrize("name", MAXIMA)
def test_all_mass_goes_to_the_winner(name, before, negative):
    shape, pool = MAXIMA[name]
    x = numbers(2, *shape)
    convolution = getattr(nn, f"Conv{len(shape) - 1}d")(2, 2, 3, padding=1)
    front = {
        "input": [],
        "conv": [convolution],
        "relu": [convolution, nn.ReLU()],
        "tanh": [convolution, nn.Tanh()],
    }[before]
    assert_engine_follows_the_rule(classifier_on(seq(*front, pool, nn.Tanh()), x), x, negative)


# -------------------------------------------------------------------------------------------- normalisations

NORMS = {
    "layer norm": lambda: nn.LayerNorm([2, 3, 4]),
    "layer norm over the last axis": lambda: nn.LayerNorm(4),
    "layer norm without affine": lambda: Fn("norm", lambda x: F.layer_norm(x, x.shape[1:])),
    "group norm": lambda: nn.GroupNorm(2, 2),
    "instance norm": lambda: nn.InstanceNorm2d(2, affine=True),
    "instance norm without affine": lambda: Fn("norm", F.instance_norm),
}


@BOTH
@pytest.mark.parametrize("before", ["input", "conv", "relu"])
@pytest.mark.parametrize("name", NORMS)
def test_norms_of_the_example_pass_mass(name, before, negative):
    x = numbers(2, 2, 3, 4)
    front = {"input": [], "conv": [conv()], "relu": [conv(), nn.ReLU()]}[before]
    net = classifier_on(seq(*front, NORMS[name](), conv(2, 3), nn.ReLU()), x)
    assert_engine_follows_the_rule(net, x, negative)


@BOTH
def test_local_response_norm_keeps_signs_and_passes_mass(negative):
    x = numbers(2, 3, 3, 4)
    norm = own(lambda y: F.local_response_norm(y, 2))
    assert_engine_follows_the_rule(classifier_on(seq(conv(3, 3), norm, conv(3, 2)), x), x, negative)


# ------------------------------------------------------------------------------------------------------ sums


def add_in_place(a, b):
    a = a.clone()
    a += b
    return a


def add_method_in_place(a, b):
    a = a.clone()
    a.add_(b, alpha=2)
    return a


BRANCHES = {
    "states": lambda: [seq(conv(), nn.ReLU()), nn.Identity()],
    "signed states": lambda: [seq(conv(), nn.Tanh()), seq(conv(), nn.Tanh())],
    "conv and state": lambda: [conv(), nn.Identity()],
    "projection": lambda: [seq(conv(), nn.BatchNorm2d(2)), conv(2, 2, 1)],
    "broadcast": lambda: [seq(conv(), nn.Tanh()), seq(conv(), Fn("linear", lambda x: x.mean((2, 3), True)))],
    "broadcast state": lambda: [conv(), seq(conv(), nn.AdaptiveMaxPool2d(1), nn.Tanh())],
}
SUMS = {
    "a + b": lambda a, b: a + b,
    "torch.add, alpha": lambda a, b: torch.add(a, b, alpha=2.5),
    "negative alpha": lambda a, b: a.add(b, alpha=-0.5),
    "a += b": add_in_place,
    "a.add_(b, alpha)": add_method_in_place,
    "a - b": lambda a, b: a - b,
    "torch.sub, alpha": lambda a, b: torch.sub(a, b, alpha=3),
    "torch.rsub": lambda a, b: torch.rsub(a, b),
    "a.sub_(b)": lambda a, b: a.clone().sub_(b),
}


@BOTH
@SIGNED
@pytest.mark.parametrize("branches", BRANCHES)
@pytest.mark.parametrize("name", SUMS)
def test_operands_of_a_sum_compete(name, branches, signed, negative):
    x = numbers(2, 2, 3, 4, signed=signed)
    net = classifier_on(seq(Join(SUMS[name], *BRANCHES[branches]()), nn.Tanh()), x)
    assert_engine_follows_the_rule(net, x, negative)


THREE = {
    "a + b + c": lambda a, b, c: a + b + c,
    "a - (b - c)": lambda a, b, c: a - (b - c),
    "builtin sum": lambda *abc: sum(abc),
    "stack and sum": lambda *abc: torch.stack(abc).sum(0),
    "stack and mean": lambda *abc: torch.stack(abc, 1).mean(1),
    "cat and mean": lambda *abc: torch.cat([t[:, None] for t in abc], 1).mean(1),
}


@BOTH
@pytest.mark.parametrize("after", [nn.Tanh, nn.ReLU], ids=["tanh", "relu"])
@pytest.mark.parametrize("name", THREE)
def test_three_summands_compete_jointly(name, after, negative):
    x = numbers(2, 2, 3, 4)
    net = classifier_on(seq(Join(THREE[name], seq(conv(), nn.Tanh()), conv(), nn.Identity()), after()), x)
    assert_engine_follows_the_rule(net, x, negative)


C = numbers(2, 3, 4, seed=3)
PARAMETER = nn.Parameter(C)
CONSTANTS = {
    "x + number": lambda x: x + 3.0,
    "number + x": lambda x: 3.0 + x,
    "x + tensor": lambda x: x + C,
    "tensor + x": lambda x: C + x,
    "tensor - x": lambda x: C - x,
    "x + Parameter": lambda x: x + PARAMETER,
    "x -= number": lambda x: x.clone().sub_(0.5),
    "x * -2": lambda x: x * -2.0,
    "x * signed tensor": lambda x: x * C,
    "signed tensor * x": lambda x: C * x,
    "layer scale": lambda x: PARAMETER[:, :1, :1] * x,
    "x / -3": lambda x: x / -3.0,
    "x / signed tensor": lambda x: x / C,
    "x *= -1": lambda x: x.clone().mul_(-1.0),
    "x /= -2": lambda x: x.clone().div_(-2.0),
    "-x": lambda x: -x,
    "torch.neg": torch.neg,
    "broadcast to more": lambda x: x[:, None] * C[:, None, :1, :1],
}


@BOTH
@pytest.mark.parametrize("before", ["conv", "tanh"])
@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_scale_and_shift_and_take_no_mass(name, before, negative):
    x = numbers(2, 2, 3, 4)
    front = [conv()] if before == "conv" else [conv(), nn.Tanh()]
    if name == "broadcast to more":
        if before == "tanh":
            pytest.skip("a new axis is a copy, not an element-wise map")
        middle = Fn("linear", CONSTANTS[name])
    else:
        middle = Fn("affine", CONSTANTS[name])
    assert_engine_follows_the_rule(classifier_on(seq(*front, middle, nn.Tanh()), x), x, negative)


def add_to_slice(a, b):
    a = a.clone()
    a[:, 1:] += b[:, 1:]
    return a


@BOTH
def test_sum_into_a_slice_of_non_negative_states(negative):
    x = numbers(2, 3, 3, 4, signed=False)
    branches = seq(conv(3, 3), nn.ReLU()), seq(conv(3, 3), nn.ReLU())
    assert_engine_follows_the_rule(classifier_on(Join(add_to_slice, *branches), x), x, negative)


@BOTH
@pytest.mark.parametrize("after", [nn.ReLU, nn.Tanh], ids=["relu", "tanh"])
@pytest.mark.parametrize("branches", ["states", "signed states", "conv and state", "projection"])
def test_sum_into_a_slice_is_a_linear_map_like_any_sum(branches, after, negative):
    x = numbers(2, 2, 3, 4)
    net = classifier_on(seq(Join(add_to_slice, *BRANCHES[branches]()), after()), x)
    assert_engine_follows_the_rule(net, x, negative)


@BOTH
@pytest.mark.parametrize("branches", ["signed states", "projection"])
def test_sum_into_a_slice_before_another_linear_map_is_one_map_with_it(branches, negative):
    x = numbers(2, 2, 3, 4)
    net = classifier_on(seq(Join(add_to_slice, *BRANCHES[branches]()), conv(), nn.Tanh()), x)
    assert_engine_follows_the_rule(net, x, negative)


@pytest.mark.parametrize("sign", [1, -1])
def test_below_the_last_non_linearity_a_parent_counts_with_its_own_sign(sign):
    """Only the output unit is taken as positive, not the units of tanh layers that it sums."""
    x = numbers(3, 4)
    net = randomize(seq(Join(lambda a, b: a + sign * b, *[seq(nn.Linear(4, 3), nn.Tanh()) for _ in "ab"])))
    for target in range(3):
        assert_engine_follows_the_rule(net, x, target=target)


# -------------------------------------------------------------------------------------------------- products


def times(a, b):
    return a * b


def squeeze_excitation(act=nn.Sigmoid):
    return seq(nn.AdaptiveAvgPool2d(1), conv(2, 1, 1), nn.ReLU(), conv(1, 2, 1), act())


GATED = {
    "value * gate": lambda v: Gate(times, v, seq(conv(), nn.Sigmoid())),
    "gate * value": lambda v: Gate(lambda a, g: g * a, v, seq(conv(), nn.Sigmoid())),
    "squeeze and excitation": lambda v: Gate(times, v, squeeze_excitation()),
    "SE with hardsigmoid": lambda v: Gate(times, v, squeeze_excitation(nn.Hardsigmoid)),
    "mul_": lambda v: Gate(lambda a, g: a.clone().mul_(g), v, squeeze_excitation()),
    "softmax": lambda v: Gate(times, v, seq(conv(), nn.Softmax(1))),
    "1 - gate": lambda v: Gate(lambda a, g: (1 - g) * a, v, seq(conv(), nn.Sigmoid())),
    "1 + gate": lambda v: Gate(lambda a, g: a * (1 + g), v, squeeze_excitation()),
    "gate times gate": lambda v: Gate(lambda a, g: a * (g * g), v, seq(conv(), nn.Sigmoid())),
    "half a gate, reshaped": lambda v: Gate(
        lambda a, g: a * (0.5 * g).flatten(1)[:, :, None, None], v, squeeze_excitation()
    ),
    "larger gate": lambda v: Gate(times, seq(v, nn.AdaptiveMaxPool2d(1)), seq(conv(), nn.Sigmoid())),
    "divided by a norm": lambda v: Gate(
        lambda a, b: a / b, v, seq(Fn("own", lambda x: x.abs().sum((1, 2, 3), True))), scales_layers=False
    ),
    "SiLU by hand": lambda v: seq(v, own(lambda x: x * torch.sigmoid(x))),
    "Swish by hand": lambda v: seq(v, own(lambda x: torch.sigmoid(1.5 * x) * x)),
    "gate from the value's layer": lambda v: Gate(times, v, seq(v, nn.Sigmoid())),
}


@BOTH
@pytest.mark.parametrize("value", ["conv", "tanh", "relu", "identity"])
@pytest.mark.parametrize("name", GATED)
def test_gates_take_nothing(name, value, negative):
    x = numbers(2, 2, 3, 4)
    values = {
        "conv": conv(),
        "tanh": seq(conv(), nn.Tanh()),
        "relu": seq(conv(), nn.ReLU()),
        "identity": nn.Identity(),
    }
    net = classifier_on(seq(GATED[name](values[value]), conv(2, 3), nn.Tanh()), x)
    assert_engine_follows_the_rule(net, x, negative)


@BOTH
@pytest.mark.parametrize("smaller", [False, True], ids=["same shape", "broadcast"])
@pytest.mark.parametrize("kind", [nn.Tanh, nn.ReLU, nn.Identity], ids=["tanh", "relu", "conv"])
def test_two_values_share_equally(kind, smaller, negative):
    x = numbers(2, 2, 3, 4)
    b = seq(conv(), nn.AdaptiveMaxPool2d(1), kind()) if smaller else seq(conv(), kind())
    net = classifier_on(seq(Product(times, seq(conv(), kind()), b), conv()), x)
    assert_engine_follows_the_rule(net, x, negative)


# -------------------------------------------------------------------------------------------- rearrangements

MOVES = {
    "view": lambda x: x.view(len(x), 2, 12),
    "reshape, flatten": lambda x: x.reshape(len(x), 4, -1).flatten(1),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "transpose": lambda x: x.transpose(1, 2).contiguous(),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(1),
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "split": lambda x: torch.cat(x.split([1, 2], 2), 2),
    "tensor_split": lambda x: torch.tensor_split(x, 2, dim=3)[1],
    "unbind and stack": lambda x: torch.stack(x.unbind(2), 1),
    "slice": lambda x: x[:, :, 1:, ::2],
    "advanced index": lambda x: x[:, [1, 0, 1], :, 0],
    "mask": lambda x: x[:, :, torch.tensor([True, False, True])],
    "select, narrow": lambda x: x.select(2, 0).narrow(2, 1, 2),
    "gather": lambda x: x.gather(1, torch.ones(len(x), 1, 3, 4, dtype=torch.long)),
    "expand": lambda x: x[:, None].expand(-1, 3, -1, -1, -1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "roll, flip": lambda x: x.roll(1, 2).flip(3),
    "zero pad": lambda x: F.pad(x, (1, 0, 2, 1)),
    "replicated pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "circular pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "cropping pad": lambda x: F.pad(x, (-1, 0)),
    "unfold": lambda x: x.unfold(3, 2, 1),
    "F.unfold": lambda x: F.unfold(x, 2),
    "clone, to, type": lambda x: x.clone().to("cpu").double(),
    "sort": lambda x: x.sort(dim=3).values,
}


@BOTH
@pytest.mark.parametrize("before", ["relu", "tanh", "conv"])
@pytest.mark.parametrize("name", MOVES)
def test_rearranging_moves_mass_with_the_entries(name, before, negative):
    x = numbers(2, 2, 3, 4)
    front = {"relu": [conv(), nn.ReLU()], "tanh": [conv(), nn.Tanh()], "conv": [conv()]}[before]
    move = Fn("sort" if name == "sort" else "move", MOVES[name])
    if name == "sort" and before == "relu":
        pytest.skip("ties between zeros have no single winner")
    assert_engine_follows_the_rule(classifier_on(seq(*front, move, nn.Tanh()), x), x, negative)


def cat_with_constant(x, other=C):
    return torch.cat([x, other.expand(len(x), -1, -1, -1)], 1)


@BOTH
@pytest.mark.parametrize("before", ["tanh", "conv"])
@pytest.mark.parametrize(
    "join", [cat_with_constant, lambda x: F.pad(x, (1, 1), value=2.0)], ids=["cat", "padded with 2"]
)
def test_constant_entries_beside_evidence_are_biases_of_the_next_layer(join, before, negative):
    x = numbers(2, 2, 3, 4)
    front = [conv(), nn.Tanh()] if before == "tanh" else [conv()]
    net = classifier_on(seq(*front, Fn("move", join), Fn("linear", lambda x: x.sum((1, 3))), nn.Tanh()), x)
    assert_engine_follows_the_rule(net, x, negative)


@BOTH
def test_inputs_of_a_model_compete_with_each_other(negative):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.top = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)

        def forward(self, x, y):
            return self.top(torch.tanh(self.a(x) + self.b(y)))

    net = randomize(Two())
    x, y = numbers(2, 3), numbers(2, 2, seed=1)
    maps = ExcitationBackprop(net, negative=negative).attribute((x, y), target=0)
    joint = randomize(seq(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)))
    with torch.no_grad():
        joint[0].weight.copy_(torch.cat([net.a.weight, net.b.weight], 1))
        joint[0].bias.copy_(net.a.bias + net.b.bias)
        joint[2].load_state_dict(net.top.state_dict())
    expected = eb(joint, torch.cat([x, y], 1), 0, negative)
    torch.testing.assert_close(torch.cat(maps, 1), expected, rtol=1e-9, atol=1e-12)
