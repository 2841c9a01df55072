"""Every logger is given pictures in the way it takes them."""

import io
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import (
    CometLogger,
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from pytorch_lightning.loggers.logger import DummyLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_callbacks import image_logging
from lightning_callbacks.image_logging import (
    PictureFolder,
    log_image,
    log_video,
    register,
    takes_images,
    takes_videos,
)

T, H, W = 5, 6, 9
IMAGE = torch.randint(256, (3, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FRAMES = torch.randint(4, (T, 3, H, W), generator=torch.Generator().manual_seed(1)).mul(80).to(torch.uint8)
ARRAY = IMAGE.numpy().transpose(1, 2, 0)


def decoded(encoded):
    return np.array(Image.open(io.BytesIO(encoded)).convert("RGB"))


# Lightning's own loggers, without the services behind them.


class Wandb(WandbLogger):
    def __init__(self):
        self.metrics = []

    def log_metrics(self, metrics, step=None):
        self.metrics.append((metrics, step))


class Client:
    def __init__(self):
        self.calls = []


class NewMlflowClient(Client):
    def log_image(self, run_id, image, artifact_file=None, key=None, step=None):
        self.calls.append((run_id, image, artifact_file, key, step))

    def log_artifact(self, run_id, local_path, artifact_path=None):
        frames = Image.open(local_path).n_frames  # the file need not stay
        self.calls.append((run_id, Path(local_path).name, artifact_path, frames))


class OldMlflowClient(Client):
    def log_image(self, run_id, image, artifact_file):
        self.calls.append((run_id, image, artifact_file))


class CometExperiment(Client):
    def log_image(self, image_data, name=None, overwrite=False, step=None):
        self.calls.append((image_data, name, step))

    def log_video(self, file, name=None, overwrite=False, format=None, step=None):  # noqa: A002
        self.calls.append((file.read(), name, format, step))


class Mlflow(MLFlowLogger):
    def __init__(self, client):
        self.client = client

    experiment = property(lambda self: self.client)
    run_id = property(lambda self: "run 7")


class Comet(CometLogger):
    def __init__(self, client):
        self.client = client

    experiment = property(lambda self: self.client)


@pytest.fixture
def wandb(monkeypatch):
    """The part of wandb that Lightning's logger uses."""
    module = ModuleType("wandb")
    module.Image = lambda data, **kwargs: ("image", data, kwargs)
    module.Video = lambda data, **kwargs: ("video", data, kwargs)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_gets_a_list_of_one_image_with_its_caption(wandb):
    logger = Wandb()
    log_image(logger, "saliency/3", IMAGE, 12, "a cat")
    (((metrics, step),),) = (logger.metrics,)
    ((kind, image, kwargs),) = metrics["saliency/3"]
    assert (kind, kwargs, step) == ("image", {"caption": "a cat"}, 12)
    assert np.array_equal(image, ARRAY)


def test_wandb_gets_an_encoded_animation_for_which_it_needs_no_moviepy(wandb):
    logger = Wandb()
    log_video(logger, "saliency/3", FRAMES, 12, "a cat", fps=10)
    ((metrics, step),) = logger.metrics
    ((kind, data, kwargs),) = metrics["saliency/3"]
    assert (kind, kwargs, step) == ("video", {"caption": "a cat", "format": "gif"}, 12)
    assert isinstance(data, io.BytesIO)
    assert Image.open(data).n_frames == T


def test_mlflow_gets_an_image_of_a_step():
    client = NewMlflowClient()
    log_image(Mlflow(client), "saliency/3", IMAGE, 12)
    ((run_id, image, artifact_file, key, step),) = client.calls
    assert (run_id, artifact_file, key, step) == ("run 7", None, "saliency/3", 12)
    assert np.array_equal(image, ARRAY)


def test_an_older_mlflow_gets_an_artifact():
    client = OldMlflowClient()
    log_image(Mlflow(client), "saliency/3", IMAGE, 12)
    ((run_id, image, artifact_file),) = client.calls
    assert (run_id, artifact_file) == ("run 7", "saliency/3/step_0000012.png")
    assert np.array_equal(image, ARRAY)


def test_comet_gets_an_image_with_its_name_and_step():
    experiment = CometExperiment()
    log_image(Comet(experiment), "saliency/3", IMAGE, 12)
    ((image, name, step),) = experiment.calls
    assert (name, step) == ("saliency/3", 12)
    assert np.array_equal(image, ARRAY)


def test_mlflow_gets_an_animation_as_an_artifact():
    client = NewMlflowClient()
    log_video(Mlflow(client), "saliency/3/animation", FRAMES, 12)
    assert client.calls == [("run 7", "step_0000012.webp", "saliency/3/animation", T)]


def test_comet_gets_an_animation_with_its_name_and_step():
    experiment = CometExperiment()
    log_video(Comet(experiment), "saliency/3/animation", FRAMES, 12)
    ((encoded, name, kind, step),) = experiment.calls
    assert (name, kind, step) == ("saliency/3/animation", "gif", 12)
    assert Image.open(io.BytesIO(encoded)).n_frames == T


def test_tensorboard_gets_images_and_animations(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    log_video(logger, "moving", FRAMES, 4, fps=3)
    log_image(logger, "still", IMAGE, 5)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    (still,), (moving,) = events.Images("still"), events.Images("moving")
    assert (still.step, moving.step, moving.height, moving.width) == (5, 4, H, W)
    assert np.array_equal(decoded(still.encoded_image_string), ARRAY)
    animation = Image.open(io.BytesIO(moving.encoded_image_string))
    assert animation.n_frames == T
    milliseconds = []
    for t in range(T):  # colours are few enough for a GIF to be exact
        animation.seek(t)
        milliseconds.append(animation.info["duration"])
        assert np.array_equal(np.array(animation.convert("RGB")), FRAMES[t].numpy().transpose(1, 2, 0)), t
    assert sum(milliseconds) == pytest.approx(1000 * T / 3, abs=5)


def test_a_folder_gets_files(tmp_path):
    folder = PictureFolder(tmp_path / "new")
    log_image(folder, "saliency/3", IMAGE, 12, "Käse: p = 0.3")
    log_video(folder, "saliency/3/animation", FRAMES, 12)
    picture = Image.open(tmp_path / "new/saliency/3/step_0000012.png")
    assert np.array_equal(np.array(picture), ARRAY)
    assert picture.text["Description"] == "Käse: p = 0.3"
    assert Image.open(tmp_path / "new/saliency/3/animation/step_0000012.webp").n_frames == T


def test_the_stand_in_of_fast_dev_run_takes_pictures_and_does_nothing():
    log_image(DummyLogger(), "saliency/3", IMAGE, 12)
    log_video(DummyLogger(), "saliency/3", FRAMES, 12)


def test_it_is_known_who_takes_what(tmp_path):
    services = [TensorBoardLogger(tmp_path), Wandb(), Mlflow(Client()), Comet(Client())]
    for logger in (*services, PictureFolder(tmp_path), DummyLogger()):
        assert takes_images(logger)
        assert takes_videos(logger)
    for logger in (CSVLogger(tmp_path), object(), None):
        assert not takes_images(logger)
        assert not takes_videos(logger)


def test_the_other_lightnings_loggers_are_known_by_their_names():
    twin = type("CometLogger", (), {"experiment": CometExperiment()})()
    log_image(twin, "saliency/3", IMAGE, 12)
    assert len(twin.experiment.calls) == 1


@pytest.fixture
def restored_register(monkeypatch):
    monkeypatch.setattr(image_logging, "_REGISTER", dict(image_logging._REGISTER))


def test_a_logger_can_be_registered_and_its_subclasses_with_it(restored_register):
    class Own(Logger):
        name = version = ""

        def log_metrics(self, metrics, step=None): ...

        def log_hyperparams(self, params): ...

    calls = []
    assert not takes_images(Own())
    register(Own, lambda *args: calls.append(args))
    heir = type("Heir", (Own,), {})()
    log_image(heir, "k", IMAGE, 1, "c")
    ((logger, key, image, step, caption),) = calls
    assert (logger, key, step, caption) == (heir, "k", 1, "c")
    assert torch.equal(image, IMAGE)
    assert not takes_videos(heir)
    with pytest.raises(TypeError, match="Heir takes no moving pictures"):
        log_video(heir, "k", FRAMES, 1)
    register(Own, lambda *args: None, lambda *args: calls.append(args))
    log_video(heir, "k", FRAMES, 1, fps=3)
    assert calls[1][-1] == 3


def test_a_subclass_can_be_registered_to_do_better_than_its_parent(restored_register):
    calls = []
    mine = type("Mine", (CometLogger,), {"__init__": lambda self: None})
    register(mine, lambda *args: calls.append(args))
    log_image(mine(), "k", IMAGE, 1)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda: log_image(object(), "k", IMAGE, 1), TypeError, r"register\(object, writer\)"),
        (lambda: log_image(DummyLogger(), "k", IMAGE.float(), 1), TypeError, "image must be uint8"),
        (lambda: log_image(DummyLogger(), "k", IMAGE[0], 1), ValueError, r"\(3, H, W\), not \(6, 9\)"),
        (lambda: log_image(DummyLogger(), "k", IMAGE.movedim(0, 2), 1), ValueError, r"not \(6, 9, 3\)"),
        (lambda: log_video(DummyLogger(), "k", IMAGE, 1), ValueError, r"\(T, 3, H, W\)"),
        (lambda: log_video(DummyLogger(), "k", FRAMES[:0], 1), ValueError, r"\(0, 3, 6, 9\)"),
        (lambda: register(SimpleNamespace(), print), TypeError, "a class or the name of one"),
        (lambda: register(Wandb, None), TypeError, "image_writer must be a function"),
        (lambda: register(Wandb, print, "x"), TypeError, "video_writer must be a function"),
    ],
)
def test_what_does_not_fit_is_an_error(act, error, words):
    with pytest.raises(error, match=words):
        act()


def test_a_folder_keeps_the_pictures_it_has(tmp_path):
    first, second = IMAGE, 255 - IMAGE
    for image in (first, second, first):
        log_image(PictureFolder(tmp_path), "a/0", image, 3)
    names = ["step_0000003.png", "step_0000003-v1.png", "step_0000003-v2.png"]
    for name, image in zip(names, (first, second, first), strict=True):
        assert torch.equal(
            torch.from_numpy(np.array(Image.open(tmp_path / "a/0" / name))).movedim(-1, 0), image
        )
