"""What UtilizationMonitor logs, in real runs of a Trainer."""

import io
import math
import warnings

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.tuner import Tuner
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader
from utilization_toys import (
    BATCH,
    N_UNITS,
    N_VAL,
    H,
    K,
    Toy,
    W,
    fit,
    inputs,
    labels,
    labels_of_the_first_process,
    loader,
    trainer,
)

from captum_ext.attr import LayerExcitationBackprop
from captum_ext.metrics.functional import (
    compression_curves,
    conservative_filters,
    histogram_entropy,
    neurons_ever_on,
    neurons_on,
    normalized_auc,
    peak_excitation,
    shannon_entropy,
)
from lightning_callbacks import UtilizationMonitor
from lightning_callbacks._layer_metrics import layer_metrics, update_layer_metrics
from lightning_callbacks._pictures import draw_curves

LEVELS = {"most": [k / 20 for k in range(20)], "least": [k / 20 for k in range(20)]}


def by_hand(model, x, target, num_bins=100):
    """Every metric of relu1, straight from the definitions."""
    model = model.eval()
    with torch.no_grad():
        h = model.relu1(model.fc1(model.features(x).flatten(1)))
    p = LayerExcitationBackprop(model, "relu1").attribute(x, target=target)
    values = {
        "neurons_on": neurons_on(h).mean(),
        "neurons_ever_on": neurons_ever_on(h).sum().double(),
        "dead_neurons": (~neurons_ever_on(h)).sum().double(),
        "peak_p_eb": peak_excitation(p).mean(),
        "entropy_activations_shannon": shannon_entropy(h).mean(),
        "entropy_activations_histogram": histogram_entropy(h, num_bins).mean(),
        "entropy_p_eb_shannon": shannon_entropy(p).mean(),
        "entropy_p_eb_histogram": histogram_entropy(p, num_bins).mean(),
    }
    for order, levels in LEVELS.items():
        curves = compression_curves(model.head, h, p, target, levels, order)
        values[f"compression_{order}"] = normalized_auc(curves.probability, levels).mean()
    return {name: value.item() for name, value in values.items()}


def logged(metrics, stage="val", layer="relu1", key="utilization"):
    start = f"{key}/{stage}/{layer}/"
    return {
        name.removeprefix(start): value.item() for name, value in metrics.items() if name.startswith(start)
    }


def close(found, expected):
    return found == {name: pytest.approx(value, rel=1e-5, abs=1e-6) for name, value in expected.items()}


def monitor(**kwargs):
    return UtilizationMonitor("relu1", **({"compression": ["most", "least"]} | kwargs))


# What is logged


def test_in_fit_it_logs_what_the_definitions_give(tmp_path):
    model, run = fit(tmp_path, [monitor()])
    assert close(logged(run.callback_metrics), by_hand(model, inputs(), labels()))


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_validate_and_test_log_the_same_twice(tmp_path, stage, inference_mode):
    model, seen = Toy(), monitor()
    run = trainer(tmp_path, callbacks=[seen], inference_mode=inference_mode)
    for _ in range(2):
        getattr(run, stage)(model, loader(), verbose=False)
        found = logged(run.callback_metrics, {"validate": "val"}.get(stage, stage))
        assert close(found, by_hand(model, inputs(), labels()))


def test_one_callback_goes_from_inference_to_fit_and_back(tmp_path):
    model, seen = Toy(), monitor()
    run = trainer(tmp_path, callbacks=[seen])
    run.validate(model, loader(), verbose=False)
    run.fit(model, loader(6, seed=9), loader())
    assert close(logged(run.callback_metrics), by_hand(model, inputs(), labels()))
    run.test(model, loader(), verbose=False)
    assert close(logged(run.callback_metrics, "test"), by_hand(model, inputs(), labels()))


