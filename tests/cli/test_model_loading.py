"""What a user can type as a model, and which files are understood as its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models as torchvision_models

from captum_ext.data import IMAGENET, KINETICS, ClipTransform
from captum_ext.models import FrameCNN, FrameCNNLSTM, save_checkpoint
from captum_ext.models.checkpoint import model_names
from captum_ext.models.loading import load_model, weight_names

OWN_CODE = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Settings:
    classes: int = 2

def frames():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())

class Clips(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3)

instance = frames()
number = 3

def needs(argument):
    return frames()
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "own_models.py"
    path.write_text(OWN_CODE)
    return path


def test_names_are_understood_in_any_case():
    assert load_model("framecnnLSTM").name == "FrameCNNLSTM"
    assert load_model("SqueezeNet1_1").name == "squeezenet1_1"


def test_models_are_in_evaluation_mode():
    assert not any(module.training for module in load_model("FrameCNNLSTM").model.modules())


@pytest.mark.parametrize("name", ["r3d_18", "s3d", "mvit_v2_s", "swin3d_t", "resnet18", "vit_b_16"])
def test_preprocessing_is_that_of_torchvisions_weights(name, monkeypatch):
    monkeypatch.setattr("captum_ext.models.loading.build_model", lambda *_a, **_k: nn.Identity())
    loaded = load_model(name)
    preset = torchvision_models.get_model_weights(name).DEFAULT.transforms()
    assert loaded.transform.crop_size == (preset.crop_size[0], preset.crop_size[-1])
    assert loaded.transform.mean == tuple(preset.mean)
    assert loaded.transform.std == tuple(preset.std)
    assert loaded.reads == ("frames" if name in ("resnet18", "vit_b_16") else "clips")


def test_every_listed_models_weights_give_a_transform_that_works():
    frames = torch.zeros(1, 3, 72, 96, dtype=torch.uint8)
    for name in model_names():
        for weights in weight_names(name):
            preset = torchvision_models.get_model_weights(name)[weights].transforms()
            assert min(preset.resize_size) >= max(preset.crop_size), (name, weights)
    assert ClipTransform(112, *KINETICS, resize=128)(frames).shape == (3, 1, 112, 112)


def test_torchvisions_weights_bring_their_labels(monkeypatch):
    small = torchvision_models.squeezenet1_1()
    monkeypatch.setattr(torchvision_models, "get_model", lambda *_a, **_k: small)
    loaded = load_model("squeezenet1_1", weights="DEFAULT")
    assert loaded.labels[:2] == ("tench", "goldfish")
    assert loaded.weights == "DEFAULT"


def test_labels_give_a_random_model_its_number_of_classes():
    loaded = load_model("FrameCNN", labels=["a", "b", "c"])
    assert loaded.model.classifier.out_features == 3
    assert loaded.weights == "random"


@pytest.mark.parametrize(
    ("attribute", "reads"), [("frames", "frames"), ("Clips", "clips"), ("instance", "frames")]
)
def test_own_models_come_from_files(source, attribute, reads):
    loaded = load_model(f"{source}:{attribute}")
    assert loaded.reads == reads
    assert loaded.transform == (
        ClipTransform(224, *IMAGENET) if reads == "frames" else ClipTransform(112, *KINETICS)
    )
    assert loaded.weights == "as constructed"


def test_own_models_come_from_modules_in_the_working_directory(source, monkeypatch):
    monkeypatch.chdir(source.parent)
    assert load_model("own_models:Clips").reads == "clips"


def test_what_a_model_reads_can_be_said(source):
    assert load_model(f"{source}:frames", reads="clips").reads == "clips"


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Clip", "it has Clips"),
        ("number", "is a int, not a torch.nn.Module"),
        ("needs", "callable without arguments"),
    ],
)
def test_own_code_that_gives_no_model_is_an_error(source, attribute, message):
    with pytest.raises(ValueError, match=message):
        load_model(f"{source}:{attribute}")


def test_own_code_that_does_not_import_is_an_error(tmp_path):
    (tmp_path / "broken.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(ValueError, match=r"importing .*broken\.py failed with ModuleNotFoundError"):
        load_model(f"{tmp_path / 'broken.py'}:model")
    with pytest.raises(ValueError, match="importing no_such_module failed"):
        load_model("no_such_module:model")
    with pytest.raises(FileNotFoundError, match="no source file"):
        load_model(f"{tmp_path / 'nowhere.py'}:model")


def same_weights(model: nn.Module, other: nn.Module) -> bool:
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_plain_state_dict_tells_the_number_of_classes(tmp_path):
    trained = torchvision_models.squeezenet1_1(num_classes=7)
    torch.save(trained.state_dict(), tmp_path / "plain.pt")
    loaded = load_model("squeezenet1_1", checkpoint=str(tmp_path / "plain.pt"))
    assert same_weights(loaded.model, trained)
    assert loaded.weights == str(tmp_path / "plain.pt")


def test_a_lightning_checkpoint_is_read_without_the_losses_beside_the_model(tmp_path):
    trained = FrameCNNLSTM(num_classes=3)
    state = {f"model.{name}": value for name, value in trained.state_dict().items()}
    content = {
        "epoch": 3,
        "state_dict": {**state, "loss.weight": torch.ones(3)},
        "hyper_parameters": {"lr": 0.1},
    }
    torch.save(content, tmp_path / "last.ckpt")
    loaded = load_model("FrameCNNLSTM", checkpoint=str(tmp_path / "last.ckpt"))
    assert same_weights(loaded.model, trained)


def test_a_data_parallel_state_dict_is_read(tmp_path):
    trained = FrameCNN(num_classes=3)
    torch.save({f"module.{name}": v for name, v in trained.state_dict().items()}, tmp_path / "parallel.pt")
    assert same_weights(load_model("FrameCNN", checkpoint=str(tmp_path / "parallel.pt")).model, trained)


def test_a_file_of_save_checkpoint_fills_an_own_model_of_the_same_shape(tmp_path):
    trained = FrameCNN(num_classes=3)
    save_checkpoint(tmp_path / "own.pt", trained, arguments={"num_classes": 3}, labels=["a", "b", "c"])
    (tmp_path / "same.py").write_text(
        "from captum_ext.models import FrameCNN\n\ndef build():\n    return FrameCNN(num_classes=3)\n"
    )
    loaded = load_model(f"{tmp_path / 'same.py'}:build", checkpoint=str(tmp_path / "own.pt"))
    assert same_weights(loaded.model, trained)
    assert loaded.labels == ("a", "b", "c")
