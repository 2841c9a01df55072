"""CurriculumDropout and AdaptiveDropout in a Trainer, and their layers and schedules in plain torch."""

import copy
import math

import pytest
import pytorch_lightning as pl
import torch
from dropout_modules import InSetup, Late, Module, Net, data, loader, trainer
from pytorch_lightning.callbacks import LearningRateFinder
from torch import nn

from captum_ext.dropout import (
    AdaptiveDropoutLayer,
    SharedDropout,
    attach,
    attach_adaptive,
    curriculum_drop_rate,
)
from lightning_callbacks import AdaptiveDropout, CurriculumDropout, ExcitationDropout

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*is deprecated")

# ----------------------------------------------------------------------------------------------- curriculum


@pytest.mark.parametrize(("p", "gamma"), [(0.5, 5e-4), (0.25, 0.1)])
def test_the_curriculum_is_equation_4_of_the_paper(p, gamma):
    theta = 1 - p
    for t in (0, 1, 10, 1000):
        expected = (1 - theta) * math.exp(-gamma * t) + theta
        assert 1 - curriculum_drop_rate(t, p, gamma) == pytest.approx(expected)
    assert curriculum_drop_rate(0, p, gamma) == 0
    assert curriculum_drop_rate(10**9, p, gamma) == pytest.approx(p)


@pytest.mark.parametrize(
    ("arguments", "message"), [((-1,), "step"), ((1, 1.0), "base drop rate"), ((1, 0.5, 0.0), "gamma")]
)
def test_a_curriculum_without_sense_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        curriculum_drop_rate(*arguments)


