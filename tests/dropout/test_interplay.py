"""Excitation Dropout together with checkpointing, mixed precision, compilation and hooks."""

import copy
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from dropout_nets import BatchNorm, Net, UpperDropout, made
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_ext.attr import LayerExcitationBackprop
from captum_ext.dropout import ExcitationDropoutLayer, attach


def gradients_of(net):
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def step(net, x, y, keep=None, **settings):
    """Gradients of one training step, and the layer."""
    with attach(net, "drop", **settings) as dropout:
        layer = dropout.layers["drop"]
        if keep is not None:
            layer.multiplier = lambda h, p_eb, has_target: keep.to(h.dtype)
        dropout.arm(y)
        F.cross_entropy(net(x), y).backward()
    return gradients_of(net), layer


# ------------------------------------------------------------------------------------------ checkpointing


class CheckpointedAll(Net):
    """All of the network."""

    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


class CheckpointedAround(Net):
    """From below the layer to above it."""

    def forward(self, x):
        z = checkpoint(lambda x: F.relu(self.fc2(self.drop(self.below(x)))), x, use_reentrant=False)
        return self.fc3(z)


class CheckpointedAbove(Net):
    """The part above the layer."""

    def forward(self, x):
        return checkpoint(self.above, self.drop(self.below(x)), x, use_reentrant=False)


class CheckpointedBelow(Net):
    """The part below the layer."""

    def forward(self, x):
        return self.above(self.drop(checkpoint(self.below, x, use_reentrant=False)), x)


class CheckpointedChild(Net):
    """A module of its own, checkpointed from outside, contains the layer."""

    def build(self):
        super().build()
        self.block = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), self.drop, nn.Linear(12, 9), nn.ReLU())

    def forward(self, x):
        return self.fc3(checkpoint(self.block, x, use_reentrant=False))


@pytest.mark.parametrize("disarm_first", [False, True])
@pytest.mark.parametrize(
    "kind",
    [CheckpointedAll, CheckpointedAround, CheckpointedAbove, CheckpointedBelow],
    ids=lambda k: k.__name__,
)
def test_gradients_are_those_without_checkpointing(kind, disarm_first):
    net, x, y = made(kind)
    plain = made(Net)[0]
    plain.load_state_dict(net.state_dict())
    with attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        loss = F.cross_entropy(net(x), y)
        keep = dropout.layers["drop"].last.keep
        if disarm_first:
            dropout.disarm()
        loss.backward()
    expected, _ = step(plain, x, y, keep)
    for name, gradient in gradients_of(net).items():
        assert torch.allclose(gradient, expected[name], atol=1e-12), name


def test_a_checkpointed_module_that_contains_the_layer_trains_as_without():
    net, x, y = made(CheckpointedChild)
    with attach(net, "block.2", rescale="none") as dropout:
        dropout.arm(y)
        F.cross_entropy(net(x), y).backward()
        keep = dropout.layers["block.2"].last.keep
    twin = copy.deepcopy(net)
    twin.zero_grad()
    h = twin.block[1](twin.block[0](x)) * keep
    F.cross_entropy(twin.fc3(twin.block[4](twin.block[3](h))), y).backward()
    for name, parameter in net.named_parameters():
        other = twin.get_parameter(name).grad
        assert (parameter.grad is None) == (other is None), name
        assert other is None or torch.allclose(parameter.grad, other, atol=1e-12), name


# ---------------------------------------------------------------------------------------- mixed precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_all_weights_get_the_gradients_of_the_masked_network(dtype):
    net, x, y = made(BatchNorm, dtype=torch.float32)
    twin = copy.deepcopy(net)
    with torch.autocast("cpu", dtype=dtype), attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        loss = F.cross_entropy(net(x), y)
        last = dropout.layers["drop"].last
    loss.backward()
    with torch.autocast("cpu", dtype=dtype):
        h = twin.below(x)
        expected = F.cross_entropy(twin.above(h * last.keep.to(h.dtype), x), y)
    expected.backward()
    assert torch.equal(loss, expected)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter.grad, twin.get_parameter(name).grad), name
    assert last.p_eb.dtype == torch.float32
    exact = made(BatchNorm, dtype=torch.float32)[0]
    _, layer = step(exact, x, y)
    assert torch.allclose(last.p_eb, layer.last.p_eb, atol=0.03)