def test_every_epoch_begins_anew(tmp_path):
    model, run = fit(tmp_path, [monitor()], max_epochs=3)
    assert close(logged(run.callback_metrics), by_hand(model, inputs(), labels()))


def test_only_the_first_batches_of_the_first_loader_count(tmp_path):
    model = Toy()
    run = trainer(tmp_path, callbacks=[monitor(max_batches=2)])
    run.validate(model, [loader(), loader(4, seed=5)], verbose=False)
    n = 2 * BATCH
    assert close(logged(run.callback_metrics), by_hand(model, inputs()[:n], labels()[:n]))


def test_the_predicted_class_can_be_asked_for(tmp_path):
    model = Toy()
    run = trainer(tmp_path, callbacks=[monitor(target="predicted")])
    # Predicted classes need no labels.
    run.validate(model, loader(), verbose=False)
    with torch.no_grad():
        predicted = model.eval()(inputs()).argmax(1)
    assert not torch.equal(predicted, labels())
    assert close(logged(run.callback_metrics), by_hand(model, inputs(), predicted))


def test_examples_to_ignore_are_left_out_and_soft_labels_count_by_their_largest(tmp_path):
    model, kept = Toy(), torch.arange(N_VAL) % 3 != 0

    def some(batch):
        chosen = kept[[int((inputs() == x).flatten(1).all(1).nonzero()) for x in batch[0]]]
        return torch.where(chosen, batch[1], -100)

    def soft(batch):
        return 0.9 * nn.functional.one_hot(batch[1], K) + 0.025

    for target_fn, expected in (
        (some, by_hand(model, inputs()[kept], labels()[kept])),
        (soft, by_hand(model, inputs(), labels())),
    ):
        run = trainer(tmp_path, callbacks=[monitor(target_fn=target_fn)])
        run.validate(model, loader(), verbose=False)
        assert close(logged(run.callback_metrics), expected)


def test_labels_in_a_column_are_classes(tmp_path):
    model = Toy()
    run = trainer(tmp_path, callbacks=[monitor(target_fn=lambda batch: batch[1][:, None])])
    run.validate(model, loader(), verbose=False)
    assert close(logged(run.callback_metrics), by_hand(model, inputs(), labels()))


@pytest.mark.parametrize("inference_mode", [True, False])
def test_a_step_that_normalises_in_place_changes_nothing(tmp_path, inference_mode):
    class InPlace(Toy):
        def validation_step(self, batch, batch_idx):
            self(batch[0].sub_(0.5).div_(0.25))
            batch[1].fill_(0)

    model = InPlace()
    run = trainer(tmp_path, callbacks=[monitor()], inference_mode=inference_mode)
    run.validate(model, loader(), verbose=False)
    assert close(logged(run.callback_metrics), by_hand(model, inputs(), labels()))


def test_a_model_that_normalises_in_place_is_looked_at_on_its_inputs(tmp_path):
    class InPlace(Toy):
        def forward(self, x):
            return super().forward(x.sub_(0.5).div_(0.25))

    model = InPlace()
    run = trainer(tmp_path, callbacks=[UtilizationMonitor(["features.2", "relu1"], compression=LEVELS)])
    run.validate(model, loader(), verbose=False)
    plain = Toy()
    plain.load_state_dict(model.state_dict())
    assert close(logged(run.callback_metrics), by_hand(plain, (inputs() - 0.5) / 0.25, labels()))


def test_channels_in_half_precision_do_not_overflow():
    h = torch.full((2, 5, 30, 30), 100.0, dtype=torch.float16)
    h[0, 1:] = 0
    metrics = layer_metrics(5, num_bins=100, compression=[])
    excitation = torch.full((2, 5), 0.2)
    update_layer_metrics(metrics, lambda x: x, h, excitation, torch.zeros(2, dtype=torch.int64))
    assert metrics["neurons_on"].compute() == 3
    assert metrics["entropy_activations_shannon"].compute() == pytest.approx(math.log(5) / 2)