class Rates(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(module.net.drop.p)


def test_the_rate_follows_the_optimiser_steps_and_is_restored():
    module, rates = Module(), Rates()
    trainer(callbacks=[CurriculumDropout("net.drop", p=0.4, gamma=0.3), rates], max_epochs=2).fit(module)
    assert rates.seen == pytest.approx([curriculum_drop_rate(t, 0.4, 0.3) for t in range(6)])
    assert module.net.drop.p == 0.5
    assert "training_step" not in vars(module)


def test_the_final_rate_is_the_layers_own_unless_given():
    module, rates = Module(), Rates()
    module.net.drop.p = 0.2
    trainer(callbacks=[CurriculumDropout("net.drop", gamma="auto"), rates], max_epochs=4).fit(module)
    assert rates.seen[-1] == pytest.approx(curriculum_drop_rate(11, 0.2, 10 / 12))


def test_the_rate_is_restored_after_an_exception():
    module = Module()
    module.on_train_epoch_end = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer(callbacks=[CurriculumDropout("net.drop")]).fit(module)
    assert module.net.drop.p == 0.5


@pytest.mark.parametrize("first", ["curriculum", "excitation"])
def test_the_rate_of_an_excitation_dropout_layer_is_its_own(first):
    callbacks = [CurriculumDropout("net.drop"), ExcitationDropout("net.drop")]
    module = Module()
    with pytest.raises(ValueError, match=r"belongs to ExcitationDropout.*gamma="):
        trainer(callbacks=callbacks if first == "curriculum" else callbacks[::-1]).fit(module)
    assert type(module.net.drop) is nn.Dropout
    assert module.net.drop.p == 0.5


def test_only_dropout_layers_have_a_rate():
    with pytest.raises(ValueError, match=r"'net.fc1' is Linear, which has no drop rate"):
        trainer(callbacks=[CurriculumDropout("net.fc1")]).fit(Module())


def test_the_automatic_speed_is_that_of_each_run():
    callback = CurriculumDropout("net.drop", gamma="auto")
    for max_epochs in (1, 4):
        rates, steps = Rates(), 3 * max_epochs
        trainer(callbacks=[callback, rates], max_epochs=max_epochs).fit(Module())
        assert rates.seen == pytest.approx([curriculum_drop_rate(t, 0.5, 10 / steps) for t in range(steps)])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_layer_that_drops_nothing_or_everything_has_no_curriculum(p):
    module = Module()
    module.net.drop.p = p
    with pytest.raises(ValueError, match=f"'net.drop' has the drop rate {p}, .*pass p="):
        trainer(callbacks=[CurriculumDropout("net.drop")]).fit(module)
    rates = Rates()
    trainer(callbacks=[CurriculumDropout("net.drop", p=0.4, gamma=1.0), rates]).fit(module)
    assert rates.seen == pytest.approx([curriculum_drop_rate(t, 0.4, 1.0) for t in range(3)])
    assert module.net.drop.p == p


def test_one_layer_cannot_follow_two_curricula():
    module = Module()
    with pytest.raises(ValueError, match=r"'net.drop' is set by another CurriculumDropout"):
        trainer(callbacks=[CurriculumDropout("net.drop"), CurriculumDropout("net.drop", p=0.9)]).fit(module)
    trainer(callbacks=[CurriculumDropout("net.drop")]).fit(module)
    assert module.net.drop.p == 0.5


def test_a_curriculum_in_a_compiled_part_of_the_model_is_reported_once():
    torch.compiler.reset()
    module = Module()
    module.net = torch.compile(module.net, backend="eager")
    with pytest.warns(UserWarning, match="the model is compiled") as caught:
        trainer(callbacks=[CurriculumDropout("net.drop")], limit_val_batches=0).fit(module)
    assert len([w for w in caught if "the model is compiled" in str(w.message)]) == 1
    torch.compiler.reset()


@pytest.mark.parametrize("kind", [InSetup, Late], ids=lambda kind: kind.__name__)
def test_rates_are_set_in_layers_that_hooks_make_also_by_tuners(kind, tmp_path):
    rates = []

    class Watch(kind):
        def training_step(self, batch, batch_idx):
            rates.append((self.trainer.global_step, self.net.drop.p))
            return super().training_step(batch, batch_idx)

    callbacks = [CurriculumDropout("net.drop", gamma=0.3), LearningRateFinder(num_training_steps=4)]
    module = Watch()
    trainer(tmp_path, callbacks=callbacks, enable_checkpointing=True).fit(module)
    assert len(rates) >= 6
    for step, rate in rates:
        assert rate == pytest.approx(curriculum_drop_rate(step, 0.5, 0.3))
    assert module.net.drop.p == 0.5


# ------------------------------------------------------------------------------------------------- adaptive


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.5, -1.0)])
def test_adaptive_dropout_keeps_with_the_sigmoid_and_is_its_expectation_in_evaluation(alpha, beta):
    torch.manual_seed(0)
    z = torch.randn(1, 6)
    h = torch.relu(z)
    layer = AdaptiveDropoutLayer(alpha, beta)
    probability = torch.tensor([[1 / (1 + math.exp(-(alpha * v + beta))) for v in z[0].tolist()]])
    assert torch.allclose(layer.eval()(h, z), h * probability)
    layer.train()
    draws = 20_000
    kept = layer(torch.ones(draws, 6), z.expand(draws, 6))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    error = (probability * (1 - probability) / draws).sqrt()
    assert ((kept.mean(0) - probability[0]).abs() <= 4.5 * error[0]).all()


def test_gradients_pass_through_kept_units_only_and_not_through_the_probabilities():
    z = torch.randn(2, 5, requires_grad=True)
    h = torch.ones(2, 5, requires_grad=True)
    out = AdaptiveDropoutLayer()(h, z)
    out.sum().backward()
    assert torch.equal(h.grad, out.detach())
    assert z.grad is None


def test_an_adaptive_layer_in_a_model_reads_what_is_below_the_activation_even_if_that_works_in_place():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(12, 4)).eval()
    x = torch.randn(3, 5)
    with attach_adaptive(net, "2", "0", alpha=2.0, beta=0.5):
        found = net(x)
    z = net[0](x)
    assert torch.allclose(found, net[3](torch.relu(z) * torch.sigmoid(2 * z + 0.5)))
    assert type(net[2]) is nn.Dropout
    assert not net[0]._forward_hooks
    assert torch.allclose(net(x), net[3](torch.relu(z)))