def test_a_part_that_switches_autocast_off_is_run_again_without():
    class Mixed(Net):
        def above(self, h, x):
            z = self.fc2(h)
            with torch.autocast("cpu", enabled=False):
                return self.fc3(F.relu(z).float())

    net, x, y = made(Mixed, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16), attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        scores = net(x)
        h = net.below(x)
        expected = net.above(h * dropout.layers["drop"].last.keep.to(h.dtype), x)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, expected)


def test_a_part_without_gradients_is_run_again_without():
    class Partly(Net):
        def above(self, h, x):
            with torch.no_grad():
                mean = h.mean(1, keepdim=True)
            return self.fc3(F.relu(self.fc2(h - mean)))

    net, x, y = made(Partly)
    gradients, layer = step(net, x, y, rescale="none")
    twin = copy.deepcopy(net)
    twin.zero_grad()
    F.cross_entropy(twin.above(twin.below(x) * layer.last.keep, x), y).backward()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, twin.get_parameter(name).grad, atol=1e-12), name


def test_models_in_half_precision_are_measured_in_single():
    net, x, y = made(Net, dtype=torch.bfloat16)
    _, layer = step(net, x, y)
    reference = copy.deepcopy(net).float().eval()
    expected = LayerExcitationBackprop(reference, "drop").attribute(x.float(), target=y)
    assert layer.last.p_eb.dtype == torch.float32
    assert torch.allclose(layer.last.p_eb, expected, atol=0.02)


# ------------------------------------------------------------------------------------------------ hooks


def test_hooks_of_the_user_on_the_network_see_what_is_trained():
    net, x, y = made(Net)
    seen = []
    net.register_forward_hook(lambda module, args, output: seen.append(output))
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        scores = net(x)
    assert seen[0] is scores


def test_hooks_on_activations_get_the_gradient_of_the_masked_run_once():
    class Hooked(Net):
        def above(self, h, x):
            z = self.fc2(h)
            z.register_hook(self.gradients.append)
            return self.fc3(F.relu(z))

    net, x, y = made(Hooked)
    net.gradients = []
    _, layer = step(net, x, y, rescale="none")
    (gradient,) = net.gradients
    z = net.fc2(net.below(x) * layer.last.keep)
    (expected,) = torch.autograd.grad(F.cross_entropy(net.fc3(F.relu(z)), y), z)
    assert torch.allclose(gradient, expected, atol=1e-12)


# ---------------------------------------------------------------------------------- a head that is given


@pytest.mark.parametrize("kind", [Net, BatchNorm, UpperDropout])
def test_a_head_gives_the_same_evidence_and_the_same_training(kind):
    net, x, y = made(kind)
    twin = copy.deepcopy(net)
    found = []
    for model, head in ((net, None), (twin, lambda model, h: model.above(h, None))):
        with attach(model, "drop", head=head, rescale="none") as dropout:
            dropout.arm(y)
            torch.manual_seed(1)
            F.cross_entropy(model(x), y).backward()
            found.append(dropout.layers["drop"].last)
    assert torch.allclose(found[0].p_eb, found[1].p_eb, atol=1e-12)
    assert torch.equal(found[0].keep, found[1].keep)
    for name, parameter in net.named_parameters():
        assert torch.allclose(parameter.grad, twin.get_parameter(name).grad, atol=1e-12), name
    for name, buffer in net.named_buffers():
        assert torch.allclose(buffer, twin.get_buffer(name)), name


def test_a_head_may_be_named_by_its_modules():
    net = nn.Sequential(
        nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4)
    )
    net = net.double()
    x, y = torch.randn(6, 5).double(), torch.randint(4, (6,))
    expected = LayerExcitationBackprop(copy.deepcopy(net).eval(), "2").attribute(x, target=y)
    keys = list(net.state_dict())
    with attach(net, "2", head=["3", "4", "5"]) as dropout:
        assert list(net.state_dict()) == keys
        dropout.arm(y)
        net(x)
        assert torch.allclose(dropout.layers["2"].last.p_eb, expected, atol=1e-12)


def test_the_layer_can_be_used_alone_with_its_head():
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4))
    layer = ExcitationDropoutLayer(0.5, head=head)
    assert not list(layer.state_dict())
    layer.arm(torch.tensor([0, 1, 2]))
    h = torch.rand(3, 12)
    out = layer(h)
    scale = 12 / layer.last.keep.sum(1, keepdim=True)
    assert torch.allclose(out, h * layer.last.keep * scale)
    layer.disarm()
    assert layer(h) is h


