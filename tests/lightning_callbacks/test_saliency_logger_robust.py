"""SaliencyLogger leaves the run as it was, whatever fails, and can be copied, saved and resumed."""

import copy
import pickle
import random
import warnings
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from captum.attr import LayerActivation, LayerGradCam, Saliency
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
)
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from saliency_toys import Broken, Spy, Toy, fit, inputs, loader, spy, trainer
from torchmetrics import CatMetric, MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from captum_ext.attr import ExcitationBackprop
from lightning_callbacks import SaliencyLogger, UtilizationMonitor
from lightning_callbacks._attribution import build
from lightning_callbacks._lightning import refuse_sharded_models
from lightning_callbacks._unchanged import unchanged


def ours(caught):
    return [str(w.message) for w in caught if str(w.message).startswith("SaliencyLogger")]


def pictures(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))


# Failures


class DeadTensorBoard(TensorBoardLogger):
    """A logger whose service is gone when pictures come."""

    class Experiment:
        def add_image(self, *_):
            raise ConnectionError("no route to host")

        def __getattr__(self, name):
            return lambda *_, **__: None

    experiment = property(lambda self: self.Experiment())


def test_a_logger_that_fails_is_warned_of_once_and_the_others_get_their_pictures(tmp_path):
    loggers = [DeadTensorBoard(tmp_path / "dead"), TensorBoardLogger(tmp_path / "alive")]
    callback = SaliencyLogger(Saliency, num_samples=2, strict=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, run = fit(tmp_path, callbacks=[callback], logger=loggers, max_epochs=3)
    assert run.global_step == 6
    (message,) = ours(caught)
    assert "DeadTensorBoard failed to take pictures" in message
    assert "ConnectionError: no route to host" in message
    assert list((tmp_path / "alive").rglob("events*"))


def test_a_full_disk_ends_no_run(tmp_path):
    (tmp_path / "saliency").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="(?s)PictureFolder failed to take pictures.*NotADirectoryError"):
        _, run = fit(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1)])
    assert run.global_step == 2


