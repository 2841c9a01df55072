"""What happens at the edges of a training loop: evaluation between, Ctrl-C, other names, values kept."""

import copy
import gc
import warnings
import weakref

import pytest
import torch
import torch.nn.functional as F
from dropout_nets import Net, made
from torch import nn

from captum_ext.attr import LayerExcitationBackprop
from captum_ext.dropout import ExcitationDropoutLayer, attach, attach_adaptive


def same_dropout(net, last, x):
    """The network with the mask of a layer that does not rescale, written by hand."""
    return net.above(net.below(x) * last.keep, x)


def test_a_followed_module_drops_again_after_evaluation():
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 4))
    x, y = torch.rand(3, 5), torch.tensor([0, 3, 1])
    with attach(net, "1", rescale="none") as dropout:
        layer = dropout.layers["1"]
        for _ in range(2):
            net.eval()
            dropout.arm(y)
            assert torch.equal(net(x), net[2](net[1].forward(net[0](x))))
            assert layer.last is None
            net.train()
            dropout.arm(y)
            scores = net(x)
            assert torch.allclose(scores, net[2](net[0](x).relu() * layer.last.keep))
            layer.last = None


def test_a_layer_of_several_names_is_replaced_under_all_of_them():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(5, 12), nn.Linear(12, 4)
            self.drop = nn.Dropout(0.5)
            self.alias = self.drop

        def forward(self, x):
            return self.fc2(self.alias(self.fc1(x).relu()))

    net, x = Twice(), torch.rand(3, 5)
    original = net.drop
    with attach(net, "drop") as dropout:
        dropout.arm(torch.tensor([0, 3, 1]))
        net(x)
        assert dropout.layers["drop"].last is not None
    assert net.drop is original
    assert net.alias is original


@pytest.mark.parametrize("attaching", [attach, lambda net, name: attach_adaptive(net, name, "0")])
def test_a_module_is_followed_once_at_a_time(attaching):
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 4))
    with attaching(net, "1"), pytest.raises(ValueError, match="taken already"):
        attach(net, "1")
    attach(net, "1").detach()


def test_detaching_leaves_a_layer_alone_that_is_gone_by_then():
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.5), nn.Dropout(0.25), nn.Linear(12, 4))
    upper = net[3]
    dropout = attach(net, ["2", "3"])
    net[2] = nn.Identity()
    dropout.detach()
    assert type(net[2]) is nn.Identity
    assert net[3] is upper


def test_names_with_the_wrappers_of_compiled_modules_are_understood():
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 4))
    original, compiled = net[2], torch.compile(nn.Sequential(net))
    names = [name for name, module in compiled.named_modules() if module is original]
    assert names == ["_orig_mod.0.2"]
    with attach(compiled, names[0]):
        assert type(net[2]) is ExcitationDropoutLayer
    assert net[2] is original


# ------------------------------------------------------------------------------------------- Ctrl-C


class Interrupted(Net):
    """Raises KeyboardInterrupt below or above the layer when it is told to."""

    where = None

    def below(self, x):
        if self.where == "below":
            raise KeyboardInterrupt
        return super().below(x)

    def above(self, h, x):
        if self.where == "above":
            F.relu(h)
            raise KeyboardInterrupt
        return super().above(h, x)


@pytest.mark.parametrize("where", ["below", "above"])
def test_after_ctrl_c_the_next_pass_is_whole(where):
    net, x, y = made(Interrupted, dtype=torch.float64)
    with attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        net.where = where
        with pytest.raises(KeyboardInterrupt):
            net(x)
        net.where = None
        plain = net.eval()(x)
        assert torch.equal(plain, net.above(net.below(x), x))
        scores = net.train()(x)  # not armed again
        gradients = torch.autograd.grad(scores.sum(), list(net.parameters()), retain_graph=True)
        expected_scores = same_dropout(net, dropout.layers["drop"].last, x)
        expected = torch.autograd.grad(expected_scores.sum(), list(net.parameters()))
    assert torch.allclose(scores, expected_scores)
    assert all(torch.allclose(a, b) for a, b in zip(gradients, expected, strict=True))
    assert torch._C._len_torch_function_stack() == 0


# ------------------------------------------------------------------------------------------ what is kept


def _slice(net, z):
    net.q[:] = z.detach().mean(0)


def _in_place(net, z):
    net.q.mul_(0.9).add_(z.detach().mean(0), alpha=0.1)


def _operator(net, z):
    net.q += z.detach().mean(0)


def _new(net, z):
    net.q = 0.9 * net.q + 0.1 * z.detach().mean(0)


def _without_grad(net, z):
    with torch.no_grad():
        net.q.mul_(0.9).add_(z.mean(0), alpha=0.1)


@pytest.mark.parametrize("write", [_slice, _in_place, _operator, _new, _without_grad])
def test_buffers_hold_what_the_pass_with_dropout_leaves_in_them(write):
    class Remembering(Net):
        def build(self):
            super().build()
            self.register_buffer("q", torch.ones(9))

        def above(self, h, x):
            z = self.fc2(h)
            write(self, z)
            return self.fc3(F.relu(z))

    net, x, y = made(Remembering)
    twin = copy.deepcopy(net)
    buffer = net.q
    with attach(net, "drop", rescale="none") as dropout:
        for _ in range(2):
            dropout.arm(y)
            net(x).sum().backward()
            same_dropout(twin, dropout.layers["drop"].last, x)
    assert torch.allclose(net.q, twin.q)
    assert not torch.allclose(twin.q, torch.ones_like(twin.q))
    assert (net.q is buffer) == (write is not _new)
    assert not net.q.requires_grad


