"""What SaliencyLogger shows, in real runs of a Trainer."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Saliency
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from saliency_toys import (
    BATCH,
    N_VAL,
    H,
    K,
    Spy,
    T,
    Toy,
    W,
    fit,
    inputs,
    labels,
    loader,
    saliency_by_hand,
    spy,
    trainer,
    visible_by_hand,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from captum_ext.attr import ExcitationBackprop, VideoGradCam
from captum_ext.visualization import overlay, timeline_strip
from lightning_callbacks import SaliencyLogger
from lightning_callbacks._pictures import LINE, MARGIN, draw


def tensorboard_pictures(folder):
    """Tag to a list of (step, encoded picture), as TensorBoard reads them."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {
        tag: [(event.step, event.encoded_image_string) for event in events.Images(tag)]
        for tag in events.Tags()["images"]
    }


def pixels(encoded):
    file = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).movedim(-1, 0)


def image_by_hand(model, x):
    """The part of an image's picture below the title: image and overlay, enlarged by the whole factor 20."""
    frame = torch.from_numpy(np.kron(visible_by_hand(x).numpy(), np.ones((1, 20, 20), dtype=np.uint8)))
    painted = overlay(frame[None], saliency_by_hand(model, x[None]))[0]
    return torch.cat([frame, torch.full((3, H * 20, MARGIN), 255, dtype=torch.uint8), painted], dim=2)


def below_title(picture, lines=2):
    top = MARGIN + LINE * lines
    return picture[:, top:-MARGIN, MARGIN:-MARGIN]


def files(root):
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file())


# The pictures


def test_tensorboard_gets_the_image_and_its_overlay_of_the_first_samples(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    model, run = fit(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=4)], logger=logger)
    found = tensorboard_pictures(logger.log_dir)
    assert list(found) == [f"saliency/{i}" for i in range(4)]
    for i in range(4):
        ((step, encoded),) = found[f"saliency/{i}"]
        assert step == run.global_step == 2
        want = image_by_hand(model, inputs()[i])
        difference = below_title(pixels(encoded)).int() - want.int()
        assert difference.abs().max() <= 1  # the maps differ by rounding
    # Negative control: samples and overlays are not alike.
    others = [below_title(pixels(found[f"saliency/{i}"][0][1])) for i in range(2)]
    assert (others[0] != others[1]).float().mean() > 0.5


def test_tensorboard_gets_the_strip_and_the_animation_of_a_clip(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    callback = SaliencyLogger(Saliency, indices=[4], class_names=["a", "b", "c", "d"], fps=10)
    model, _ = fit(tmp_path, Toy(clips=True), callbacks=[callback], logger=logger)
    found = tensorboard_pictures(logger.log_dir)
    assert list(found) == ["saliency/4", "saliency/4/animation"]
    x = inputs(clips=True)[4]
    maps = saliency_by_hand(model, x[None])[0]
    frames = visible_by_hand(x).transpose(0, 1)
    p, best = model(x[None]).softmax(1)[0].max(0)
    title = f"true: a; predicted: {'abcd'[best]}, p = {p:.2f}"
    strip = timeline_strip(frames, maps, maps.sum((1, 2)))
    ((_, encoded),) = found["saliency/4"]
    want = torch.from_numpy(np.array(strip)).movedim(-1, 0)
    shown = pixels(encoded)
    assert (shown[:, MARGIN + 2 * LINE :] != want).float().mean() < 0.01  # rounding moves the curve a little
    assert torch.equal(shown, draw(frames, maps, title, is_clip=True).still)
    ((_, encoded),) = found["saliency/4/animation"]
    animation = Image.open(io.BytesIO(encoded))
    assert (animation.format, animation.n_frames, animation.info["duration"]) == ("GIF", T, 100)
    large = frames.repeat_interleave(10, 2).repeat_interleave(10, 3)
    for t, painted in enumerate(overlay(large, maps)):
        animation.seek(t)
        shown = torch.from_numpy(np.array(animation.convert("RGB"))).movedim(-1, 0)
        assert (shown.float() - painted.float()).abs().mean() < 6  # a GIF has 256 colours


def test_without_a_logger_the_pictures_are_files(tmp_path):
    callback = SaliencyLogger(Saliency, num_samples=2)
    model, _ = fit(tmp_path, callbacks=[callback], max_epochs=2)
    assert files(tmp_path) == [f"saliency/{i}/step_{step:07d}.png" for i in range(2) for step in (2, 4)]
    picture = tmp_path / "saliency" / "1" / "step_0000004.png"
    assert (below_title(pixels(picture)).int() - image_by_hand(model, inputs()[1]).int()).abs().max() <= 1
    p, best = model(inputs()[1:2]).softmax(1)[0].max(0)
    assert Image.open(picture).text["Description"] == f"true: 1; predicted: {best}, p = {p:.2f}"


def test_a_clips_animation_is_a_file_too(tmp_path):
    fit(tmp_path, Toy(clips=True), callbacks=[SaliencyLogger(Saliency, num_samples=1)])
    assert files(tmp_path) == ["saliency/0/animation/step_0000002.webp", "saliency/0/step_0000002.png"]
    assert Image.open(tmp_path / "saliency/0/animation/step_0000002.webp").n_frames == T


def test_files_lie_in_the_folder_of_a_csv_logger(tmp_path):
    logger = CSVLogger(tmp_path)
    fit(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1, key="maps/ours")], logger=logger)
    assert Path(logger.log_dir, "maps/ours/0/step_0000002.png").is_file()


