"""ExcitationDropout in real runs of the Trainer: what is trained, what it works with, what it leaves."""

import copy
import os
import pickle
import socket
import subprocess
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from dropout_modules import InSetup, Late, Module, Net, Sample, data, loader, trainer
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    EMAWeightAveraging,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from captum_ext.attr import LayerExcitationBackprop
from captum_ext.dropout import attach, curriculum_drop_rate
from lightning_callbacks import CurriculumDropout, ExcitationDropout
from lightning_callbacks.batches import find_labels

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*is deprecated", "ignore:.*log_every_n_steps"
)


class Spy(pl.Callback):
    """Looks at the layer after every batch."""

    def __init__(self, name="net.drop"):
        self.name, self.seen, self.rates = name, [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        layer = module.get_submodule(self.name)
        self.seen.append(layer.last)
        self.rates.append(layer.p)


def fitted(module=None, callback=None, spy=None, seed=0, **settings):
    torch.manual_seed(seed)
    module = Module() if module is None else module
    callback = ExcitationDropout("net.drop") if callback is None else callback
    callbacks = [callback, *([] if spy is None else [spy]), *settings.pop("callbacks", [])]
    loaders = settings.pop("loaders", ())
    trainer(callbacks=callbacks, **settings).fit(module, *loaders)
    return module


def same_weights(first, second, atol=1e-7):
    return all(
        torch.allclose(a, b, atol=atol)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def by_hand(module, batches, seed=1, accumulate=1, clip=None, **settings):
    """The same training in a plain loop."""
    optimizer = module.configure_optimizers()
    torch.manual_seed(seed)
    with attach(module, "net.drop", **settings) as dropout:
        for index, (x, y) in enumerate(batches):
            dropout.arm(y)
            (F.cross_entropy(module(x), y) / accumulate).backward()
            if (index + 1) % accumulate == 0:
                if clip is not None:
                    nn.utils.clip_grad_norm_(module.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
    return module


class SeedAtStart(pl.Callback):
    def on_train_start(self, trainer, module):
        torch.manual_seed(1)


@pytest.mark.parametrize(
    ("settings", "hand"),
    [
        ({}, {}),
        ({"accumulate_grad_batches": 3}, {"accumulate": 3}),
        ({"gradient_clip_val": 0.05}, {"clip": 0.05}),
    ],
    ids=["plain", "accumulated", "clipped"],
)
def test_a_fit_trains_the_weights_that_a_plain_loop_trains(settings, hand):
    torch.manual_seed(0)
    module = Module()
    expected = by_hand(copy.deepcopy(module), list(loader()), **hand)
    untouched = copy.deepcopy(module)
    fitted(module, callbacks=[SeedAtStart()], **settings)
    assert same_weights(module, expected)
    assert not same_weights(module, untouched)


def test_a_fit_differs_from_one_with_the_plain_layer():
    torch.manual_seed(0)
    module = Module()
    plain = copy.deepcopy(module)
    fitted(module, callbacks=[SeedAtStart()])
    trainer(callbacks=[SeedAtStart()]).fit(plain)
    assert not same_weights(module, plain, atol=1e-4)


def test_the_evidence_is_the_layer_map_of_the_attribution_engine_on_the_same_batch():
    class Compare(pl.Callback):
        largest = 0.0

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            twin = copy.deepcopy(module.net).eval()
            twin.drop = nn.Dropout()
            x, y = batch
            self.expected = LayerExcitationBackprop(twin.eval(), "drop").attribute(x, target=y)

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            difference = (module.net.drop.last.p_eb - self.expected).abs().max().item()
            Compare.largest = max(Compare.largest, difference)

    fitted(callbacks=[Compare()])
    assert Compare.largest < 1e-5


# ---------------------------------------------------------------------------------- what the user may write


class InnerCall(Module):
    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x), y)


class TwoParts(pl.LightningModule):
    """Feature extractor and classifier are called one after the other in ``training_step``."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(5, 12), nn.ReLU())
        self.net = nn.Sequential()
        self.net.drop, self.net.fc = nn.Dropout(0.5), nn.Linear(12, 4)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(self.backbone(x)), y)

    configure_optimizers = Module.configure_optimizers
    lr = 0.1
    train_dataloader = Module.train_dataloader


class PartByPart(Module):
    """The whole network, called part by part."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        net = self.net
        return {"loss": F.cross_entropy(net.head(net.backbone(x)), y)}


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 9))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(9, 4))

    def forward(self, x):
        return self.head(self.backbone(x))


class WithFeatures(Module):
    """A network that returns features and scores, in this order."""

    def forward(self, x):
        return self.net(x)[1]

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x)[1], y)


