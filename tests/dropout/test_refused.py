"""What cannot be measured or run again is an error that says so, never a silently different training."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from dropout_nets import BatchNorm, Net, made
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_ext.dropout import ExcitationDropoutLayer, attach
from captum_ext.excitation import UnsupportedOperationError


def train(net, x, y, **settings):
    with attach(net, "drop", **settings) as dropout:
        dropout.arm(y)
        scores = net(x)
        F.cross_entropy(scores if isinstance(scores, torch.Tensor) else scores[0], y).backward()
        return dropout.layers["drop"]


class Cosine(Net):
    """An operation without a rule above the layer."""

    def above(self, h, x):
        return self.fc3(torch.cos(self.fc2(h)))


def test_an_operation_without_a_rule_is_named():
    net, x, y = made(Cosine)
    with pytest.raises(UnsupportedOperationError, match=r"torch.cos.*strict=False"):
        train(net, x, y)


@pytest.mark.parametrize("n", ["layer", "active"])
def test_or_the_layer_acts_as_standard_dropout_and_says_so_once(n):
    net, x, y = made(Cosine, n=400)
    with attach(net, "drop", p=0.25, n=n, strict=False) as dropout:
        layer = dropout.layers["drop"]
        dropout.arm(y)
        with pytest.warns(UserWarning, match="acts as standard dropout"):
            net(x).sum().backward()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            net(x).sum().backward()
    assert (1 - layer.last.keep.double().mean()).item() == pytest.approx(0.25, abs=0.03)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_a_custom_autograd_function_above_the_layer_is_an_error_even_if_not_strict():
    class Custom(Net):
        def above(self, h, x):
            return self.fc3(Twice.apply(self.fc2(h)))

    net, x, y = made(Custom)
    with pytest.raises(UnsupportedOperationError, match="TwiceBackward"):
        train(net, x, y, strict=False)


def test_a_gradient_reversal_above_the_layer_is_not_forgotten_but_refused():
    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    class Reversed(Net):
        def forward(self, x):
            h = self.drop(self.below(x))
            return self.above(h, x), Reverse.apply(h)

    net, x, y = made(Reversed)
    with pytest.raises(UnsupportedOperationError, match="ReverseBackward"):
        train(net, x, y)


def test_a_custom_autograd_function_below_the_layer_is_fine():
    class Custom(Net):
        def below(self, x):
            return F.relu(Twice.apply(self.fc1(x)))

    net, x, y = made(Custom)
    assert train(net, x, y).last.p_eb.sum() > 0


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0, 1]), r"targets of shape \(2,\).*scores of shape \(6, 4\)"),
        (torch.tensor([0, 1, 2, 3, 4, 0]), "label 4 is not one of the 4 classes"),
        (torch.rand(6), "soft labels"),
        (torch.full((6, 4), -0.1), "negative"),
        (torch.rand(6, 5), r"targets of shape \(6, 5\)"),
    ],
    ids=["batch", "class", "floats", "negative", "classes"],
)
def test_targets_that_do_not_fit_are_an_error(targets, message):
    net, x, _ = made(Net)
    with attach(net, "drop") as dropout:
        dropout.arm(targets)
        with pytest.raises(ValueError, match=message):
            net(x)
        assert torch.overrides._get_current_function_mode() is None


def test_scores_without_classes_ask_for_output_fn():
    class OneNumber(Net):
        def above(self, h, x):
            return super().above(h, x)[:, 0]

    net, x, y = made(OneNumber)
    with pytest.raises(TypeError, match="output_fn"):
        train(net, x, y)


def test_scores_that_do_not_depend_on_the_layer_are_an_error():
    class Beside(Net):
        def forward(self, x):
            return self.above(self.below(x), x), self.drop(self.below(x))

    net, x, y = made(Beside)
    with pytest.raises(ValueError, match="no evidence reaches"):
        train(net, x, y)


def test_a_result_without_tensors_is_an_error():
    class Hidden:
        def __init__(self, logits):
            self.logits = logits

    class Opaque(Net):
        def forward(self, x):
            return Hidden(super().forward(x))

    net, x, y = made(Opaque)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        with pytest.raises(TypeError, match="returned a Hidden without a tensor"):
            net(x)


def test_a_loss_on_a_tensor_kept_from_inside_the_network_is_an_error():
    class Keeps(Net):
        def above(self, h, x):
            self.kept = self.fc2(h)
            return self.fc3(F.relu(self.kept))

    net, x, y = made(Keeps)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        loss = F.cross_entropy(net(x), y)
        with pytest.raises(RuntimeError, match="taken from inside the network"):
            (loss + net.kept.square().mean()).backward()


def test_an_input_of_the_layer_that_is_overwritten_later_is_an_error():
    class Overwrites(Net):
        def forward(self, x):
            h = self.below(x) * 1.0
            scores = self.above(self.drop(h), x)
            h.zero_()
            return scores

    net, x, y = made(Overwrites)
    with pytest.raises(RuntimeError, match="changed in place after the layer"):
        train(net, x, y)


def test_a_tensor_that_is_overwritten_after_its_use_above_the_layer_is_an_error():
    class Overwrites(Net):
        def forward(self, x):
            factor = torch.ones_like(x[:, :1])
            scores = self.above(self.drop(self.below(x)) * factor, x)
            factor += 1
            return scores

    net, x, y = made(Overwrites)
    with pytest.raises(RuntimeError, match="changed in place afterwards"):
        train(net, x, y)


def test_a_buffer_that_the_network_updates_holds_what_the_masked_run_leaves_in_it():
    class Tracks(Net):
        def build(self):
            super().build()
            self.register_buffer("seen", torch.zeros(9))

        def above(self, h, x):
            z = F.relu(self.fc2(h))
            with torch.no_grad():
                self.seen.mul_(0.5).add_(z.mean(0))
            return self.fc3(z)

    net, x, y = made(Tracks)
    layer = train(net, x, y)
    masked = net.below(x) * layer.last.keep / layer.last.keep.double().mean(1, keepdim=True)
    assert torch.allclose(net.seen, F.relu(net.fc2(masked)).mean(0))
    assert not net.seen.requires_grad


def test_a_network_that_was_not_called_as_a_module_is_an_error():
    net, x, y = made(Net)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        with pytest.raises(RuntimeError, match=r"self.forward\(x\)"):
            net.forward(x)


def test_reentrant_checkpointing_is_an_error():
    class Reentrant(Net):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=True)

    net, x, y = made(Reentrant)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        train(net, x.requires_grad_(), y)


def test_a_function_mode_entered_around_the_layer_alone_is_an_error():
    class Nested(Net):
        def forward(self, x):
            with torch.device("cpu"):
                h = self.drop(self.below(x))
            return self.above(h, x)

    net, x, y = made(Nested)
    before = torch.overrides._get_current_function_mode_stack()
    with pytest.raises(RuntimeError, match="torch function mode"):
        train(net, x, y)
    assert torch.overrides._get_current_function_mode_stack() == before


def test_a_function_mode_around_the_whole_call_is_fine():
    net, x, y = made(Net)
    with torch.device("cpu"):
        assert train(net, x, y).last.p_eb.sum() > 0


def test_one_unit_is_an_error():
    net = nn.Sequential(nn.Linear(5, 1), nn.Dropout(0.5), nn.Linear(1, 4))
    with attach(net, "1") as dropout:
        dropout.arm(torch.tensor([0, 1]))
        with pytest.raises(ValueError, match="at least 2 units"):
            net(torch.rand(2, 5))


def test_activations_that_are_no_rows_of_the_examples_are_an_error():
    class Rows(Net):
        def above(self, h, x):
            return super().above(h.sum(0, keepdim=True).expand(4, -1), x)

    net, x, _ = made(Rows)
    with attach(net, "drop") as dropout:
        dropout.arm(torch.tensor([0, 1, 2, 3]))
        with pytest.raises(ValueError, match="axis 0 must be the batch"):
            net(x)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dorp", r"did you mean 'drop'\?; its dropout layers are 'drop'"),
        ("", "the model itself"),
        ("fc1.nothing", "no module named"),
    ],
)
def test_names_that_do_not_exist_are_an_error(name, message):
    net, _, _ = made(Net)
    with pytest.raises(ValueError, match=message):
        attach(net, name)
    assert not net._forward_hooks


def test_a_wrong_name_among_several_leaves_the_model_as_it_was():
    net, _, _ = made(Net)
    original = net.drop
    with pytest.raises(ValueError, match="no module named 'gone'"):
        attach(net, ["drop", "gone"])
    assert net.drop is original


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": 1.0}, "base drop rate"),
        ({"rescale": "sum"}, "rescale"),
        ({"unit": "pixel"}, "unit"),
        ({"n": 12}, "n must be"),
        ({"max_scale": 0.5}, "max_scale"),
    ],
)
def test_settings_that_make_no_sense_are_an_error(settings, message):
    net, _, _ = made(Net)
    with pytest.raises(ValueError, match=message):
        attach(net, "drop", **settings)
    with pytest.raises(ValueError, match=message):
        ExcitationDropoutLayer(**settings)


def test_a_rate_of_zero_that_is_taken_over_is_an_error():
    net, _, _ = made(Net)
    net.drop.p = 0.0
    with pytest.raises(ValueError, match=r"drop rate 0.*pass p="):
        attach(net, "drop")
    with attach(net, "drop", p=0.5) as dropout:
        assert dropout.layers["drop"].p == 0.5


def test_layers_must_be_named_once_and_a_head_belongs_to_one():
    net, _, _ = made(Net)
    for layers in ([], ["drop", "drop"]):
        with pytest.raises(ValueError, match="layers must name"):
            attach(net, layers)
    with pytest.raises(ValueError, match="above one layer"):
        attach(net, ["drop", "fc2"], head="fc3")


def test_sharded_weights_are_refused():
    class FSDPModule:
        pass

    class Sharded(FSDPModule, Net):
        pass

    with pytest.raises(ValueError, match="sharded"):
        attach(nn.Sequential(Sharded()), "0.drop")


def test_a_layer_can_be_replaced_once_at_a_time():
    net, _, _ = made(Net)
    original = net.drop
    with attach(net, "drop"), pytest.raises(ValueError, match="taken already"):
        attach(net, "drop")
    assert net.drop is original
    with attach(net, "drop"):
        pass


def test_alpha_dropout_is_refused():
    net = nn.Sequential(nn.Linear(5, 12), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(12, 4))
    with pytest.raises(ValueError, match="AlphaDropout"):
        attach(net, "2")


def test_a_followed_module_must_return_a_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    net = nn.Sequential(nn.Linear(5, 12), Pair())
    with attach(net, "1") as dropout:
        dropout.arm("predicted")
        with pytest.raises(TypeError, match="the output of module '1' is a tuple"):
            net(torch.rand(2, 5))


def test_nothing_is_said_where_nothing_is_wrong():
    net, x, y = made(BatchNorm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(net, x, y)