def test_every_logger_gets_the_pictures(tmp_path):
    loggers = [TensorBoardLogger(tmp_path), CSVLogger(tmp_path)]
    fit(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1)], logger=loggers)
    assert list(tensorboard_pictures(loggers[0].log_dir)) == ["saliency/0"]
    assert len([name for name in files(tmp_path) if name.endswith(".png")]) == 1


class Named(Logger):
    """A logger that takes no pictures, with a folder of its own."""

    name, version = "named", 0

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    @property
    def save_dir(self):
        return str(self.folder)

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, *_, **__):
        pass


def test_files_lie_in_the_folder_of_the_logger_that_takes_no_pictures(tmp_path):
    loggers = [TensorBoardLogger(tmp_path / "board"), Named(tmp_path / "a"), CSVLogger(tmp_path / "csv")]
    fit(tmp_path / "root", callbacks=[SaliencyLogger(Saliency, num_samples=1)], logger=loggers)
    found = [name for name in files(tmp_path) if name.endswith(".png")]
    picture = "saliency/0/step_0000002.png"
    assert found == [f"a/{picture}", f"csv/lightning_logs/version_0/{picture}"]


@pytest.mark.parametrize("with_logger", [True, False])
def test_fast_dev_run_explains_and_writes_nothing(tmp_path, with_logger):
    calls = []
    callback = SaliencyLogger(spy(calls), num_samples=2)
    logger = TensorBoardLogger(tmp_path) if with_logger else False
    fit(tmp_path, callbacks=[callback], logger=logger, fast_dev_run=True)
    assert len(calls) == 2
    assert files(tmp_path) == []


@pytest.mark.parametrize("with_std", [True, False])
def test_the_normalisation_is_undone(tmp_path, with_std):
    mean, std = (0.1, 0.2, 0.3), (0.3, 0.5, 0.4)
    kwargs = {"mean": mean, "std": std} if with_std else {}
    fit(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1, **kwargs)])
    shown = below_title(pixels(tmp_path / "saliency/0/step_0000002.png"))[:, ::20, : W * 20 : 20]
    x = inputs()[0]
    if with_std:
        want = torch.stack([x[c] * std[c] + mean[c] for c in range(3)]).clamp(0, 1) * 255
        assert torch.equal(shown, want.round().to(torch.uint8))
    else:
        assert torch.equal(shown, visible_by_hand(x))