class FeaturesAndScores(Parts):
    def forward(self, x):
        features = self.backbone(x)
        return features, self.head(features)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("module", [PartByPart(Parts()), WithFeatures(FeaturesAndScores())])
def test_features_are_not_taken_for_scores(module, precision):
    callback = ExcitationDropout("net.backbone.2")
    with pytest.raises(RuntimeError, match="so it is features"):
        fitted(copy.deepcopy(module), callback, precision=precision)


def test_scores_that_the_user_names_are_taken_as_they_are():
    class Scores(FeaturesAndScores):
        def forward(self, x):
            return super().forward(x)[1]

    torch.manual_seed(0)
    module, spy = WithFeatures(FeaturesAndScores()), Spy("net.backbone.2")
    twin = Scores().eval()
    twin.load_state_dict(module.net.state_dict())
    x, y = next(iter(loader()))
    expected = LayerExcitationBackprop(twin, "backbone.2").attribute(x, target=y)
    fitted(module, ExcitationDropout("net.backbone.2", output_fn=lambda output: output[1]), spy=spy)
    assert torch.allclose(spy.seen[0].p_eb, expected, atol=1e-5)


class Manual(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        x, y = batch
        optimizer = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            loss = F.cross_entropy(checkpoint(self, x, use_reentrant=False), y)
            self.manual_backward(loss)
            optimizer.step()
        return loss


class DictOutput(Module):
    def __init__(self):
        class Inner(Net):
            def forward(self, x):
                scores = super().forward(x)
                return {"more": [scores.exp()], "logits": scores}

        super().__init__(Inner())

    def training_step(self, batch, batch_idx):
        x, y = batch
        return {"loss": F.cross_entropy(self.net(x)["logits"], y)}


@pytest.mark.parametrize("kind", [InnerCall, TwoParts, Manual, DictOutput], ids=lambda kind: kind.__name__)
def test_training_steps_of_all_kinds_are_followed(kind):
    spy = Spy()
    module = kind()
    before = copy.deepcopy(module)
    fitted(module, spy=spy, limit_val_batches=0)
    assert len(spy.seen) == 3
    assert all(seen is not None and not seen.keep.all() for seen in spy.seen)
    assert not same_weights(module, before)
    assert isinstance(module.net.drop, nn.Dropout)


class LBFGS(Module):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), max_iter=3)


def test_an_optimiser_that_runs_the_step_several_times_drops_in_each():
    module, steps = LBFGS(), []
    module.net.fc2.register_forward_hook(lambda *_: steps.append(module.net.drop.is_armed))
    fitted(module, limit_train_batches=1, limit_val_batches=0)
    assert len(steps) > 1
    assert all(steps)


Pair = namedtuple("Pair", ["image", "target"])


class Batches(Module):
    def training_step(self, batch, batch_idx):
        x, y = self.take(batch)
        return F.cross_entropy(self(x), y)


@pytest.mark.parametrize(
    ("pack", "take"),
    [
        (lambda x, y: (x, y), lambda batch: batch),
        (lambda x, y: [x, y, "name"], lambda batch: batch[:2]),
        (lambda x, y: {"image": x, "labels": y}, lambda batch: batch.values()),
        (lambda x, y: Sample(x, y), lambda batch: (batch.image, batch.label)),
        (lambda x, y: Pair(x, y), lambda batch: batch),
        (lambda x, y: (x, {"y": y}), lambda batch: (batch[0], batch[1]["y"])),
        (lambda x, y: (x, y[:, None]), lambda batch: (batch[0], batch[1][:, 0])),
    ],
    ids=["tuple", "list", "dict", "dataclass", "named tuple", "tuple of a dict", "labels (N, 1)"],
)
def test_labels_are_found_in_batches_of_all_kinds(pack, take):
    module, spy = Batches(), Spy()
    module.take = take
    x, y = data(8)
    batches = [pack(x[:4], y[:4]), pack(x[4:], y[4:])]
    with_labels = fitted(module, spy=spy, loaders=[DataLoader(batches, batch_size=None)])
    assert all(seen.p_eb.sum() > 3.9 for seen in spy.seen)
    assert with_labels is module


@pytest.mark.parametrize(
    "batch", [torch.rand(4, 5), {"image": torch.rand(4, 5)}, (torch.rand(4, 5), "cat"), None]
)
def test_a_batch_without_labels_asks_for_target_fn(batch):
    with pytest.raises((TypeError, ValueError), match="Pass target_fn="):
        find_labels(batch)