def test_every_n_epochs_counts_epochs_of_fit_only(tmp_path):
    logger = CSVLogger(tmp_path)
    _, run = fit(tmp_path, [monitor(every_n_epochs=2)], logger=logger, max_epochs=5)
    rows = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("utilization/val/relu1/neurons_on")
    epoch = rows[0].split(",").index("epoch")
    epochs = [int(row.split(",")[epoch]) for row in rows[1:] if row.split(",")[column]]
    assert epochs == [1, 3]
    run.validate(Toy(), loader(), verbose=False)
    assert logged(run.callback_metrics)


def test_the_sanity_check_is_skipped(tmp_path):
    class Look(Callback):
        def on_sanity_check_end(self, trainer, pl_module):
            assert trainer.num_sanity_val_batches == [2]
            assert not logged(trainer.callback_metrics)
            assert "loss" in trainer.callback_metrics

    _, run = fit(tmp_path, [monitor(), Look()], num_sanity_val_steps=2)
    assert logged(run.callback_metrics)


def test_channels_are_units_of_convolutional_layers_if_asked_for(tmp_path):
    model = Toy()
    layers = ["features.2", "relu1"]
    run = trainer(tmp_path, callbacks=[UtilizationMonitor(layers, unit="channel", compression=["most"])])
    run.validate(model, loader(), verbose=False)
    with torch.no_grad():
        h = model.eval().features(inputs())
    p = LayerExcitationBackprop(model, "features.2").attribute(inputs(), target=labels()).sum((2, 3))

    def head(maps):
        return model.head(model.relu1(model.fc1(maps.flatten(1))))

    found = logged(run.callback_metrics, layer="features.2")
    assert found["neurons_on"] == (h > 0).any(3).any(2).sum(1).double().mean()
    assert found["peak_p_eb"] == pytest.approx(p.amax(1).mean().item(), rel=1e-5)
    assert found["entropy_activations_shannon"] == pytest.approx(shannon_entropy(h.sum((2, 3))).mean().item())
    curves = compression_curves(head, h, p, labels(), LEVELS["most"])
    area = normalized_auc(curves.probability, LEVELS["most"]).mean().item()
    assert found["compression_most"] == pytest.approx(area, rel=1e-5)
    expected = {k: v for k, v in by_hand(model, inputs(), labels()).items() if k != "compression_least"}
    assert close(logged(run.callback_metrics), expected)


def test_elements_are_units_otherwise(tmp_path):
    model = Toy()
    run = trainer(tmp_path, callbacks=[UtilizationMonitor("features.2")])
    run.validate(model, loader(), verbose=False)
    with torch.no_grad():
        on = (model.eval().features(inputs()) > 0).flatten(1)
    found = logged(run.callback_metrics, layer="features.2")
    assert found["neurons_on"] == on.sum(1).double().mean()
    assert found["neurons_ever_on"] + found["dead_neurons"] == 5 * (H - 2) * (W - 2)


def test_the_dropout_behind_the_relu_may_be_named_and_a_linear_layer_rectified(tmp_path):
    model = Toy()
    expected = by_hand(model, inputs(), labels())
    for layer, kwargs in (("drop", {}), ("fc1", {"rectify": True})):
        run = trainer(tmp_path, callbacks=[UtilizationMonitor(layer, compression=LEVELS, **kwargs)])
        run.validate(model, loader(), verbose=False)
        assert close(logged(run.callback_metrics, layer=layer), expected)