# When and where


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize(
    "attribution",
    [Saliency, ExcitationBackprop, lambda module: LayerGradCam(module, module.features)],
    ids=["Saliency", "ExcitationBackprop", "LayerGradCam"],
)
def test_it_works_in_every_stage(tmp_path, stage, inference_mode, attribution):
    callback = SaliencyLogger(attribution, num_samples=2, strict=True)
    model = Toy()
    running = trainer(tmp_path, callbacks=[callback], inference_mode=inference_mode)
    if stage == "fit":
        running.fit(model, loader(6), loader())
    else:
        getattr(running, stage)(model, loader(), verbose=False)
    steps = 2 if stage == "fit" else 0
    key = "saliency/test" if stage == "test" else "saliency"
    assert files(tmp_path) == [f"{key}/{i}/step_{steps:07d}.png" for i in range(2)]
    if attribution is Saliency:
        shown = below_title(pixels(tmp_path / files(tmp_path)[1]))
        assert (shown.int() - image_by_hand(model, inputs()[1]).int()).abs().max() <= 1


def test_the_sanity_check_is_skipped(tmp_path):
    calls = []
    fit(tmp_path, callbacks=[SaliencyLogger(spy(calls), num_samples=2)], num_sanity_val_steps=2, max_epochs=3)
    assert len(calls) == 3 * 2


def test_it_logs_after_every_nth_epoch(tmp_path):
    fit(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1, every_n_epochs=2)], max_epochs=5)
    assert files(tmp_path) == ["saliency/0/step_0000004.png", "saliency/0/step_0000008.png"]


def test_validation_is_logged_whatever_the_epoch(tmp_path):
    running = trainer(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1, every_n_epochs=100)])
    running.validate(Toy(), loader(), verbose=False)
    assert files(tmp_path) == ["saliency/0/step_0000000.png"]


def test_no_picture_replaces_that_of_another_stage_or_run(tmp_path):
    running = trainer(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1)])
    running.fit(Toy(), loader(6), loader())
    model = running.lightning_module
    running.test(model, loader(seed=3), verbose=False)
    running.validate(model, loader(seed=4), verbose=False)
    step = "step_0000002"
    assert files(tmp_path) == [
        f"saliency/0/{step}-v1.png",
        f"saliency/0/{step}.png",
        f"saliency/test/0/{step}.png",
    ]
    shown = {name: below_title(pixels(tmp_path / name))[:, ::20, : W * 20 : 20] for name in files(tmp_path)}
    for found, seed in zip(shown.values(), (4, 0, 3), strict=True):
        assert torch.equal(found, visible_by_hand(inputs(seed=seed)[0]))


@pytest.mark.parametrize("inference_mode", [True, False])
def test_a_step_that_normalises_in_place_is_explained_on_what_it_got(tmp_path, inference_mode):
    class InPlace(Toy):
        def validation_step(self, batch, batch_idx):
            self(batch[0].sub_(0.5).div_(0.25))

    calls = []
    batches = DataLoader([(x.clone(), y) for x, y in zip(inputs(), labels(), strict=True)], batch_size=BATCH)
    callbacks = [SaliencyLogger(spy(calls), num_samples=N_VAL)]
    running = trainer(tmp_path, callbacks=callbacks, inference_mode=inference_mode)
    running.validate(InPlace(), batches, verbose=False)
    assert torch.equal(torch.cat([call["inputs"] for call in calls]), inputs())


def test_chosen_samples_come_from_their_batches_with_their_labels(tmp_path):
    calls = []
    fit(tmp_path, callbacks=[SaliencyLogger(spy(calls), indices=[5, 0, 6], target="label")])
    seen = {call["target"]: call["inputs"][0] for call in calls}
    assert len(seen) == 3
    for i in (5, 0, 6):
        assert torch.equal(seen[int(labels()[i])], inputs()[i])


def test_samples_stay_the_same_when_the_loader_shuffles(tmp_path):
    calls = []
    shuffled = loader(shuffle=True, generator=torch.Generator().manual_seed(3))
    fit(tmp_path, val=shuffled, callbacks=[SaliencyLogger(spy(calls), indices=[1, 4])], max_epochs=3)
    assert len(calls) == 6
    for call, first in zip(calls, calls[:2] * 3, strict=True):
        assert torch.equal(call["inputs"], first["inputs"])
    assert not torch.equal(calls[0]["inputs"], inputs()[1:2])  # negative control: it did shuffle