def test_soft_labels_ignored_labels_and_batches_that_are_left_alone():
    x, y = data(12)
    soft = F.one_hot(y[:4], 4).float() * 0.9 + 0.025
    ignored = torch.tensor([-1, 2, -100, 0])
    batches = [(x[:4], soft), (x[4:8], ignored), (x[8:], y[8:])]

    class Loss(Module):
        def training_step(self, batch, batch_idx):
            x, y = batch
            return F.cross_entropy(self(x), y if y.is_floating_point() else y.clamp(min=0))

    spy = Spy()
    callback = ExcitationDropout(
        "net.drop", target_fn=lambda batch: None if batch[1] is batches[2][1] else batch[1]
    )
    fitted(Loss(), callback, spy, loaders=[DataLoader(batches, batch_size=None)])
    assert spy.seen[0].has_target.all()
    assert spy.seen[1].has_target.tolist() == [False, True, False, True]
    assert spy.seen[1].keep[[0, 2]].all()
    assert spy.seen[2] is None


def test_the_predicted_class_needs_no_labels():
    class Unlabelled(Module):
        def training_step(self, batch, batch_idx):
            return self(batch).square().mean()

    spy = Spy()
    callback = ExcitationDropout("net.drop", target="predicted")
    fitted(Unlabelled(), callback, spy, loaders=[DataLoader([data(4)[0]], batch_size=None)])
    assert spy.seen[0].p_eb.sum() > 3.9


def test_output_fn_takes_the_scores_out_of_what_the_network_returns():
    class Odd(Module):
        def __init__(self):
            class Inner(Net):
                def forward(self, x):
                    return {"class": super().forward(x)}

            super().__init__(Inner())

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0])["class"], batch[1])

    with pytest.raises(TypeError, match="output_fn"):
        fitted(Odd(), limit_val_batches=0)
    spy = Spy()
    callback = ExcitationDropout("net.drop", output_fn=lambda output: output["class"])
    fitted(Odd(), callback, spy, limit_val_batches=0)
    assert spy.seen[0] is not None


# --------------------------------------------------------------------------------------- what stays as it was


def test_validation_test_and_prediction_see_the_whole_network():
    module = fitted()
    module.eval()
    expected = F.cross_entropy(module.net.above(module.net.below(data(4)[0])), data(4)[1]).item()
    run = trainer(callbacks=[ExcitationDropout("net.drop")])
    for evaluate in (run.validate, run.test):
        (found,) = evaluate(module, loader(n=4), verbose=False)
        assert found["val_loss"] == pytest.approx(expected, rel=1e-5)


def test_validation_during_fit_sees_the_whole_network():
    class Watch(Module):
        def validation_step(self, batch, batch_idx):
            x, _ = batch
            assert torch.equal(self(x), self.net.above(self.net.below(x)))
            Watch.ran = True

    fitted(Watch(), limit_train_batches=1)
    assert Watch.ran


def restored(module):
    return (
        type(module.net.drop) is nn.Dropout
        and "training_step" not in vars(module)
        and not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
        and torch.overrides._get_current_function_mode() is None
    )


class ValidatesByTraining(Module):
    """Some write one step for both; there are no labels in validation."""

    def training_step(self, batch, batch_idx):
        return (
            self(batch).square().mean()
            if isinstance(batch, torch.Tensor)
            else super().training_step(batch, 0)
        )

    def validation_step(self, batch, batch_idx):
        assert torch.equal(self(batch), self.net.above(self.net.below(batch)))
        self.log("val_loss", self.training_step(batch, batch_idx))

    def val_dataloader(self):
        return DataLoader([data(4)[0]], batch_size=None)


def test_a_training_step_that_validation_calls_is_left_alone():
    spy = Spy()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*ExcitationDropout")
        fitted(ValidatesByTraining(), spy=spy, max_epochs=2, num_sanity_val_steps=1)
    assert all(seen is not None for seen in spy.seen)