def test_curves_are_kept_and_metrics_can_be_plotted(tmp_path):
    seen = monitor()
    model, _ = fit(tmp_path, [seen])
    with torch.no_grad():
        h = model.eval().relu1(model.fc1(model.features(inputs()).flatten(1)))
    p = LayerExcitationBackprop(model, "relu1").attribute(inputs(), target=labels())
    for order, levels in LEVELS.items():
        curves = compression_curves(model.head, h, p, labels(), levels, order)
        found = seen.curves["relu1"][order]
        assert torch.allclose(found.probability, curves.probability.mean(0), rtol=1e-5)
        assert torch.allclose(found.accuracy, curves.correct.double().mean(0))
    expected = by_hand(model, inputs(), labels())
    assert close({name: metric.compute().item() for name, metric in seen.metrics["relu1"].items()}, expected)
    figure, axes = seen.metrics["relu1"]["compression_most"].plot()
    assert axes.lines[0].get_ydata() == pytest.approx(seen.curves["relu1"]["most"].probability.tolist())
    pyplot.close(figure)


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_a_logger_that_takes_pictures_gets_the_curves(tmp_path, stage):
    logger, seen = TensorBoardLogger(tmp_path / "board"), monitor(compression=["most", "random"])
    run = trainer(tmp_path, callbacks=[seen], logger=[CSVLogger(tmp_path), logger])
    if stage == "fit":
        run.fit(Toy(), loader(6, seed=9), loader())
    else:
        run.test(Toy(), loader(), verbose=False)
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    key = f"utilization/{'test' if stage == 'test' else 'val'}/relu1/compression"
    assert events.Tags()["images"] == [key]
    (event,) = events.Images(key)
    assert event.step == run.global_step
    picture = torch.from_numpy(np.array(Image.open(io.BytesIO(event.encoded_image_string)))).movedim(-1, 0)
    assert torch.equal(picture, draw_curves(seen.curves["relu1"]))
    assert picture.shape == (3, 300, 800)
    assert picture.lt(128).any()


def test_a_logger_that_fails_ends_no_run(tmp_path):
    class Dead(TensorBoardLogger):
        class Experiment:
            def __getattr__(self, name):
                def fail(*_, **__):
                    if name == "add_image":
                        raise ConnectionError("no route to host")

                return fail

        experiment = property(lambda self: self.Experiment())

    with pytest.warns(UserWarning, match="(?s)UtilizationMonitor: Dead failed to take pictures.*no route"):
        _, run = fit(tmp_path, [monitor()], logger=Dead(tmp_path), max_epochs=2)
    assert run.current_epoch == 2


class Normed(Toy):
    """A hidden layer with batch norm between it and its functional ReLU, or with another activation."""

    def __init__(self, activation=nn.functional.relu):
        super().__init__()
        self.norm, self.activation = nn.BatchNorm1d(N_UNITS), activation
        # The scores would be the same without the negative values of the linear layer.
        nn.init.constant_(self.norm.bias, -0.5)
        nn.init.constant_(self.norm.running_mean, 0.2)

    def forward(self, x):
        return self.classifier(self.activation(self.norm(self.fc1(self.features(x).flatten(1)))))


@pytest.mark.parametrize(
    ("layer", "activation"),
    [
        ("fc1", nn.functional.relu),
        ("norm", nn.functional.gelu),
        ("norm", nn.functional.leaky_relu),
        ("norm", lambda z: z.clamp(min=-0.1)),
    ],
)
def test_a_layer_with_no_relu_right_behind_it_cannot_be_rectified(tmp_path, layer, activation):
    run = trainer(tmp_path, callbacks=[UtilizationMonitor(layer, rectify=True)])
    with pytest.raises(ValueError, match=f"layer '{layer}'.*something else reads its output"):
        run.validate(Normed(activation), loader(), verbose=False)


def test_a_layer_that_a_sum_reads_as_well_cannot_be_rectified(tmp_path):
    class Residual(Toy):
        def forward(self, x):
            hidden = self.fc1(self.features(x).flatten(1))
            return self.classifier(hidden.relu() + self.fc2(hidden).relu())

    run = trainer(tmp_path, callbacks=[UtilizationMonitor("fc1", rectify=True)])
    with pytest.raises(ValueError, match=r"layer 'fc1'.*something else reads"):
        run.validate(Residual(), loader(), verbose=False)