def test_adaptive_layers_without_pre_activations_or_of_other_units_are_an_error():
    with pytest.raises(RuntimeError, match="without pre-activations"):
        AdaptiveDropoutLayer()(torch.rand(2, 3))
    with pytest.raises(ValueError, match="must be of the same units"):
        AdaptiveDropoutLayer()(torch.rand(2, 3), torch.rand(2, 4))
    for layers, below in ((["2"], ["0", "1"]), ([], [])):
        with pytest.raises(ValueError, match="each layer needs its preactivation"):
            attach_adaptive(nn.Sequential(nn.Linear(2, 2)), layers, below)
    with pytest.raises(ValueError, match="each layer needs its preactivation"):
        AdaptiveDropout(["a"], ["b", "c"])


def test_the_callback_acts_in_training_and_in_evaluation_and_restores_the_model():
    module = Module()
    before = copy.deepcopy(module)
    callback = AdaptiveDropout("net.drop", "net.fc1")
    trainer(callbacks=[callback]).fit(module)
    assert type(module.net.drop) is nn.Dropout
    assert not torch.equal(module.net.fc1.weight, before.net.fc1.weight)
    module.eval()
    x, y = data(4)
    z = module.net.fc1(x)
    expected = nn.functional.cross_entropy(module.net.above(torch.relu(z) * torch.sigmoid(z)), y).item()
    run = trainer(callbacks=[callback])
    for evaluate in (run.validate, run.test):
        (found,) = evaluate(module, loader(n=4), verbose=False)
        assert found["val_loss"] == pytest.approx(expected, rel=1e-5)
    assert type(module.net.drop) is nn.Dropout
    (scores,) = trainer(callbacks=[callback]).predict(Predicting(module.net), loader(n=4))
    assert torch.allclose(scores, module.net.above(torch.relu(z) * torch.sigmoid(z)), atol=1e-6)


@pytest.mark.parametrize("kind", [InSetup, Late], ids=lambda kind: kind.__name__)
def test_layers_are_put_into_what_hooks_make_also_for_tuners(kind, tmp_path):
    seen = []

    class Watch(kind):
        def training_step(self, batch, batch_idx):
            seen.append(type(self.net.drop))
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            seen.append(type(self.net.drop))

    callbacks = [AdaptiveDropout("net.drop", "net.fc1"), LearningRateFinder(num_training_steps=4)]
    module = Watch()
    trainer(tmp_path, callbacks=callbacks, enable_checkpointing=True).fit(module)
    trainer(callbacks=callbacks[:1]).validate(module, verbose=False)
    assert len(seen) > 8
    assert set(seen) == {AdaptiveDropoutLayer}
    assert type(module.net.drop) is nn.Dropout
    assert "training_step" not in vars(module)


class Predicting(Module):
    def predict_step(self, batch, batch_idx):
        return self(batch[0])


def test_the_model_is_restored_after_an_exception():
    module = Module()
    module.on_train_epoch_end = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer(callbacks=[AdaptiveDropout("net.drop", "net.fc1")]).fit(module)
    assert type(module.net.drop) is nn.Dropout
    assert not module.net.fc1._forward_hooks


def test_excitation_and_adaptive_dropout_stand_side_by_side():
    class Two(Net):
        def __init__(self):
            super().__init__()
            self.drop2 = nn.Dropout(0.5)

        def above(self, h):
            return self.fc3(self.drop2(torch.relu(self.fc2(h))))

    torch.manual_seed(0)
    net = Two()
    x, y = data(4)
    with attach_adaptive(net, "drop2", "fc2"), attach(net, "drop") as dropout:
        dropout.arm(y)
        net(x).sum().backward()
        assert dropout.layers["drop"].last.p_eb.sum() > 0
    assert all(parameter.grad is not None for parameter in net.parameters())


# ------------------------------------------------------------------------------------------------- standard


def test_a_shared_mask_is_one_for_the_batch_with_inverted_scaling():
    layer = SharedDropout(0.25)
    torch.manual_seed(0)
    out = layer(torch.ones(3, 4000))
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[1], out[2])
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (out[0] > 0).float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_torchs_own_dropout_draws_a_mask_per_example():
    torch.manual_seed(0)
    out = nn.Dropout(0.5)(torch.ones(2, 100))
    assert not torch.equal(out[0], out[1])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_shared_dropout_at_the_ends_of_its_rate(p):
    x = torch.ones(2, 3)
    assert torch.equal(SharedDropout(p)(x), x * (1 - p))
