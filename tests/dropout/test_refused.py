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


@pytest.mark.parametrize("targets", ["label", None, [0, 1], torch.zeros(3, dtype=torch.complex64)])
def test_what_are_no_targets_is_refused_when_armed(targets):
    net, _, _ = made(Net)
    with attach(net, "drop") as dropout, pytest.raises(TypeError, match="labels"):
        dropout.arm(targets)


def test_soft_labels_must_be_finite():
    net, x, y = made(Net)
    soft = F.one_hot(y, 4).float()
    soft[1, 2] = float("nan")
    with attach(net, "drop") as dropout:
        dropout.arm(soft)
        with pytest.raises(ValueError, match="finite"):
            net(x)


def test_booleans_are_no_classes_but_several_labels_per_example():
    net, x, y = made(Net)
    with attach(net, "drop") as dropout:
        dropout.arm(y > 0)
        with pytest.raises(TypeError, match="booleans"):
            net(x)
    with attach(net, "drop", output_fn=lambda scores: scores[:, :2]) as dropout:
        dropout.arm(y > 0)
        net(x)
        last = dropout.layers["drop"].last.p_eb
        dropout.arm((y > 0).long())
        net(x)
        assert torch.equal(last, dropout.layers["drop"].last.p_eb)
    with attach(net, "drop") as dropout:
        several = F.one_hot(y, 4).bool() | F.one_hot((y + 1) % 4, 4).bool()
        torch.manual_seed(0)
        dropout.arm(several)
        net(x)
        found = dropout.layers["drop"].last.p_eb
        dropout.arm(several.float())
        net(x)
        assert torch.equal(found, dropout.layers["drop"].last.p_eb)


def test_a_single_score_per_example_is_refused():
    class OneScore(Net):
        def build(self):
            self.fc2, self.fc3 = nn.Linear(12, 9), nn.Linear(9, 1)

    net, x, y = made(OneScore)
    labels = y.clamp(max=1)
    with attach(net, "drop") as dropout:
        dropout.arm(labels)
        with pytest.raises(ValueError, match="one number per example"):
            net(x)
    with attach(net, "drop", output_fn=lambda z: torch.cat([-z, z], 1)) as dropout:
        dropout.arm(labels)
        net(x)
        assert (dropout.layers["drop"].last.p_eb.sum(1) > 0).all()


def test_the_last_layer_of_a_network_is_refused():
    net, x, y = made(Net)
    with attach(net, "fc3") as dropout:
        dropout.arm(y)
        with pytest.raises(ValueError, match="the last of the network"):
            net(x)


def test_an_empty_batch_is_called_one():
    net, x, y = made(Net)
    with attach(net, "drop") as dropout:
        dropout.arm(y[:0])
        with pytest.raises(ValueError, match="batch is empty"):
            net(x[:0])


def test_one_strict_layer_makes_all_that_are_measured_with_it_strict():
    class Unruly(Net):
        def build(self):
            self.upper = nn.Dropout(0.5)
            super().build()

        def above(self, h, x):
            z = self.upper(self.fc2(h))
            return self.fc3(torch.linalg.qr(z)[0] @ torch.linalg.qr(z)[1])

    net, x, y = made(Unruly)
    with attach(net, ["drop", "upper"], strict=False) as dropout:
        dropout.layers["upper"].strict = True
        dropout.arm(y)
        with pytest.raises(UnsupportedOperationError):
            net(x)


def test_a_compiled_caller_is_told_what_to_attach_to():
    torch._dynamo.reset()
    net, x, y = made(Net, dtype=torch.float32)
    compiled = torch.compile(net, backend="eager")
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        with pytest.raises(RuntimeError, match="attach to the compiled module itself"):
            compiled(x)
    torch._dynamo.reset()


@pytest.mark.parametrize("how", ["eager stance", "disabled", "without gradients"])
def test_what_runs_eagerly_inside_of_compiled_code_is_no_compiled_caller(how):
    torch._dynamo.reset()
    net, x, y = made(Net, dtype=torch.float32)
    called = torch._dynamo.disable(lambda x: net(x)) if how == "disabled" else net
    compiled = torch.compile(lambda x: called(x), backend="eager")
    stance = "force_eager" if how == "eager stance" else "default"
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        with torch.set_grad_enabled(how != "without gradients"), torch.compiler.set_stance(stance):
            scores = compiled(x)
        assert scores.shape == (len(x), 4)
        assert (dropout.layers["drop"].last is None) == (how == "without gradients")
    torch._dynamo.reset()


def test_attachments_to_compiled_networks_want_eager_runs_together():
    torch._dynamo.reset()
    net = nn.Sequential(
        nn.Linear(5, 12), nn.Dropout(0.5), nn.Linear(12, 12), nn.Dropout(0.5), nn.Linear(12, 4)
    )
    compiled, y = torch.compile(net, backend="eager"), torch.tensor([0, 3, 1])
    attachments = [attach(compiled, name) for name in ("1", "3")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dropout in attachments:
            dropout.arm(y)
    compiled(torch.rand(3, 5))
    attachments[0].disarm()
    assert torch._dynamo.eval_frame._stance.stance == "force_eager"
    attachments[1].disarm()
    assert torch._dynamo.eval_frame._stance.stance == "default"
    for dropout in attachments:
        dropout.detach()


def test_a_module_of_compiled_code_that_has_run_is_followed_and_left():
    torch._dynamo.reset()
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.0), nn.Linear(12, 4))
    compiled, x, y = torch.compile(net, backend="eager"), torch.rand(3, 5), torch.tensor([0, 3, 1])
    plain = compiled(x)
    with attach(compiled, "1", head=["2", "3"]) as dropout:
        dropout.arm(y)
        scores = compiled(x)
        assert dropout.layers["1"].last is not None
    assert not torch.allclose(scores, plain)
    assert torch.equal(compiled(x), plain)
    torch._dynamo.reset()