def test_shapes_and_maxima_before_the_relu_are_no_obstacle(tmp_path):
    class Pooled(Toy):
        def forward(self, x):
            maps = nn.functional.max_pool2d(self.features[0](x), 2).flatten(1)
            return self.last(nn.functional.dropout(maps, 0.5, self.training).relu())

        def __init__(self):
            super().__init__()
            self.last = nn.Linear(5 * 2 * 2, K)

    model = Pooled()
    run = trainer(tmp_path, callbacks=[UtilizationMonitor("features.0", rectify=True)])
    run.validate(model, loader(), verbose=False)
    on = (model.eval().features[0](inputs()) > 0).flatten(1).sum(1).double().mean()
    assert logged(run.callback_metrics, layer="features.0")["neurons_on"] == on


def _in_parts(z):
    first, *others = z.chunk(3, dim=1)
    return nn.functional.relu(torch.cat([first, *others], dim=1))


@pytest.mark.parametrize(
    "activation",
    [nn.functional.relu, nn.functional.relu6, lambda z: z.clamp(min=0), lambda z: z.clamp(0, 7), _in_parts],
    ids=["relu", "relu6", "clamp", "clamp to 7", "in parts"],
)
def test_a_normalisation_with_a_relu_right_behind_it_can(tmp_path, activation):
    model = Normed(activation)
    run = trainer(tmp_path, callbacks=[UtilizationMonitor("norm", rectify=True)])
    run.validate(model, loader(), verbose=False)
    with torch.no_grad():
        h = model.eval().norm(model.fc1(model.features(inputs()).flatten(1))).relu()
    assert logged(run.callback_metrics, layer="norm")["neurons_on"] == neurons_on(h).mean().item()


# Conservative filters


def test_filters_are_compared_with_the_start_of_fit(tmp_path):
    model = Toy()
    before = model.fc1.weight.detach().clone()
    seen = monitor(filters=["fc1", "classifier"], threshold=0.07)
    _, run = fit(tmp_path, [seen], model, max_epochs=2)
    expected = conservative_filters(model.fc1.weight, before, 0.07).sum().item()
    assert 0 < expected < N_UNITS
    assert logged(run.callback_metrics, layer="fc1") == {"conservative_filters": expected}
    assert torch.equal(seen.state_dict()["reference"]["fc1"], before)
    # Filters that no example of three batches switched on have not moved at all.
    model = Toy()
    _, run = fit(tmp_path, [monitor(filters="fc1", threshold=0.05, relative=True)], model)
    expected = conservative_filters(model.fc1.weight, before, 0.05, relative=True).sum().item()
    assert 0 < expected < N_UNITS
    assert logged(run.callback_metrics, layer="fc1") == {"conservative_filters": expected}


def test_a_resumed_run_compares_with_the_start_of_the_first(tmp_path):
    settings = {"filters": "fc1", "threshold": 0.07}
    whole_model, whole = fit(tmp_path, [monitor(**settings)], max_epochs=3)
    _, run = fit(tmp_path, [monitor(**settings)], max_epochs=1)
    run.save_checkpoint(tmp_path / "first.ckpt")
    model = Toy()
    resumed = trainer(tmp_path, callbacks=[monitor(**settings)], max_epochs=3)
    resumed.fit(model, loader(6, seed=9), loader(), ckpt_path=tmp_path / "first.ckpt")
    start = Toy().fc1.weight
    assert logged(resumed.callback_metrics, layer="fc1") == {
        "conservative_filters": conservative_filters(model.fc1.weight, start, 0.07).sum().item()
    }
    assert model.fc1.weight.shape == whole_model.fc1.weight.shape
    assert logged(whole.callback_metrics, layer="fc1").keys() == {"conservative_filters"}