def test_an_attribution_that_fails_is_warned_of_once_with_its_reason(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, run = fit(tmp_path, callbacks=[SaliencyLogger(Broken, num_samples=3)], max_epochs=2)
    assert run.global_step == 4
    (message,) = ours(caught)
    assert "sample 0 could not be explained by Broken" in message
    assert "RuntimeError: no evidence to be had" in message
    assert "in attribute" in message  # the traceback
    assert not model.features[0]._forward_hooks
    assert pictures(tmp_path) == []


def test_one_sample_that_fails_does_not_cost_the_others(tmp_path):
    class Picky(Spy):
        def attribute(self, x, target=None):
            if torch.equal(x, inputs()[1:2]):
                raise ValueError("not this one")
            return super().attribute(x, target)

    with pytest.warns(UserWarning, match="sample 1 could not be explained"):
        fit(tmp_path, callbacks=[SaliencyLogger(lambda module: Picky(module, []), num_samples=3)])
    assert pictures(tmp_path) == ["saliency/0/step_0000002.png", "saliency/2/step_0000002.png"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_strict_raises_and_the_model_is_as_it_was(tmp_path, error):
    model = Toy()
    callback = SaliencyLogger(Broken, init_kwargs={"error": error}, num_samples=1, strict=True)
    with pytest.raises((error, SystemExit), match=None if error is KeyboardInterrupt else "no evidence"):
        fit(tmp_path, model, callbacks=[callback])
    assert not model.features[0]._forward_hooks
    assert callback._samples == {}  # nothing is held on to


def test_without_strict_an_interrupt_still_interrupts(tmp_path):
    callback = SaliencyLogger(Broken, init_kwargs={"error": KeyboardInterrupt}, num_samples=1)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, callbacks=[callback])


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"input_fn": lambda batch: batch[7]}, "(?s)input_fn found no inputs.*IndexError"),
        ({"input_fn": lambda batch: batch}, "(?s)input_fn found no inputs.*one tensor with a batch axis"),
        (
            {"target_fn": lambda batch: batch[1][:1]},
            "(?s)target_fn found no labels.*do not belong to 3 inputs",
        ),
        ({"target_fn": lambda batch: batch["y"]}, "(?s)target_fn found no labels.*TypeError"),
        ({"attribution": lambda module: module}, "(?s)could not be explained.*a method 'attribute'"),
        ({"target": 99}, "(?s)could not be explained.*class 99"),
        (
            {"attribution": "LayerGradCam", "init_kwargs": {"layer": "no"}},
            "(?s)LayerGradCam.*no attribute `no`",
        ),
        ({"mean": (1, 2), "std": (1, 2)}, "(?s)2 numbers, but the inputs 3 channels"),
        (
            {"mean": 100.0, "std": 50.0},
            r"mean \(100.0,\) and std \(50.0,\) do not fit the inputs, which lie in -",
        ),
        (
            {"attribution": "NoiseTunnel"},
            r"(?s)made of another.*lambda module: NoiseTunnel\(Saliency\(module",
        ),
        ({"attribution": lambda m: LayerActivation(m, m.head)}, "(?s)LayerActivation takes no target"),
        (
            {"attribution": "IntegratedGradients", "attribute_kwargs": {"return_convergence_delta": True}},
            "(?s)leave out options such as return_convergence_delta",
        ),
        (
            {"input_fn": lambda batch: batch[0].to(torch.uint8), "attribution": lambda m: Saliency(Bytes(m))},
            r"(?s)Saliency could not explain inputs of torch.uint8.*batch\[0\].float\(\)",
        ),
        ({"attribution": lambda m: ExcitationBackprop(Toy())}, None),
        ({"attribution": ExcitationBackprop(Toy())}, "(?s)explains a Toy that is no part of the module"),
    ],
)
def test_what_does_not_fit_is_a_warning_that_names_it(tmp_path, kwargs, words):
    arguments = {"attribution": Saliency, "num_samples": 1} | kwargs
    callback = SaliencyLogger(arguments.pop("attribution"), **arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, run = fit(tmp_path, callbacks=[callback])
    assert run.global_step == 2
    if words is None:  # a function may explain what it likes
        assert ours(caught) == []
    else:
        assert len(ours(caught)) == 1
        with pytest.warns(UserWarning, match=words):
            warnings.warn(ours(caught)[0], stacklevel=1)


class Bytes(torch.nn.Module):
    """Takes pictures as bytes."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x.float() / 255)


@pytest.mark.parametrize(
    ("kwargs", "settings", "words"),
    [
        ({}, {"limit_val_batches": 0}, "there were no validation batches"),
        ({"every_n_epochs": 5}, {}, r"every_n_epochs=5.*check_val_every_n_epoch=1\)"),
        (
            {"every_n_epochs": 4},
            {"max_epochs": 6, "check_val_every_n_epoch": 3},
            r"every_n_epochs=4.*check_val_every_n_epoch=3\)",
        ),
    ],
)
def test_a_run_that_shows_nothing_ends_with_a_warning_that_says_why(tmp_path, kwargs, settings, words):
    with pytest.warns(UserWarning, match=f"SaliencyLogger has logged nothing: .*{words}"):
        fit(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1, **kwargs)], **settings)
    assert pictures(tmp_path) == []


# The run is the same with and without


class Noisy(Spy):
    """Draws random numbers, trains parts, leaves hooks, adds to gradients."""

    def attribute(self, x, target=None):
        module = self.forward_func
        torch.rand(7)
        np.random.rand(7)  # noqa: NPY002
        random.random()
        module.train()
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        module.head[1].weight.requires_grad_(False)
        module.features.register_forward_hook(lambda *_: torch.zeros(1))
        module.features.register_full_backward_hook(lambda *_: None)
        return super().attribute(x, target)


@pytest.mark.parametrize("attribution", [Noisy, Broken, None], ids=["noisy", "broken", "real"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.filterwarnings("ignore:SaliencyLogger")
def test_training_takes_the_same_course_with_the_callback(tmp_path, attribution, accumulate):
    """Dropout draws from the random numbers, and gradients are kept over a validation in mid-epoch."""

    class Course(Callback):
        def __init__(self):
            self.numbers = []

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.numbers.append((random.random(), np.random.rand()))  # noqa: NPY002

    def course(*callbacks):
        random.seed(1)
        np.random.seed(2)  # noqa: NPY002
        torch.manual_seed(3)
        model, record = Toy(), Course()
        model.head[0].eval()
        model.head[0].p = 0.5
        model.features[1].weight.requires_grad_(False)
        every = {"val_check_interval": 1, "accumulate_grad_batches": accumulate, "max_epochs": 3}
        fit(tmp_path, model, callbacks=[record, *callbacks], **every)
        return [*model.state_dict().values()], record.numbers, [p.requires_grad for p in model.parameters()]

    if attribution is Noisy:
        attribution = lambda module: Noisy(module, [])  # noqa: E731
    plain, plain_numbers, plain_flags = course()
    watched, numbers, flags = course(SaliencyLogger(attribution or "ExcitationBackprop", num_samples=2))
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert (numbers, flags) == (plain_numbers, plain_flags)


def test_everything_is_given_back_by_name():
    model = Toy()
    model.features[1].eval()  # a frozen batch norm in a model in training
    model.head[1].weight.requires_grad_(False)
    model.features[0].weight.grad = grad = torch.rand_like(model.features[0].weight)
    hook = model.features.register_forward_hook(lambda *_: None)
    before = grad.clone()
    modes = [part.training for part in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    def harm():
        assert not any(part.training for part in model.modules())
        assert all(p.grad is None for p in model.parameters())
        model.train()(inputs())
        Noisy(model, []).attribute(inputs())
        hook.remove()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), unchanged(model):
        harm()
    assert [part.training for part in model.modules()] == modes
    assert model.features[0].weight.grad is grad
    assert torch.equal(grad, before)
    assert [p.grad is None for p in model.parameters()].count(False) == 1
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["head.1.weight"]
    assert list(model.features._forward_hooks) == [hook.id]
    assert not model.features._backward_hooks
    assert torch.equal(model.features[1].running_mean, torch.zeros(6))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002


class Counting(Toy):
    """Counts its passes in a buffer that it replaces and in a metric, and logs in forward."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))
        self.mean, self.seen = MeanMetric(), CatMetric()

    def forward(self, x):
        scores = super().forward(x)
        self.passes = self.passes + 1
        self.mean.update(scores.detach())
        self.seen.update(scores.detach())
        if self._trainer is not None and not self.training:
            self.log("confidence", scores.softmax(1).max())
            self.log_dict({"least": scores.softmax(1).min()})
        return scores


@pytest.mark.parametrize(
    "callback",
    [SaliencyLogger(Saliency, num_samples=3), UtilizationMonitor("features.2", target="predicted")],
)
def test_buffers_metrics_and_what_forward_logs_are_those_of_the_run(tmp_path, callback):
    def course(*callbacks):
        torch.manual_seed(0)
        model, run = fit(tmp_path, Counting(), callbacks=[*callbacks])
        logged = {name: run.callback_metrics[name] for name in ("confidence", "least")}
        return float(model.passes), model.mean.compute(), model.seen.compute().tolist(), logged

    assert course(callback) == course()


def test_metrics_can_be_updated_in_place_after_a_validation(tmp_path):
    class Confused(Toy):
        def __init__(self):
            super().__init__()
            self.states = MulticlassConfusionMatrix(2)

    model = Confused()
    run = trainer(tmp_path, callbacks=[UtilizationMonitor("features.2", target="predicted")])
    run.validate(model, loader(), verbose=False)
    model.states.update(torch.tensor([0, 1]), torch.tensor([1, 1]))
    assert model.states.compute().tolist() == [[0, 0], [1, 1]]


def test_a_log_of_its_own_is_given_back():
    module = Toy()
    module.log = own = lambda *_: None  # nothing that Lightning made
    with unchanged(module):
        module.log("a", 1)
    assert module.log is own


@pytest.mark.parametrize("whole", [True, False])
def test_layers_of_a_compiled_model_can_be_explained(tmp_path, whole):
    model = Toy()
    if not whole:
        model.features = torch.compile(model.features, backend="eager")
    running = trainer(
        tmp_path,
        callbacks=[
            SaliencyLogger(
                lambda m: LayerGradCam(m, m.get_submodule("features.2")), num_samples=1, strict=True
            ),
            UtilizationMonitor("features.2"),
        ],
    )
    running.validate(torch.compile(model, backend="eager") if whole else model, loader(), verbose=False)
    assert pictures(tmp_path) == ["saliency/0/step_0000000.png"]
    expected = trainer(tmp_path, callbacks=[UtilizationMonitor("features.2")])
    expected.validate(Toy(), loader(), verbose=False)
    for name, value in expected.callback_metrics.items():
        assert running.callback_metrics[name] == pytest.approx(value.item(), rel=1e-5)


def test_harm_is_harm_without_it():
    model = Toy().eval()
    Noisy(model, []).attribute(inputs())
    assert model.training
    assert len(model.features._forward_hooks) == 1


# State


def test_the_state_names_the_samples():
    assert SaliencyLogger(Saliency, num_samples=3).state_dict() == {"indices": [0, 1, 2]}
    assert SaliencyLogger(Saliency, indices=(4, 2)).state_dict() == {"indices": [4, 2]}


def test_a_resumed_run_goes_on_with_the_same_samples(tmp_path):
    first, second = [], []
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", save_last=True)
    settings = {"enable_checkpointing": True}
    fit(tmp_path, callbacks=[SaliencyLogger(spy(first), indices=[5, 2]), checkpoint], **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = trainer(tmp_path, max_epochs=2, callbacks=[SaliencyLogger(spy(second), indices=[5, 2])])
        run.fit(Toy(), loader(6, seed=9), loader(), ckpt_path=tmp_path / "checkpoints/last.ckpt")
    assert ours(caught) == []
    assert len(second) == 2
    assert all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(first, second, strict=True))
    assert pictures(tmp_path) == [f"saliency/{i}/step_{s:07d}.png" for i in (2, 5) for s in (2, 4)]


def test_a_checkpoint_of_other_samples_is_warned_of():
    with pytest.warns(UserWarning, match=r"samples \[0\] are logged from now on; .* made with \[5, 2\]"):
        SaliencyLogger(Saliency, num_samples=1).load_state_dict({"indices": [5, 2]})


def test_two_callbacks_live_side_by_side_by_their_keys(tmp_path):
    pair = [SaliencyLogger(Saliency, num_samples=1, key=key) for key in ("a", "b/c")]
    assert len({callback.state_key for callback in pair}) == 2
    fit(tmp_path, callbacks=pair)
    assert pictures(tmp_path) == ["a/0/step_0000002.png", "b/c/0/step_0000002.png"]


def test_two_callbacks_of_one_key_are_refused(tmp_path):
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `SaliencyLogger`"):
        trainer(tmp_path, callbacks=[SaliencyLogger(Saliency), SaliencyLogger(Saliency)])


def test_copies_and_pickles_work_like_the_original(tmp_path):
    original = SaliencyLogger("Saliency", num_samples=1, target="label")
    fit(tmp_path / "before", callbacks=[original])
    twins = {"copy": copy.deepcopy(original), "pickle": pickle.loads(pickle.dumps(original))}  # noqa: S301
    for name, twin in twins.items():
        fit(tmp_path / name, callbacks=[twin])
        assert pictures(tmp_path / name) == ["saliency/0/step_0000002.png"]


def test_the_callback_can_be_used_again(tmp_path):
    callback = SaliencyLogger(Saliency, num_samples=1)
    for name in ("first", "second"):
        fit(tmp_path / name, callbacks=[callback])
        assert pictures(tmp_path / name) == ["saliency/0/step_0000002.png"]


# Arguments


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"attribution": "VideoGradcam"}, "did you mean one of 'VideoGradCam'"),
        ({"attribution": 3}, "attribution must be"),
        ({"num_samples": 0}, "num_samples must be positive"),
        ({"indices": []}, "indices at least one"),
        ({"indices": [1, 1]}, "indices must be different integers"),
        ({"indices": [-1]}, "indices must be different integers"),
        ({"indices": [0.5]}, r"indices must be different integers from 0, not \[0.5\]"),
        ({"class_names": [0, 1]}, "class_names must be strings"),
        ({"class_names": {0: 1}}, "class_names must be strings"),
        ({"every_n_epochs": 0}, "every_n_epochs"),
        ({"target": "true"}, "target must be"),
        ({"attribution": lambda module: None, "init_kwargs": {"a": 1}}, "init_kwargs are for a class"),
        ({"mean": 0.5}, "mean and std go together"),
        ({"mean": (0.5, 0.5), "std": 1}, "mean and std go together"),
        ({"mean": 0.5, "std": 0}, "std positive"),
        ({"layout": "NHWC"}, "layout"),
        ({"negative": "blue"}, "negative"),
        ({"fps": 0}, "fps"),
        ({"key": ""}, "key"),
        ({"key": "../up"}, "key"),
        ({"key": "a//b"}, "key"),
        ({"key": "/a"}, "key"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(kwargs, words):
    arguments = {"attribution": Saliency} | kwargs
    with pytest.raises(MisconfigurationException, match=f"SaliencyLogger: .*{words}"):
        SaliencyLogger(arguments.pop("attribution"), **arguments)


def test_indices_may_be_of_numpy_and_class_names_a_mapping():
    callback = SaliencyLogger(Saliency, indices=np.array([4, 2]), class_names={2: "c", 0: "a"})
    assert callback.state_dict() == {"indices": [4, 2]}
    assert type(callback.indices[0]) is int  # as checkpoints are read without pickled code
    assert callback.class_names == ("a", "1", "c")


def test_annotations_can_be_read_as_lightnings_command_line_reads_them():
    hints = get_type_hints(SaliencyLogger.__init__)
    assert str in get_args(hints["attribution"])
    assert int in get_args(hints["target"])


@pytest.mark.parametrize(
    ("strategy", "config", "refused"),
    [
        (FSDPStrategy, None, True),
        (ModelParallelStrategy, None, True),
        (DeepSpeedStrategy, {"zero_optimization": {"stage": 3}}, True),
        (DeepSpeedStrategy, {"zero_optimization": {"stage": 2}}, False),
        (DDPStrategy, None, False),
    ],
)
def test_sharded_models_are_refused(tmp_path, strategy, config, refused):
    run = trainer(tmp_path)
    run._accelerator_connector.strategy = sharded = strategy.__new__(strategy)  # they need GPUs to be made
    if config:
        sharded.config = config
    if not refused:
        refuse_sharded_models(run, "SaliencyLogger")
        return
    with pytest.raises(
        MisconfigurationException, match=f"SaliencyLogger needs the whole model.*{strategy.__name__}"
    ):
        SaliencyLogger(Saliency).setup(run, Toy(), "fit")


def test_an_attribution_of_a_part_of_the_module_is_accepted_and_of_a_copy_refused():
    class Compiled(torch.nn.Module):  # as torch.compile makes them, which would take seconds
        def __init__(self, module):
            super().__init__()
            self._orig_mod = module

    model = Toy()
    for explained in (model, model.features, model.forward, Compiled(model), lambda x: model(x)):
        attribution = Saliency(explained)
        assert build(attribution, model, {}) is attribution
    for explained in (Toy(), Compiled(Toy()), copy.deepcopy(model).forward):
        with pytest.raises(ValueError, match="no part of the module being trained"):
            build(Saliency(explained), model, {})