def test_another_stage_has_samples_of_its_own(tmp_path):
    calls = []
    running = trainer(tmp_path, callbacks=[SaliencyLogger(spy(calls), num_samples=1)])
    for seed in (0, 1):
        running.validate(Toy(), loader(seed=seed), verbose=False)
    assert len(calls) == 2
    for seed, call in enumerate(calls):
        assert torch.equal(call["inputs"], inputs(seed=seed)[:1])


def test_only_the_first_of_several_loaders_counts(tmp_path):
    calls = []
    loaders = [loader(2), loader(seed=1)]
    with pytest.warns(UserWarning, match=r"gave this process 2 samples; of \[0, 1, 2\] only \[0, 1\]"):
        fit(tmp_path, val=loaders, callbacks=[SaliencyLogger(spy(calls), num_samples=3)], max_epochs=2)
    assert len(calls) == 4
    assert torch.equal(calls[1]["inputs"], inputs(2)[1:2])


def test_averaged_weights_are_explained_whatever_the_order_of_callbacks(tmp_path):
    callbacks = pytest.importorskip("pytorch_lightning.callbacks")
    if not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("this release of Lightning has no EMAWeightAveraging")

    class Weights(Spy):
        def attribute(self, x, target=None):
            self.calls.append({name: value.clone() for name, value in self.forward_func.state_dict().items()})
            return super().attribute(x, target)

    class Current(callbacks.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            self.weight = pl_module.head[1].weight.detach().clone()

    for position in (0, 1):
        seen, current = [], Current()
        average = callbacks.EMAWeightAveraging(decay=0.8)
        order = [average, current]
        saliency = SaliencyLogger(lambda module, seen=seen: Weights(module, seen), num_samples=1)
        order.insert(2 * position, saliency)
        model, _ = fit(tmp_path, Toy(lr=1.0), callbacks=order, max_epochs=1)
        found = seen[0]["head.1.weight"]
        assert torch.equal(found, model.head[1].weight)  # after training the model has the averaged weights
        assert not torch.allclose(found, current.weight, atol=1e-3)  # negative control


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16)]
)
@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_the_trainers_precision_is_used(tmp_path, precision, dtype, stage):
    seen = []

    class Dtypes(Saliency):
        def attribute(self, x, target):
            convolution = self.forward_func.features[0]
            handle = convolution.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
            try:
                return super().attribute(x, target)
            finally:
                handle.remove()

    callback = SaliencyLogger(Dtypes, num_samples=1, strict=True)
    model = Toy()
    running = trainer(tmp_path, callbacks=[callback], precision=precision)
    if stage == "fit":
        running.fit(model, loader(6), loader())
    else:
        running.validate(model, loader(), verbose=False)
    assert set(seen) == {torch.bfloat16}
    assert model.head[1].weight.dtype == dtype
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("clips", [False, True])
def test_our_methods_and_captums_work_under_mixed_precision(tmp_path, clips):
    methods = {
        "eb": ExcitationBackprop,
        "cam": (lambda m: VideoGradCam(m, "features")) if clips else (lambda m: LayerGradCam(m, m.features)),
        "saliency": "Saliency",
    }
    callbacks = [SaliencyLogger(m, num_samples=1, key=key, strict=True) for key, m in methods.items()]
    fit(tmp_path, Toy(clips=clips), callbacks=callbacks, precision="bf16-mixed")
    assert {name.split("/")[0] for name in files(tmp_path)} == set(methods)


# What is explained


@pytest.mark.parametrize(
    ("target", "want"),
    [
        ("label", labels().tolist()),
        (2, [2] * N_VAL),
        (lambda scores, label: (int(label) + 1) % scores.shape[-1], [(i + 1) % K for i in labels().tolist()]),
    ],
    ids=["label", "fixed", "function"],
)
def test_the_target_is_the_one_asked_for(tmp_path, target, want):
    calls = []
    fit(tmp_path, callbacks=[SaliencyLogger(spy(calls), num_samples=N_VAL, target=target)])
    assert [call["target"] for call in calls] == want