def test_a_run_after_the_validation_of_a_checkpoint_compares_with_its_own_start(tmp_path):
    _, first = fit(tmp_path, [monitor(filters="fc1")])
    first.save_checkpoint(tmp_path / "first.ckpt")
    model, seen = Toy(lr=0.5), monitor(filters="fc1")
    run = trainer(tmp_path, callbacks=[seen])
    run.validate(model, loader(), ckpt_path=tmp_path / "first.ckpt", verbose=False)
    start = model.fc1.weight.detach().clone()
    run.fit(model, loader(6, seed=9), loader())
    assert torch.equal(seen.state_dict()["reference"]["fc1"], start)
    assert not torch.equal(start, Toy().fc1.weight)


def test_a_checkpoint_made_with_other_filters_is_warned_of(tmp_path):
    _, run = fit(tmp_path, [monitor(filters="fc1")])
    run.save_checkpoint(tmp_path / "first.ckpt")
    resumed = trainer(tmp_path, callbacks=[monitor(filters=["fc1", "fc2"])], max_epochs=2)
    with pytest.warns(UserWarning, match="no weights of fc2 from the start of the run"):
        resumed.fit(Toy(), loader(6, seed=9), loader(), ckpt_path=tmp_path / "first.ckpt")
    assert "conservative_filters" in logged(resumed.callback_metrics, layer="fc2")


def test_weights_of_filters_that_are_no_longer_asked_for_are_dropped(tmp_path):
    old, new = monitor(filters=["fc1", "fc2"]), monitor(filters="fc2")
    fit(tmp_path, [old])
    new.load_state_dict(old.state_dict())
    run = trainer(tmp_path, callbacks=[new])
    run.validate(Toy(), loader(), verbose=False)
    assert logged(run.callback_metrics, layer="fc2") == {"conservative_filters": N_UNITS}
    assert logged(run.callback_metrics, layer="fc1") == {}


def test_without_fit_there_is_nothing_to_compare_with(tmp_path):
    run = trainer(tmp_path, callbacks=[monitor(filters="fc1")])
    run.validate(Toy(), loader(), verbose=False)
    assert logged(run.callback_metrics, layer="fc1") == {}
    assert logged(run.callback_metrics)


# Around it


def test_averaged_weights_are_the_ones_that_are_looked_at(tmp_path):
    class Keep(Callback):
        def on_validation_batch_end(self, trainer, pl_module, *args):
            self.weights = {name: value.clone() for name, value in pl_module.state_dict().items()}

    keep, seen = Keep(), monitor(filters="fc1", threshold=0.05)
    _, run = fit(tmp_path, [seen, EMAWeightAveraging(decay=0.7), keep], max_epochs=2)
    averaged = Toy()
    averaged.load_state_dict(keep.weights)
    assert close(logged(run.callback_metrics), by_hand(averaged, inputs(), labels()))
    found = logged(run.callback_metrics, layer="fc1")["conservative_filters"]
    assert found == conservative_filters(averaged.fc1.weight, Toy().fc1.weight, 0.05).sum()


def test_the_module_and_its_training_are_the_same_with_and_without_it(tmp_path):
    with_it, _ = fit(tmp_path, [monitor(filters="fc1")], max_epochs=2)
    without, _ = fit(tmp_path, [], max_epochs=2)
    for name, value in without.state_dict().items():
        assert torch.equal(with_it.state_dict()[name], value), name
    assert list(dict(with_it.named_modules())) == list(dict(without.named_modules()))
    for module in with_it.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_an_error_of_the_network_leaves_no_hook_behind(tmp_path):
    model, seen = Toy(), monitor()

    def failing(module, args):
        raise RuntimeError("out of order")

    class Break(Callback):
        def on_validation_batch_start(self, trainer, pl_module, *args):
            self.handle = pl_module.classifier.register_forward_pre_hook(failing)

    model.validation_step = lambda batch, batch_idx: None  # the monitor's passes are the first
    broken = Break()
    with pytest.raises(RuntimeError, match="out of order"):
        trainer(tmp_path, callbacks=[broken, seen]).validate(model, loader(), verbose=False)
    broken.handle.remove()
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_it_works_with_the_trainers_precision(tmp_path, precision):
    _, run = fit(tmp_path, [monitor(compression=["most"])], precision=precision)
    found = logged(run.callback_metrics)
    assert 0 < found["neurons_on"] < N_UNITS
    assert 1 / N_UNITS < found["peak_p_eb"] <= 1
    assert 0 < found["compression_most"] < 1


