"""Checkpoints of this package: whole, safe to read, and checked against the model."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from torchvision import models as torchvision_models

from captum_ext.data import KINETICS, ClipTransform
from captum_ext.models import FrameCNN, FrameCNNLSTM, load_checkpoint, save_checkpoint


def test_a_model_comes_back_with_labels_and_transform(tmp_path):
    arguments = {"num_classes": 3, "hidden_size": 8, "activation": "relu", "output": "steps"}
    model = FrameCNNLSTM(**arguments).eval()
    transform = ClipTransform((48, 64), *KINETICS, resize=80)
    save_checkpoint(
        tmp_path / "a.pt", model, arguments=arguments, labels=["a", "b", "ü"], transform=transform
    )
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert (checkpoint.name, checkpoint.labels) == ("FrameCNNLSTM", ("a", "b", "ü"))
    assert checkpoint.transform == transform
    assert not checkpoint.model.training
    clip = torch.rand(1, 3, 4, 64, 64)
    assert torch.equal(checkpoint.model(clip), model(clip))


def test_a_torchvision_model_is_stored_under_its_name(tmp_path):
    model = torchvision_models.squeezenet1_1(num_classes=5)
    save_checkpoint(
        tmp_path / "a.pt", model, name="squeezenet1_1", arguments={"num_classes": 5, "weights": "X"}
    )
    checkpoint = load_checkpoint(tmp_path / "a.pt")
    assert checkpoint.labels == ()
    assert checkpoint.transform is None
    assert torch.equal(
        checkpoint.model.state_dict()["classifier.1.bias"], model.state_dict()["classifier.1.bias"]
    )


def test_saving_draws_no_random_numbers(tmp_path):
    model = FrameCNN(num_classes=2)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    save_checkpoint(tmp_path / "a.pt", model, arguments={"num_classes": 2})
    assert torch.equal(torch.rand(1), expected)


def test_arguments_of_another_model_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="do not construct the model"):
        save_checkpoint(tmp_path / "a.pt", FrameCNN(num_classes=3), arguments={"num_classes": 4})
    with pytest.raises(ValueError, match="cannot be constructed from"):
        save_checkpoint(tmp_path / "a.pt", FrameCNN(num_classes=3), arguments={"classes": 3})
    assert not list(tmp_path.iterdir())


def test_arguments_that_are_no_plain_values_are_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot be stored"):
        save_checkpoint(
            tmp_path / "a.pt", FrameCNN(num_classes=3), arguments={"num_classes": torch.tensor(3)}
        )


def test_an_unknown_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no model named 'Linear'"):
        save_checkpoint(tmp_path / "a.pt", torch.nn.Linear(2, 3), arguments={})


def test_other_files_are_refused_with_the_reason(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(path)
    path.write_text("text")
    with pytest.raises(ValueError, match="is no checkpoint"):
        load_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list"):
        load_checkpoint(path)
    torch.save(FrameCNN(num_classes=2).state_dict(), path)
    with pytest.raises(ValueError, match="not written by"):
        load_checkpoint(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, FrameCNN(num_classes=2), arguments={"num_classes": 2})
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="is no checkpoint"):
        load_checkpoint(path)


def test_no_code_of_a_file_runs(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    torch.save({"state_dict": Attack()}, tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Attack(), protocol=2))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(ValueError, match="could run code"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "attacked").exists()