def test_by_default_the_predicted_class_is_explained(tmp_path):
    calls = []
    model = Toy(lr=0.0)
    model.head[1].bias.data -= model.eval()(inputs()).mean(0)  # predictions that differ
    fit(tmp_path, model, callbacks=[SaliencyLogger(spy(calls), num_samples=N_VAL)])
    want = model.eval()(inputs()).argmax(1).tolist()
    assert [call["target"] for call in calls] == want
    assert len(set(want)) > 1  # negative control


def test_of_scores_per_time_step_the_last_is_explained(tmp_path):
    class Steps(Toy):
        def forward(self, x):
            return self.head(self.features(x).mean((3, 4)).transpose(1, 2))

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0])[:, -1], batch[1])

    calls = []
    model, _ = fit(tmp_path, Steps(clips=True), callbacks=[SaliencyLogger(spy(calls), num_samples=2)])
    scores = model.eval()(inputs(clips=True)[:2])
    assert scores.shape[1:] == (3, K)
    assert [call["target"] for call in calls] == [(2, int(scores[i, -1].argmax())) for i in range(2)]


def test_further_arguments_reach_the_class_and_attribute(tmp_path):
    made = []

    class Noted(LayerGradCam):
        __module__ = "captum.attr"

        def attribute(self, x, target, **kwargs):
            made.append((self.layer, kwargs))
            return super().attribute(x, target, **kwargs)

    callback = SaliencyLogger(
        Noted,
        num_samples=1,
        init_kwargs={"layer": "features"},
        attribute_kwargs={"relu_attributions": True},
        strict=True,
    )
    model, _ = fit(tmp_path, callbacks=[callback])
    assert made == [(model.features, {"relu_attributions": True})]


def test_an_attribution_made_of_the_model_follows_its_weights(tmp_path):
    model = Toy()
    callback = SaliencyLogger(ExcitationBackprop(model), num_samples=1, strict=True)
    fit(tmp_path, model, callbacks=[callback], max_epochs=2)
    fresh = tmp_path / "fresh"
    running = trainer(fresh, callbacks=[SaliencyLogger("ExcitationBackprop", num_samples=1, strict=True)])
    running.validate(model, loader(), verbose=False)
    pair = [pixels(tmp_path / "saliency/0/step_0000004.png"), pixels(fresh / "saliency/0/step_0000000.png")]
    assert torch.equal(*pair)
    assert not torch.equal(pair[0], pixels(tmp_path / "saliency/0/step_0000002.png"))


def test_a_function_made_of_the_module_is_what_is_predicted(tmp_path):
    class Output(Toy):
        def forward(self, x):
            return {"logits": super().forward(x)}

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0])["logits"], batch[1])

    callback = SaliencyLogger(lambda m: Saliency(lambda x: m(x)["logits"]), num_samples=1, strict=True)
    fit(tmp_path, Output(), callbacks=[callback])
    assert len(files(tmp_path)) == 1


def test_a_wrapper_around_the_module_is_put_into_evaluation_mode(tmp_path):
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module, self.norm = module, nn.BatchNorm1d(K)

        def forward(self, x):
            return self.norm(self.module(x))

    callback = SaliencyLogger(lambda m: ExcitationBackprop(Wrapper(m)), num_samples=1, strict=True)
    fit(tmp_path, callbacks=[callback])
    assert len(files(tmp_path)) == 1


def test_batches_may_be_dicts_and_have_no_labels(tmp_path):
    class Images(Dataset):
        def __len__(self):
            return N_VAL

        def __getitem__(self, i):
            return {"image": inputs()[i], "path": f"{i}.png"}

    running = trainer(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=1, strict=True)])
    running.validate(Toy(), DataLoader(Images(), batch_size=BATCH), verbose=False)
    assert Image.open(tmp_path / "saliency/0/step_0000000.png").text["Description"].startswith("predicted: ")


def test_no_warning_is_given_when_all_is_well(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, callbacks=[SaliencyLogger(Saliency, num_samples=3)])
    ours = [str(w.message) for w in caught if "Saliency" in str(w.message) or "gradient" in str(w.message)]
    assert ours == []