def test_a_part_of_the_module_and_a_dictionary_of_results_can_be_looked_at(tmp_path):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.toy = Toy()

        def forward(self, x):
            return {"logits": self.toy(x)}

    class Outer(Toy):
        def __init__(self):
            super().__init__()
            self.net = Inner()

        def forward(self, x):
            raise NotImplementedError("no forward")

        def validation_step(self, batch, batch_idx):
            self.net(batch[0])

    model = Outer()
    seen = UtilizationMonitor(
        "net.toy.relu1", model="net", output_fn=lambda output: output["logits"], compression=LEVELS
    )
    run = trainer(tmp_path, callbacks=[seen])
    run.validate(model, loader(), verbose=False)
    found = logged(run.callback_metrics, layer="net.toy.relu1")
    assert close(found, by_hand(model.net.toy, inputs(), labels()))
    with pytest.raises(MisconfigurationException, match=r"cannot be called .* with model="):
        trainer(tmp_path, callbacks=[UtilizationMonitor("net.toy.relu1")]).validate(model, loader())


def test_two_of_them_coexist_by_their_keys(tmp_path):
    first, second = (
        UtilizationMonitor("relu1"),
        UtilizationMonitor("relu1", key="predicted", target="predicted"),
    )
    _, run = fit(tmp_path, [first, second])
    assert logged(run.callback_metrics)
    assert "predicted/val/relu1/peak_p_eb" in run.callback_metrics
    run.save_checkpoint(tmp_path / "both.ckpt")


# Processes


def test_two_processes_log_what_one_does_even_if_one_saw_no_examples(tmp_path):
    settings = {"compression": ["most", "least"], "filters": "fc1", "threshold": 10.0}
    both = UtilizationMonitor("relu1", **settings)
    one = UtilizationMonitor("relu1", **settings, key="one", target_fn=labels_of_the_first_process)
    model = Toy(lr=0.0)
    run = trainer(tmp_path, callbacks=[both, one], strategy="ddp_spawn", devices=2)
    run.fit(model, loader(6, seed=9), loader())
    # The sampler deals every other example to the second process.
    for key, chosen in (("utilization", torch.arange(N_VAL)), ("one", torch.arange(0, N_VAL, 2))):
        found = logged(run.callback_metrics, key=key)
        assert close(found, by_hand(model, inputs()[chosen], labels()[chosen]))
        assert logged(run.callback_metrics, layer="fc1", key=key) == {"conservative_filters": N_UNITS}