def test_a_layer_with_a_head_above_a_layer_without_is_measured_with_it():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(5, 12), nn.Linear(12, 9), nn.Linear(9, 4)
            self.drop1, self.drop2 = nn.Dropout(0.5), nn.Dropout(0.5)

        def forward(self, x):
            h = self.drop1(F.relu(self.fc1(x)))
            return self.fc3(self.drop2(F.relu(self.fc2(h))))

    torch.manual_seed(0)
    net = Two().double()
    x, y = torch.randn(6, 5).double(), torch.randint(4, (6,))
    twin = copy.deepcopy(net).eval()
    with attach(net, "drop1") as lower, attach(net, "drop2", head="fc3") as upper:
        lower.arm(y)
        upper.arm(y)
        net(x)
        for dropout, name in ((lower, "drop1"), (upper, "drop2")):
            expected = LayerExcitationBackprop(twin, name).attribute(x, target=y)
            assert torch.allclose(dropout.layers[name].last.p_eb, expected, atol=1e-9)


# --------------------------------------------------------------------------------------------- compiled


@pytest.fixture
def dynamo():
    if sys.platform == "win32":
        pytest.skip("torch.compile needs a compiler that is not there on Windows")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_a_compiled_network_with_a_head_has_no_graph_breaks_and_trains_on_what_was_kept(dynamo):
    net, x, y = made(Net, dtype=torch.float32)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with attach(net, "drop", head=lambda model, h: model.above(h, None), rescale="none") as dropout:
        masks = []
        for _ in range(3):
            net.zero_grad()
            dropout.arm(y)
            scores = compiled(x)
            last = dropout.layers["drop"].last
            masks.append(last.keep)
            F.cross_entropy(scores, y).backward()
    assert not torch.equal(masks[0], masks[1])
    twin = copy.deepcopy(net)
    twin.zero_grad()
    expected = twin.above(twin.below(x) * masks[-1], x)
    F.cross_entropy(expected, y).backward()
    assert torch.allclose(scores, expected, atol=1e-6)
    for name, parameter in net.named_parameters():
        assert torch.allclose(parameter.grad, twin.get_parameter(name).grad, atol=1e-6), name
    reference = LayerExcitationBackprop(copy.deepcopy(twin).eval(), "drop").attribute(x, target=y)
    assert torch.allclose(last.p_eb, reference, atol=1e-5)


def test_a_rate_that_grows_compiles_the_network_once(dynamo):
    from torch._dynamo.testing import CompileCounter

    net, x, y = made(Net, dtype=torch.float32)
    counter = CompileCounter()
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    with attach(net, "drop", head=lambda model, h: model.above(h, None)) as dropout:
        for rate in (0.0, 0.1, 0.2, 0.3):
            dropout.layers["drop"].p = rate
            dropout.arm(y)
            compiled(x).sum().backward()
    assert counter.frame_count == 1


def test_a_compiled_network_without_a_head_warns_once_and_is_right(dynamo):
    net, x, y = made(Net, dtype=torch.float32)
    compiled = torch.compile(net, backend="aot_eager")
    expected = LayerExcitationBackprop(copy.deepcopy(net).eval(), "drop").attribute(x, target=y)
    with attach(compiled, "drop", rescale="none") as dropout:
        with pytest.warns(UserWarning, match="runs it eagerly"):
            dropout.arm(y)
        compiled(x)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dropout.arm(y)
        scores = compiled(x)
        last = dropout.layers["drop"].last
        assert torch.allclose(last.p_eb, expected, atol=1e-5)
        assert torch.allclose(scores, net.above(net.below(x) * last.keep, x), atol=1e-6)
        dropout.disarm()
        assert torch.allclose(compiled.eval()(x), net.above(net.below(x), x), atol=1e-6)
    assert isinstance(net.drop, nn.Dropout)


def test_a_compiled_part_above_the_layer_is_seen_through(dynamo):
    net, x, y = made(Net, dtype=torch.float32)
    expected = LayerExcitationBackprop(copy.deepcopy(net).eval(), "drop").attribute(x, target=y)
    net.fc2 = torch.compile(net.fc2, backend="aot_eager")
    with attach(net, "drop") as dropout:
        with pytest.warns(UserWarning, match="parts of the model are compiled \\('fc2'\\)"):
            dropout.arm(y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dropout.arm(y)
        net(x).sum().backward()
        assert torch.allclose(dropout.layers["drop"].last.p_eb, expected, atol=1e-5)