def test_a_part_of_a_weight_that_was_taken_below_the_layer_is_no_evidence():
    class Positions(Net):
        def build(self):
            super().build()
            self.positions = nn.Parameter(torch.rand(2, 20))

        def forward(self, x):
            self.shift = self.positions[:1, :12]
            return super().forward(x)

        def above(self, h, x):
            return super().above(h + self.shift, x)

    net, x, y = made(Positions)
    expected = LayerExcitationBackprop(copy.deepcopy(net).eval(), "drop").attribute(x, target=y)
    with attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        scores = net(x)
        last = dropout.layers["drop"].last
        scores.sum().backward()
    assert torch.allclose(last.p_eb, expected, atol=1e-6)
    assert net.positions.grad[:1, :12].abs().min() > 0


def test_values_may_be_clamped_without_gradients():
    class Clamped(Net):
        def above(self, h, x):
            z = self.fc2(h)
            with torch.no_grad():
                z.clamp_(-0.2, 0.2)
            return self.fc3(F.relu(z))

    net, x, y = made(Clamped)
    with attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        scores = net(x)
        expected = same_dropout(net, dropout.layers["drop"].last, x)
    assert torch.allclose(scores, expected)


# ------------------------------------------------------------------------------------------- overflow


@pytest.mark.parametrize("rescale", ["fraction", "none", "unit", "mass"])
def test_where_evidence_overflowed_the_scores_are_nan(rescale):
    net, x, y = made(Net, dtype=torch.float32)
    with torch.no_grad():
        net.fc2.weight.mul_(1e38)
        net.fc3.weight.mul_(1e38)
    with attach(net, "drop", rescale=rescale) as dropout:
        dropout.arm(y)
        scores = net(x)
    assert scores.isnan().any()


def test_a_layer_that_the_pass_leaves_out_is_reported_once():
    class Unused(Net):
        def build(self):
            super().build()
            self.unused = nn.Dropout(0.5)

    net, x, y = made(Unused)
    with attach(net, ["drop", "unused"]) as dropout, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(12):
            dropout.arm(y)
            net(x)
    assert len(caught) == 1
    assert "did not run" in str(caught[0].message)


def test_branches_that_take_turns_are_no_reason_to_warn():
    class Tasks(Net):
        def build(self):
            super().build()
            self.task, self.others = 0, nn.ModuleList([nn.Dropout(0.5), nn.Dropout(0.5)])

        def above(self, h, x):
            return super().above(self.others[self.task](h), x)

    net, x, y = made(Tasks)
    with attach(net, ["others.0", "others.1"]) as dropout, warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(12):
            net.task = step % 2
            dropout.arm(y)
            net(x)


def test_a_detached_attachment_keeps_no_model_alive():
    net, x, y = made(Net)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        net(x).sum().backward()
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert list(dropout.layers) == ["drop"]


def test_a_sum_in_place_behind_the_layer_makes_it_no_last_layer():
    class Summed(Net):
        def build(self):
            self.fc2 = nn.Linear(5, 12)

        def above(self, h, x):
            h += self.fc2(x)
            return h

    net, x, y = made(Summed)
    with attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        scores = net(x)
        expected = same_dropout(net, dropout.layers["drop"].last, x)
    assert torch.allclose(scores, expected)


def test_a_dropout_layer_that_is_compiled_by_itself_is_replaced_and_comes_back():
    net = nn.Sequential(nn.Linear(5, 12), torch.compile(nn.Dropout(0.5), backend="eager"), nn.Linear(12, 4))
    wrapper = net[1]
    with attach(net, "1") as dropout:
        dropout.arm(torch.tensor([0, 3, 1]))
        net(torch.rand(3, 5))
        assert dropout.layers["1"].last is not None
    assert net[1] is wrapper


# ------------------------------------------------------------------------------------------ fallback


def test_the_fallback_leaves_ignored_labels_alone():
    class Unruly(Net):
        def above(self, h, x):
            z = self.fc2(h)
            return self.fc3(torch.linalg.qr(z)[0] @ torch.linalg.qr(z)[1])

    net, x, y = made(Unruly)
    y[1] = -100
    with attach(net, "drop", strict=False) as dropout:
        dropout.arm(y)
        with pytest.warns(UserWarning, match="acts as standard dropout"):
            net(x)
        last = dropout.layers["drop"].last
    assert last.keep[1].all()
    assert not last.keep.all()
    assert last.has_target.tolist() == (y >= 0).tolist()


# ------------------------------------------------------------------------------------- adaptive dropout


@pytest.mark.parametrize("name", ["1", "2"])
def test_copies_of_a_model_with_adaptive_dropout_evaluate_as_it_does(name, tmp_path):
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 4)).eval()
    x = torch.rand(3, 5)
    with attach_adaptive(net, name, "0"):
        scores = net(x)
        twin = copy.deepcopy(net)
        torch.save(net, tmp_path / "net.pt")
    assert not torch.allclose(net(x), scores)
    assert torch.equal(twin(x), scores)
    assert torch.equal(torch.load(tmp_path / "net.pt", weights_only=False)(x), scores)
    with torch.no_grad():
        twin[0].bias.add_(5)  # the copy's own pre-activations count
    z = twin[0](x)
    assert torch.allclose(twin(x), twin[3](z.relu() * z.sigmoid()))


def test_adaptive_dropout_refuses_what_is_no_pre_activation():
    net = nn.Sequential(nn.LSTM(5, 12), nn.Identity())
    with attach_adaptive(net, "1", "0"), pytest.raises(TypeError, match="of LSTM is a tuple"):
        net(torch.rand(2, 3, 5))
    with pytest.raises(ValueError, match="must be finite"):
        attach_adaptive(net, "1", "0", alpha=float("nan"))