class Relu(Net):
    """With its first ReLU as a module."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def below(self, x):
        return self.relu(self.fc1(x))


@pytest.mark.parametrize("name", ["net.fc1", "net.relu"])
def test_dropout_behind_a_plain_module_acts_in_training_only(name):
    class Watch(Module):
        def validation_step(self, batch, batch_idx):
            x, _ = batch
            Watch.validated += torch.equal(self(x), self.net.above(self.net.below(x)))

    class Layer(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            seen.append(callback._attachment.layers[name].last)

    seen, Watch.validated = [], 0
    module, callback = Watch(Relu()), ExcitationDropout(name)
    module.net.drop.p = 0.0
    before = copy.deepcopy(module)
    fitted(module, callback, callbacks=[Layer()], max_epochs=2, num_sanity_val_steps=1)
    assert Watch.validated == 3
    assert len(seen) == 6
    for dropped in seen:
        assert dropped.p_eb.shape == (4, 12)
        assert (dropped.p_eb.sum(1) > 0).any()
        assert not dropped.keep.all()
    assert not same_weights(module, before, atol=1e-4)
    assert restored(module)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt], ids=lambda error: error.__name__)
@pytest.mark.parametrize("where", ["forward", "step", "backward", "epoch end"])
def test_an_exception_in_training_leaves_the_model_as_it_was(error, where):
    module = Module()

    def fail(*_, **__):
        raise error("stop")

    if where == "forward":
        handle = module.net.fc2.register_forward_pre_hook(fail)
    elif where == "step":
        module.configure_gradient_clipping = fail
    elif where == "backward":
        handle = module.net.fc1.weight.register_hook(fail)
    else:
        module.on_train_epoch_end = fail
    with pytest.raises((error, SystemExit)):
        fitted(module, limit_val_batches=0)
    if where in ("forward", "backward"):
        handle.remove()
    assert restored(module)
    module.__dict__.pop("configure_gradient_clipping", None)
    module.__dict__.pop("on_train_epoch_end", None)
    fitted(module)
    assert restored(module)


def test_the_model_is_as_it_was_after_fit_and_the_callback_can_be_used_again():
    module, callback = Module(), ExcitationDropout("net.drop")
    keys, original = list(module.state_dict()), module.net.drop
    for _ in range(2):
        fitted(module, callback)
        assert module.net.drop is original
        assert restored(module)
        assert list(module.state_dict()) == keys


def test_copies_and_pickles_of_the_callback_are_free_of_the_run():
    callback = ExcitationDropout("net.drop", gamma=0.1)
    fitted(callback=callback)
    for twin in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):  # noqa: S301
        fitted(callback=twin)


class WrapsTheStep(pl.Callback):
    """Somebody else's, which is undone after ours although it was put around it."""

    def setup(self, trainer, module, stage):
        self.own, inner = module.__dict__.get("training_step"), module.training_step
        module.training_step = lambda *args: inner(*args)

    def teardown(self, trainer, module, stage):
        del module.training_step
        if self.own is not None:
            module.training_step = self.own


def test_a_step_that_others_wrapped_is_a_plain_one_after_fit():
    module, spy = Module(), Spy()
    fitted(module, callbacks=[WrapsTheStep()], spy=spy)
    assert all(seen is not None for seen in spy.seen)
    plain = copy.deepcopy(module)
    for each in (module, plain):
        trainer(callbacks=[SeedAtStart()]).fit(each)
    assert same_weights(module, plain)
    fitted(module)
    assert type(module.net.drop) is nn.Dropout


