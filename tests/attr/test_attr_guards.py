"""What the engine cannot see or has no rule for is an error that says what and where, never a wrong map."""

import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from attr_toys import N_FEATURES, N_HIDDEN, images, small_cnn, toy_clips, toy_cnn_lstm
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.excitation import UnsupportedOperationError


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


class Around(nn.Module):
    """The small CNN with something in the middle, two modules deep: at ``block.mid``."""

    def __init__(self, mid):
        super().__init__()
        net = small_cnn()
        self.low = net[:3]
        self.block = nn.Module()
        self.block.mid = mid if isinstance(mid, nn.Module) else Apply(mid)
        self.high = net[3:]

    def forward(self, x):
        return self.high(self.block.mid(self.low(x)))


def maps(model, **settings):
    return ExcitationBackprop(model.eval(), **settings).attribute(images(), 1)


def same(found, expected):
    return torch.allclose(found, expected, atol=1e-7)


PLAIN = maps(small_cnn())


def plain_or_clear_error(make, *errors):
    """Either the map of the plain model, or one of our errors; anything else is a failure."""
    try:
        found = maps(make())
    except errors as error:
        return str(error)
    assert same(found, PLAIN)
    return None


def test_the_wrapper_changes_nothing_by_itself():
    assert same(maps(Around(nn.Identity())), PLAIN)


# What does not run as plain Python