# What is refused


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layers": []}, "layers must be different names, at least one"),
        ({"layers": ["relu1", "relu1"]}, "layers must be different"),
        ({"every_n_epochs": 0}, "every_n_epochs"),
        ({"max_batches": 0}, "max_batches"),
        ({"target": "class"}, "target must be"),
        ({"unit": "map"}, "unit must be"),
        ({"num_bins": 1}, "num_bins"),
        ({"compression": ["best"]}, "compression takes"),
        ({"threshold": 0}, "threshold"),
        ({"key": ""}, "key"),
    ],
)
def test_bad_arguments_are_refused_at_once(kwargs, message):
    with pytest.raises(MisconfigurationException, match=message):
        UtilizationMonitor(**({"layers": "relu1"} | kwargs))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"layers": "relu7"}, MisconfigurationException, "Toy has no layer named 'relu7'; it has features, "),
        ({"layers": "fc1"}, ValueError, "at least 0, got -.*behind the ReLU"),
        ({"layers": "relu1", "model": "net"}, MisconfigurationException, "no model named 'net'"),
        ({"layers": "relu1", "filters": "relu1"}, MisconfigurationException, "'relu1' has no weight"),
        ({"layers": "relu1", "output_fn": lambda x: {}}, ValueError, r"scores \(N, K\), got dict"),
        (
            {"layers": "relu1", "target_fn": lambda b: b[1][:1]},
            ValueError,
            r"\(1,\) do not belong to 2 inputs",
        ),
    ],
)
def test_what_does_not_fit_the_module_is_named(tmp_path, kwargs, error, message):
    with pytest.raises(error, match=message):
        fit(tmp_path, [UtilizationMonitor(**kwargs)])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"layers": "fc1"}, "at least 0"),
        ({"layers": "relu1", "target_fn": lambda batch: batch[7]}, "index out of range"),
        ({"layers": "relu1", "output_fn": lambda x: {}}, "got dict"),
    ],
)
def test_what_does_not_fit_is_found_before_the_first_epoch_of_training(tmp_path, kwargs, message):
    class Untrained(Toy):
        def training_step(self, batch, batch_idx):
            raise AssertionError("training has begun")

    with pytest.raises((ValueError, IndexError), match=message):
        fit(tmp_path, [UtilizationMonitor(**kwargs)], Untrained())


@pytest.mark.parametrize(
    ("kwargs", "settings", "words"),
    [
        ({"target_fn": lambda batch: torch.full_like(batch[1], -100)}, {}, "gave no example that counts"),
        ({}, {"limit_val_batches": 0}, "there were no validation batches"),
        ({"every_n_epochs": 3}, {}, "every_n_epochs=3"),
    ],
)
def test_a_run_that_logs_nothing_ends_with_a_warning_that_says_why(tmp_path, kwargs, settings, words):
    with pytest.warns(UserWarning, match=f"UtilizationMonitor has logged nothing: .*{words}"):
        fit(tmp_path, [monitor(**kwargs)], **settings)


def test_a_tuner_that_ends_before_an_epoch_does_is_no_reason_to_warn(tmp_path):
    run = trainer(tmp_path, callbacks=[monitor()], max_epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Tuner(run).lr_find(Toy(), loader(), loader(), num_training=2, attr_name="lr")
    assert [str(w.message) for w in caught if "has logged nothing" in str(w.message)] == []


def test_a_run_that_logs_ends_without_a_warning(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, run = fit(tmp_path, [monitor(every_n_epochs=2)], max_epochs=2)
        run.test(Toy(), loader(), verbose=False)
    assert [str(w.message) for w in caught if "UtilizationMonitor" in str(w.message)] == []


def test_a_layer_that_runs_twice_is_refused(tmp_path):
    class Twice(Toy):
        def forward(self, x):
            return self.classifier(self.relu1(self.fc2(self.relu1(self.fc1(self.features(x).flatten(1))))))

    run = trainer(tmp_path, callbacks=[monitor()])
    with pytest.raises(ValueError, match="'relu1' runs 2 times"):
        run.validate(Twice(), loader(), verbose=False)


def test_labels_are_looked_for_in_the_common_shapes(tmp_path):
    class Dictionaries(Toy):
        def validation_step(self, batch, batch_idx):
            self(batch["image"])

    def collate(items):
        return {
            "image": torch.stack([x for x, _ in items]),
            "label": torch.stack([y for _, y in items]),
        }

    model = Dictionaries()
    batches = DataLoader(loader().dataset, batch_size=3, collate_fn=collate)
    run = trainer(tmp_path, callbacks=[monitor()])
    run.validate(model, batches, verbose=False)
    assert close(logged(run.callback_metrics), by_hand(model, inputs(), labels()))