def test_a_pickle_of_the_model_in_training_is_one_of_the_plain_model():
    class Pickle(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            self.found = pickle.dumps(module)

    save = Pickle()
    fitted(callbacks=[save])
    assert b"Trainer" not in save.found
    module = pickle.loads(save.found)  # noqa: S301
    assert module.training_step.__self__ is module
    assert type(module.net.drop) is nn.Dropout
    fitted(module)


# ------------------------------------------------------------------------------------------- annealing, logs


def test_the_rate_grows_with_the_optimiser_steps_after_the_warm_up():
    spy = Spy()
    callback = ExcitationDropout("net.drop", p=0.4, gamma=0.5, warmup_steps=2)
    fitted(callback=callback, spy=spy, max_epochs=2, accumulate_grad_batches=1)
    expected = [0.0, 0.0, *(curriculum_drop_rate(t, 0.4, 0.5) for t in range(4))]
    assert spy.rates == pytest.approx(expected)
    assert [seen is None for seen in spy.seen] == [True, True, True, False, False, False]


def test_accumulated_batches_are_one_step_of_the_schedule():
    spy = Spy()
    callback = ExcitationDropout("net.drop", gamma=0.5)
    fitted(callback=callback, spy=spy, accumulate_grad_batches=3, max_epochs=2)
    assert spy.rates == pytest.approx([0.0] * 3 + [curriculum_drop_rate(1, 0.5, 0.5)] * 3)


def test_gamma_auto_reaches_the_rate_at_the_end_of_the_run():
    spy = Spy()
    fitted(callback=ExcitationDropout("net.drop", gamma="auto"), spy=spy, max_epochs=4)
    assert spy.rates[1] == pytest.approx(curriculum_drop_rate(1, 0.5, 10 / 12))
    assert spy.rates[-1] == pytest.approx(0.5, rel=1e-3)


def test_gamma_auto_is_that_of_each_run_of_a_callback():
    callback = ExcitationDropout("net.drop", gamma="auto")
    for settings, steps in (({"max_epochs": 1}, 3), ({"max_epochs": 4}, 12), ({"max_steps": 5}, 5)):
        spy = Spy()
        fitted(callback=callback, spy=spy, **{"max_epochs": -1, **settings})
        assert spy.rates == pytest.approx([curriculum_drop_rate(t, 0.5, 10 / steps) for t in range(steps)])


def test_gamma_auto_counts_all_steps_that_a_model_takes_by_itself():
    spy = Spy()
    callback = ExcitationDropout("net.drop", gamma="auto")
    fitted(Manual(), callback, spy, max_epochs=4, limit_val_batches=0)
    # Two steps in each of 12 batches.
    assert spy.rates == pytest.approx([curriculum_drop_rate(t, 0.5, 10 / 24) for t in range(0, 24, 2)])


def test_gamma_auto_needs_an_end_of_the_run():
    with pytest.raises(ValueError, match="gamma='auto' needs a run of known length"):
        fitted(callback=ExcitationDropout("net.drop", gamma="auto"), max_epochs=-1)


class Log(pl.loggers.logger.DummyLogger):
    def __init__(self):
        super().__init__()
        self.found = []

    def log_metrics(self, metrics, step=None):
        self.found.append((step, metrics))


def test_statistics_are_logged_every_n_steps():
    log, spy = Log(), Spy()
    fitted(spy=spy, logger=log, log_every_n_steps=2, max_epochs=2, limit_val_batches=0)
    steps = [(step, metrics) for step, metrics in log.found if "excitation_dropout/net.drop/p" in metrics]
    assert [step for step, _ in steps] == [1, 3, 5]
    for step, metrics in steps:
        expected = spy.seen[step].statistics()
        for name in ("peak_p_eb", "dropped_units", "dropped_evidence", "lost_mass"):
            found = metrics[f"excitation_dropout/net.drop/{name}"]
            assert float(found) == pytest.approx(float(expected[name]), abs=1e-6)


def test_evidence_that_does_not_reach_the_layer_is_reported_once():
    class ZeroHead(Net):
        def __init__(self):
            super().__init__()
            nn.init.zeros_(self.fc3.weight)

    # Also without a logger, and before it is time to log.
    for log, settings in ((True, {"logger": Log(), "log_every_n_steps": 1}), (True, {}), (False, {})):
        with pytest.warns(UserWarning, match="100% of the evidence") as caught:
            fitted(Module(ZeroHead(), lr=0.0), ExcitationDropout("net.drop", log=log), **settings)
        assert len([w for w in caught if "of the evidence" in str(w.message)]) == 1


def test_a_batch_without_any_label_has_no_statistics():
    x, y = data(8)
    ignored = torch.full((4,), -1)

    class Loss(Module):
        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0]), batch[1].clamp(min=0))

    log = Log()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*of the evidence")
        loaders = [DataLoader([(x[:4], ignored), (x[4:], y[4:])], batch_size=None)]
        fitted(Loss(), loaders=loaders, logger=log, log_every_n_steps=1)
    first, second = (metrics for _, metrics in log.found if "excitation_dropout/net.drop/p" in metrics)
    assert "excitation_dropout/net.drop/lost_mass" not in first
    assert float(second["excitation_dropout/net.drop/lost_mass"]) < 0.9


def test_statistics_are_metrics_of_the_trainer_without_a_logger():
    run = trainer(callbacks=[ExcitationDropout("net.drop")], limit_val_batches=0)
    run.fit(Module())
    assert run.callback_metrics["excitation_dropout/net.drop/p"] == 0.5
    assert 0 < run.callback_metrics["excitation_dropout/net.drop/peak_p_eb"] <= 1


def test_logging_can_be_switched_off():
    log = Log()
    fitted(callback=ExcitationDropout("net.drop", log=False), logger=log, log_every_n_steps=1)
    assert not any("excitation_dropout" in name for _, metrics in log.found for name in metrics)


def test_a_layer_that_never_runs_is_reported_once():
    class Unused(Net):
        def __init__(self):
            super().__init__()
            self.unused = nn.Dropout(0.5)

    with pytest.warns(UserWarning, match="did not run with gradients") as caught:
        fitted(Module(Unused()), ExcitationDropout(["net.drop", "net.unused"]))
    assert len([w for w in caught if "did not run" in str(w.message)]) == 1


def test_a_layer_in_evaluation_mode_is_reported():
    module = Module()
    module.on_train_start = module.eval
    with pytest.warns(UserWarning, match="'net.drop' is in evaluation mode in the training step"):
        fitted(module)


# ------------------------------------------------------------------------------------------------ interplay


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_all_weights_are_trained_in_every_precision(precision):
    spy, module = Spy(), Module(Net(batch_norm=True))
    before = copy.deepcopy(module)
    fitted(module, spy=spy, precision=precision)
    for (name, now), was in zip(module.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(now.double(), was.double()), name
    assert spy.seen[-1].p_eb.dtype == (torch.float64 if precision == "64-true" else torch.float32)
    assert (spy.seen[-1].p_eb.sum(1) < 1.05).all()


def test_half_precision_with_a_gradient_scaler():
    class Scaled(pl.plugins.MixedPrecision):
        def __init__(self):
            super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**8))

    spy, module = Spy(), Module()
    before = copy.deepcopy(module)
    fitted(module, spy=spy, plugins=[Scaled()])
    assert all(not torch.equal(a, b) for a, b in zip(module.parameters(), before.parameters(), strict=True))
    assert torch.allclose(spy.seen[0].p_eb.sum(1), torch.ones(4), atol=0.02)