def compiled_by_jit(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = small_cnn()
        try:
            net[3] = (
                torch.jit.script(net[3])
                if kind == "script"
                else torch.jit.trace(net[3], torch.rand(2, 6, 4, 4))
            )
        except Exception as error:
            pytest.skip(f"this torch cannot {kind} a module: {error}")
        return net


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_a_scripted_submodule_is_a_clear_error(kind):
    for contrastive in (False, True):
        with pytest.raises(UnsupportedOperationError, match="scripted"):
            ExcitationBackprop(compiled_by_jit(kind)).attribute(images(), 1, contrastive=contrastive)


def test_a_layer_above_the_scripted_submodule_can_be_explained():
    found = LayerExcitationBackprop(compiled_by_jit("script"), "4").attribute(images(), 1)
    assert same(found, LayerExcitationBackprop(small_cnn(), "4").attribute(images(), 1))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_a_custom_autograd_function_is_a_clear_error():
    with pytest.raises(UnsupportedOperationError, match=r"Doubled(?s:.*)custom autograd function"):
        maps(Around(Doubled.apply))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_is_a_clear_error(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def forward(self, x):
            return self.net[2:](checkpoint(self.net[:2], x, use_reentrant=reentrant))

    with pytest.raises(RuntimeError, match=r"(?i)checkpoint"):
        maps(Checkpointed())


def test_checkpointing_outside_of_an_explanation_still_works_afterwards():
    test_activation_checkpointing_is_a_clear_error(False)
    x = images().requires_grad_()
    checkpoint(small_cnn(), x, use_reentrant=False).sum().backward()
    assert x.grad is not None


def compiled(what, warm):
    net = small_cnn()
    if what == "model":
        model = torch.compile(net, backend="eager")
    elif what == "in place":
        model = net
        net.compile(backend="eager")
    else:
        net[3] = torch.compile(net[3], backend="eager")
        model = net
    model.eval()
    if warm:
        model(images())
    return model


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("what", ["model", "in place", "submodule"])
def test_a_compiled_module_works_or_is_a_clear_error(what, warm):
    torch._dynamo.reset()
    try:
        message = plain_or_clear_error(lambda: compiled(what, warm), UnsupportedOperationError, ValueError)
        assert message is None or "compile" in message
    finally:
        torch._dynamo.reset()


def test_a_compiled_model_takes_layer_names_of_the_plain_one():
    model = torch.compile(small_cnn(), backend="eager")
    found = LayerExcitationBackprop(model, "4").attribute(images(), 1)
    assert same(found, LayerExcitationBackprop(small_cnn(), "4").attribute(images(), 1))


@pytest.mark.parametrize("where", ["whole", "inside"])
def test_data_parallel_on_the_cpu_gives_the_plain_map(where):
    if where == "whole":
        assert same(maps(nn.DataParallel(small_cnn())), PLAIN)
    else:
        assert same(maps(Around(nn.DataParallel(nn.Identity()))), PLAIN)


def test_a_full_backward_hook_of_the_users_works_or_is_a_clear_error():
    def hooked():
        net = small_cnn()
        net[3].register_full_backward_hook(lambda *_: None)
        return net

    message = plain_or_clear_error(hooked, UnsupportedOperationError)
    assert message is None or "hook" in message.lower()


# Operations without a rule

UNSUPPORTED = {
    "sin": (torch.sin, "torch.sin"),
    "sin method": (lambda x: x.sin(), "torch.Tensor.sin"),
    "cumsum": (lambda x: torch.cumsum(x, 1), "torch.cumsum"),
    "einsum": (lambda x: torch.einsum("nchw,nchw->nchw", x, x), "einsum"),
    "fft": (lambda x: torch.fft.fft2(x).real, "torch.fft.fft2"),
    "bicubic": (lambda x: F.interpolate(x, size=(4, 4), mode="bicubic"), "bicubic"),
    "exp": (torch.exp, "torch.exp"),
    "abs": (torch.abs, "torch.abs"),
    "power": (lambda x: x**2, "torch.Tensor.__pow__"),
    "in place": (lambda x: x.clone().sin_(), "torch.Tensor.sin_"),
    "prod": (lambda x: x.prod(1, keepdim=True).expand(-1, 6, -1, -1), "torch.Tensor.prod"),
    "aten": (lambda x: torch.ops.aten.relu(x), "aten.relu"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
@pytest.mark.parametrize("contrastive", [False, True])
def test_an_unsupported_operation_is_named_with_its_module(name, contrastive):
    operation, named = UNSUPPORTED[name]
    model = Around(operation).eval()
    with pytest.raises(UnsupportedOperationError, match=re.escape(named)) as error:
        ExcitationBackprop(model).attribute(images(), 1, contrastive=contrastive)
    assert "'block.mid'" in str(error.value)
    with pytest.raises(UnsupportedOperationError, match=r"'block\.mid'"):
        LayerExcitationBackprop(model, "low").attribute(images(), 1, contrastive=contrastive)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_operation_below_the_layer_does_no_harm(name):
    model = Around(UNSUPPORTED[name][0]).eval()
    with torch.no_grad():
        below = model.block.mid(model.low(images()))
    for contrastive in (False, True):
        found = LayerExcitationBackprop(model, "high.4").attribute(images(), 1, contrastive=contrastive)
        alone = LayerExcitationBackprop(model.high, "4").attribute(below, 1, contrastive=contrastive)
        assert same(found, alone)


def test_an_unsupported_operation_in_the_recurrent_model_is_named():
    model = toy_cnn_lstm(0)
    model.cnn.out = Apply(torch.sin)
    with pytest.raises(UnsupportedOperationError, match=r"torch\.sin in module 'cnn\.out'"):
        RecurrentExcitationBackprop(model, "cnn.relu2").attribute(toy_clips(), (3, 1))
    model = toy_cnn_lstm(0)
    model.cnn.relu1 = Apply(torch.exp)
    method = RecurrentExcitationBackprop(model, "cnn.relu2")
    assert torch.allclose(method.attribute(toy_clips(), (3, 1)).sum((1, 2, 3, 4)), torch.ones(2).double())


class Gated(nn.Module):
    """features * sigmoid(gate(features))."""

    def __init__(self, before_gate):
        super().__init__()
        net = small_cnn()
        self.low, self.high = net[:3], net[3:]
        self.before_gate = before_gate

    def forward(self, x):
        features = self.low(x)
        gate = torch.sigmoid(self.before_gate(features))
        return self.high(features * gate)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_operation_in_a_gate_does_no_harm(name):
    operation = UNSUPPORTED[name][0]
    found = maps(Gated(operation))
    assert torch.allclose(found.sum((1, 2, 3)), torch.ones(2), atol=1e-5)
    constant = Gated(lambda x: operation(x).detach())
    assert same(found, maps(constant))


def test_an_unsupported_operation_whose_result_is_not_used_does_no_harm():
    assert same(maps(Around(lambda x: (torch.sin(x), x)[1])), PLAIN)


def test_an_unsupported_operation_in_a_hand_written_gate_does_no_harm():
    class Strange(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = toy_cnn_lstm(0, recurrence="by_hand")
            self.gate = nn.Linear(N_FEATURES, N_HIDDEN).double()

        def forward(self, x):
            features = self.inner.features(x.transpose(1, 2))
            hidden = self.inner.run_by_hand(features)
            hidden = hidden * torch.sigmoid(torch.cumsum(self.gate(features), 1))
            return self.inner.classifier(hidden)

    method = RecurrentExcitationBackprop(Strange(), "inner.cnn.relu2", boundary="inner.cnn")
    found = method.attribute(toy_clips(), (3, 1), contrastive=True)
    assert found.sum((1, 2, 3, 4)).abs().max() < 1e-9


# Severed graphs


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.detach(),
        lambda x: x.data,
        torch.no_grad()(torch.relu),
        lambda x: torch.from_numpy(x.detach().numpy()),
        lambda x: x.clone().detach_(),
        lambda x: (x > 0).float(),
        lambda x: torch.tensor(x.tolist()),
    ],
    ids=["detach", "data", "no_grad", "numpy", "detach_", "comparison", "list"],
)
def test_a_severed_graph_is_a_clear_error(cut):
    with pytest.raises(ValueError, match=r"does not depend on its inputs(?s:.*)no_grad"):
        maps(Around(cut))


def test_a_graph_that_starts_anew_is_a_clear_error():
    # The output then depends on a new leaf, which is not the input.
    with pytest.raises(ValueError, match="does not depend on its inputs"):
        maps(Around(lambda x: x.detach().requires_grad_()))


def test_an_input_without_influence_beside_one_with_it_gets_zeros():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def forward(self, a, b):
            return self.net(a)

    first, second = ExcitationBackprop(First()).attribute((images(), torch.rand(2, 5)), 1)
    assert same(first, PLAIN)
    assert torch.equal(second, torch.zeros(2, 5))


# Training mode


@pytest.mark.parametrize(
    ("module", "what"),
    [
        (nn.Dropout(), "dropout"),
        (nn.Dropout2d(0.2), "dropout"),
        (nn.AlphaDropout(), "dropout"),
        (nn.BatchNorm2d(6), None),
        (nn.BatchNorm2d(6, track_running_stats=False), "batch norm"),
    ],
    ids=lambda value: str(value)[:24],
)
@pytest.mark.parametrize("contrastive", [False, True])
def test_a_module_in_training_mode_is_named(module, what, contrastive):
    model = Around(module).eval()
    model.block.mid.train()
    pattern = rf"{what}(?s:.*)'block\.mid'" if what else r"'block\.mid' \(BatchNorm2d\)"
    with pytest.raises(ValueError, match=rf"{pattern}(?s:.*)eval"):
        ExcitationBackprop(model).attribute(images(), 1, contrastive=contrastive)


def test_dropout_inside_of_an_lstm_in_training_mode_is_named():
    model = toy_cnn_lstm(0)
    model.lstm = nn.LSTM(N_FEATURES, N_HIDDEN, 2, batch_first=True, dropout=0.5).double().train()
    with pytest.raises(ValueError, match=r"dropout(?s:.*)'lstm'(?s:.*)eval"):
        RecurrentExcitationBackprop(model, "cnn.relu2").attribute(toy_clips(), (3, 1))


def test_training_mode_without_consequences_is_fine():
    model = small_cnn().train()
    assert same(ExcitationBackprop(model).attribute(images(), 1), PLAIN)
    assert model.training


class SelectiveScan(torch.autograd.Function):
    """Named like an operation of torch that moves mass."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class PassThrough(SelectiveScan):
    """Named like a function of the engine."""


@pytest.mark.parametrize("function", [SelectiveScan, PassThrough])
def test_a_custom_function_is_refused_whatever_its_name(function):
    with pytest.raises(UnsupportedOperationError, match="custom autograd function"):
        maps(Around(function.apply))


def test_a_model_that_draws_random_numbers_is_refused_and_the_generator_restored():
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    model = Around(Noisy()).eval()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="random numbers"):
        ExcitationBackprop(model).attribute(images(), 1)
    assert torch.equal(torch.get_rng_state(), before)


# Negative controls: the judgements above must be able to fail.


def test_a_map_of_plain_gradients_would_be_noticed():
    x = images().requires_grad_()
    gradient = torch.autograd.grad(small_cnn()(x)[:, 1].sum(), x)[0]
    assert not same(gradient, PLAIN)
    assert not same(x.detach() * gradient, PLAIN)


def test_an_obscure_error_would_be_noticed():
    def make():
        raise AssertionError("deep inside torch")

    with pytest.raises(AssertionError, match="deep inside"):
        plain_or_clear_error(make, UnsupportedOperationError)