def test_activation_checkpointing_trains_as_without():
    class Checkpointed(Net):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    torch.manual_seed(0)
    plain = Module()
    module = Module(Checkpointed())
    module.load_state_dict(plain.state_dict())
    for each in (plain, module):
        fitted(each, callbacks=[SeedAtStart()])
    assert same_weights(plain, module)


@pytest.mark.parametrize("first", ["dropout first", "averaging first"])
@pytest.mark.parametrize(
    "averaging",
    [
        lambda: EMAWeightAveraging(decay=0.5),
        lambda: StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1),
    ],
    ids=["EMA", "SWA"],
)
def test_weight_averaging_copies_a_model_that_trains_with_dropout(averaging, first):
    spy, module = Spy(), Module(Net(batch_norm=True))
    callbacks = [ExcitationDropout("net.drop"), averaging(), spy]
    if first == "averaging first":
        callbacks[:2] = callbacks[1::-1]
    trainer(callbacks=callbacks, max_epochs=3).fit(module)
    assert all(seen is not None for seen in spy.seen)
    assert restored(module)
    assert not any(p.isnan().any() for p in module.parameters())


def test_two_callbacks_on_different_layers_coexist():
    class Two(Net):
        def __init__(self):
            super().__init__()
            self.drop2 = nn.Dropout(0.25)

        def above(self, h):
            return self.fc3(self.drop2(F.relu(self.fc2(h))))

    lower, upper = Spy("net.drop"), Spy("net.drop2")
    module = Module(Two())
    other = ExcitationDropout("net.drop2", inverse=True)
    fitted(module, callbacks=[other, upper], spy=lower)
    assert all(seen is not None for spy in (lower, upper) for seen in spy.seen)
    assert lower.rates == [0.5] * 3
    assert upper.rates == [0.25] * 3
    assert type(module.net.drop2) is nn.Dropout
    assert restored(module)
    assert other.state_key != ExcitationDropout("net.drop").state_key


def test_a_run_goes_on_from_its_checkpoint_with_and_without_the_callback(tmp_path):
    def run(callbacks, max_epochs, ckpt_path=None, module=None):
        torch.manual_seed(0)
        module = module or Module()
        save = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        settings = {"callbacks": [*callbacks, save], "max_epochs": max_epochs}
        trainer(tmp_path, enable_checkpointing=True, **settings).fit(module, ckpt_path=ckpt_path)
        return module

    plain_keys = set(Module().state_dict())
    spy = Spy()
    run([ExcitationDropout("net.drop", gamma=0.3), spy], 2)
    path = tmp_path / "epoch=0.ckpt"
    state = torch.load(path, weights_only=True)
    assert set(state["state_dict"]) == plain_keys
    resumed = Spy()
    run([ExcitationDropout("net.drop", gamma=0.3), resumed], 2, path)
    assert resumed.rates == pytest.approx(spy.rates[3:])
    module = run([], 2, path)
    assert type(module.net.drop) is nn.Dropout
    with pytest.warns(UserWarning, match="other settings than the checkpoint's gamma=0.3"):
        run([ExcitationDropout("net.drop", gamma=0.9)], 2, path)


@pytest.mark.parametrize(
    "settings",
    [{"target": "predicted"}, {"unit": "channel"}, {"max_scale": 5.0}, {"strict": False}],
    ids=lambda settings: next(iter(settings)),
)
def test_to_go_on_with_other_settings_is_reported(settings):
    state = ExcitationDropout("net.drop", **settings).state_dict()
    ((name, value),) = settings.items()
    with pytest.warns(UserWarning, match=f"than the checkpoint's {name}={value!r}"):
        ExcitationDropout("net.drop").load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ExcitationDropout("net.drop", **settings).load_state_dict(state)


@pytest.mark.parametrize("kind", [Module, Late, InSetup], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("finder", [LearningRateFinder, BatchSizeFinder], ids=lambda kind: kind.__name__)
def test_tuners_train_with_dropout_and_leave_it_in_place(finder, kind, tmp_path):
    armed, tuned, rates = [], [], []

    class Watch(kind):
        batch_size = 4

        def training_step(self, batch, batch_idx):
            armed.append((self.net.drop.is_armed, len(self.trainer.callbacks)))
            is_tuning = len(self.trainer.callbacks) < 2
            (tuned if is_tuning else rates).append((self.trainer.global_step, self.net.drop.p))
            return super().training_step(batch, batch_idx)

        def train_dataloader(self):
            return loader(batch_size=self.batch_size)

    settings = (
        {"num_training_steps": 4}
        if finder is LearningRateFinder
        else {"init_val": 4, "max_trials": 1, "steps_per_trial": 3}
    )
    module = Watch()
    run = trainer(
        tmp_path,
        max_epochs=2,
        callbacks=[ExcitationDropout("net.drop", gamma="auto"), finder(**settings)],
        enable_checkpointing=True,
    )
    run.fit(module)
    assert all(is_armed for is_armed, _ in armed)
    assert len({n for _, n in armed}) > 1  # the tuner trained without the Trainer's callbacks
    assert len(tuned) >= 3
    assert len(rates) == 6
    # Six steps are the run; the tuner's own limits are not.
    for step, rate in tuned + rates:
        assert rate == pytest.approx(curriculum_drop_rate(step, 0.5, 10 / 6))
    assert restored(module)


def test_fast_dev_run_and_the_sanity_check():
    for settings in ({"fast_dev_run": 2}, {"num_sanity_val_steps": 1}):
        spy = Spy()
        fitted(spy=spy, **settings)
        assert spy.seen[0] is not None


@pytest.mark.parametrize("kind", [Late, InSetup], ids=lambda kind: kind.__name__)
def test_layers_that_hooks_make_are_found(kind):
    spy, module = Spy(), kind()
    fitted(module, spy=spy)
    assert all(seen is not None for seen in spy.seen)
    assert restored(module)
    with pytest.raises(ValueError, match=r"no module named 'net.dorp'"):
        fitted(kind(), ExcitationDropout("net.dorp"))


def test_a_compiled_module_trains_through_a_head_and_warns_without_one():
    torch.compiler.reset()
    spy, module = Spy(), Module()
    callback = ExcitationDropout("net.drop", head=lambda module, h: module.net.above(h))
    compiled = torch.compile(module, backend="aot_eager", fullgraph=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*eagerly.*")
        trainer(callbacks=[callback, spy], limit_val_batches=0).fit(compiled)
    assert all(seen is not None for seen in spy.seen)
    spy, module = Spy(), Module()
    with pytest.warns(UserWarning, match="eagerly"):
        trainer(callbacks=[ExcitationDropout("net.drop"), spy], limit_val_batches=0).fit(
            torch.compile(module, backend="aot_eager")
        )
    assert all(seen is not None for seen in spy.seen)
    torch.compiler.reset()


class FSDPStrategy(pl.strategies.SingleDeviceStrategy):
    """Refused by its name; a real one needs a GPU."""


class DeepSpeedStrategy(pl.strategies.SingleDeviceStrategy):
    def __init__(self, stage):
        super().__init__(torch.device("cpu"))
        self.zero_stage_3 = stage == 3


@pytest.mark.parametrize(
    ("strategy", "is_refused"),
    [
        (lambda: FSDPStrategy(torch.device("cpu")), True),
        (lambda: DeepSpeedStrategy(3), True),
        (lambda: DeepSpeedStrategy(2), False),
    ],
    ids=["FSDP", "DeepSpeed 3", "DeepSpeed 2"],
)
def test_sharded_strategies_are_refused(strategy, is_refused):
    module = Module()
    run = pl.Trainer(
        strategy=strategy(), max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[ExcitationDropout("net.drop")],
    )  # fmt: skip
    if is_refused:
        with pytest.raises(MisconfigurationException, match="needs the whole model in one process"):
            run.fit(module)
    else:
        run.fit(module)
    assert restored(module)


def test_real_sharded_strategies_have_the_names_that_are_refused():
    from lightning_callbacks._lightning import _SHARDED

    assert {"FSDPStrategy", "ModelParallelStrategy"} <= _SHARDED
    assert pl.strategies.FSDPStrategy.__name__ in _SHARDED
    assert pl.strategies.ModelParallelStrategy.__name__ in _SHARDED
    assert isinstance(pl.strategies.DeepSpeedStrategy.zero_stage_3, property)


# ------------------------------------------------------------------------------------------- two processes


def _worker(rank, port, results):
    as_torchrun = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ |= {name: str(value) for name, value in as_torchrun.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = {}
    for name, settings, module in (
        ("default", {}, Module),
        ("static graph", {"static_graph": True}, InnerCall),
        ("unused", {"find_unused_parameters": True}, Manual),
        ("made in setup", {}, InSetup),
    ):
        torch.manual_seed(0)
        made, spy = module(), Spy()
        strategy = pl.strategies.DDPStrategy(process_group_backend="gloo", **settings)
        run = trainer(
            strategy=strategy, devices=2, max_epochs=2, callbacks=[ExcitationDropout("net.drop"), spy],
            limit_val_batches=0,
        )  # fmt: skip
        run.fit(made)
        found[name] = {
            "weights": {k: v.clone() for k, v in made.state_dict().items()},
            "p_eb": torch.cat([seen.p_eb for seen in spy.seen]),
            "restored": restored(made),
        }
    torch.save(found, Path(results) / f"{rank}.pt")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_two_processes_keep_the_same_weights_and_measure_their_own_examples(tmp_path):
    torch.multiprocessing.start_processes(
        _worker, (free_port(), str(tmp_path)), nprocs=2, start_method="spawn"
    )
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in ("default", "static graph", "unused", "made in setup"):
        a, b = first[name], second[name]
        assert a["restored"]
        assert all(torch.equal(a["weights"][key], b["weights"][key]) for key in a["weights"])
        assert a["p_eb"].shape == b["p_eb"].shape
        assert not torch.allclose(a["p_eb"], b["p_eb"])
        assert 0.5 < a["p_eb"].sum(1).mean() < 1 + 1e-5


# ------------------------------------------------------------------------------------------- two namespaces

NAMESPACES = """
import sys
sys.path.insert(0, {folder!r})
import lightning.pytorch as lp
import torch
from torch import nn


def check(*namespaces):
    for loaded in [name for name in sys.modules if name.startswith("lightning_callbacks")]:
        del sys.modules[loaded]
    from lightning_callbacks import AdaptiveDropout, CurriculumDropout, ExcitationDropout

    for namespace in namespaces:
        for kind in (AdaptiveDropout, CurriculumDropout, ExcitationDropout):
            assert issubclass(kind, namespace.Callback), (kind, namespace)

        class Module(namespace.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 4))

            def training_step(self, batch, batch_idx):
                x, y = batch
                loss = nn.functional.cross_entropy(self.net(x), y)
                assert self.net[2].last is not None
                return loss

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 0.1)

        data = torch.utils.data.DataLoader(list(zip(torch.rand(8, 5), torch.arange(8) % 4)), batch_size=4)
        trainer = namespace.Trainer(
            fast_dev_run=True, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
            callbacks=[ExcitationDropout("net.2")],
        )
        trainer.fit(Module(), data)


assert "pytorch_lightning" not in sys.modules
check(lp)
assert "pytorch_lightning" not in sys.modules
import pytorch_lightning as pl
check(lp, pl)
print("trained")
"""


def test_the_callbacks_belong_to_the_lightning_that_the_process_uses_or_to_both():
    pytest.importorskip("lightning", reason="the package lightning is not installed")
    code = NAMESPACES.format(folder=str(Path(__file__).parents[2]))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.stdout.strip().endswith("trained"), result.stderr[-2000:]


def test_the_callbacks_belong_to_both_if_they_are_imported_first():
    pytest.importorskip("lightning", reason="the package lightning is not installed")
    code = (
        "import lightning_callbacks as ours, lightning.pytorch as lp, pytorch_lightning as pl\n"
        "for name in ours.__all__:\n"
        "    assert issubclass(getattr(ours, name), lp.Callback), name\n"
        "    assert issubclass(getattr(ours, name), pl.Callback), name\n"
    )
    folder = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert result.returncode == 0, result.stderr[-2000:]


# ------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": 1.0}, "base drop rate"),
        ({"rescale": "sum"}, "rescale"),
        ({"target": "truth"}, "target must be"),
        ({"gamma": -1.0}, "gamma"),
        ({"gamma": "slow"}, "gamma"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"n": "all"}, "n must be"),
    ],
)
def test_settings_that_make_no_sense_are_an_error_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        ExcitationDropout("net.drop", **settings)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (nn.Dropout(), TypeError, "not as Dropout; pass its name"),
        (["net.drop", nn.Linear(2, 3)], TypeError, "not as Linear; pass its name"),
        (None, TypeError, "not as NoneType"),
        ([], ValueError, "no layer is named"),
    ],
)
@pytest.mark.parametrize("kind", [ExcitationDropout, CurriculumDropout], ids=lambda kind: kind.__name__)
def test_layers_without_names_are_an_error_at_once(kind, layers, error, message):
    with pytest.raises(error, match=message):
        kind(layers)


def test_a_name_that_does_not_exist_is_an_error_before_training():
    with pytest.raises(ValueError, match=r"'net.dorp'.*its dropout layers are 'net.drop'"):
        fitted(callback=ExcitationDropout("net.dorp"))


def test_a_target_fn_that_returns_no_tensor_is_an_error():
    with pytest.raises(TypeError, match="target_fn must return a tensor"):
        fitted(callback=ExcitationDropout("net.drop", target_fn=lambda batch: [1, 2]))
