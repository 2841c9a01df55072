"""Inputs and labels are found in the common shapes of a batch, and nowhere by guess."""

from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch

from lightning_callbacks.batches import INPUT_NAMES, LABEL_NAMES, find_inputs, find_labels

X = torch.rand(2, 3, 5, 6)
Y = torch.tensor([1, 0])


@dataclass
class Sample:
    image: torch.Tensor
    label: torch.Tensor
    path: str = "a.png"


Pair = namedtuple("Pair", ["frames", "target"])
Swapped = namedtuple("Swapped", ["y", "x"])

BATCHES = {
    "tuple": (X, Y),
    "list": [X, Y],
    "three items": (X, Y, ["a.png", "b.png"]),
    "dataclass": Sample(X, Y),
    "namedtuple": Pair(X, Y),
    "namedtuple, labels first": Swapped(Y, X),
    "mapping that is no dict": UserDict(pixel_values=X, labels=Y),
    "dict with more": {"video_name": ["a", "b"], "label": Y, "video": X, "audio": torch.rand(2, 7)},
    "names for one tensor": {"label": Y, "target": Y, "x": X, "input": X},
    "a name that holds text": {"label": ["cat", "dog"], "y": Y, "image": ["a.png"], "inputs": X},
    "a dict and labels": ({"pixel_values": X}, Y),
    "inputs and a dict": (X, {"labels": Y}),
    **{f"dict with {name}": {name: X, "y": Y} for name in INPUT_NAMES},
    **{f"dict with {name}": {"x": X, name: Y} for name in LABEL_NAMES},
}


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_inputs_and_labels_are_found_and_not_copied(batch):
    assert find_inputs(batch) is X
    assert find_labels(batch) is Y


def test_a_tensor_is_its_own_inputs():
    assert find_inputs(X) is X


def test_soft_labels_are_labels():
    soft = torch.rand(2, 4)
    assert find_labels((X, soft)) is soft


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        ({"img_tensor": X}, ValueError, r"'img_tensor', and none of 'x'.*input_fn"),
        ({}, ValueError, "holds nothing"),
        ({"image": X, "video": X + 1}, ValueError, "'image', 'video': which are the inputs"),
        ({"image": "a.png"}, TypeError, "'image' in the batch .* is a str, not a tensor"),
        ((), ValueError, "length 0 and holds no inputs"),
        (((X, X), Y), TypeError, "item 0 of the batch is a tuple, in which no inputs"),
        (None, TypeError, "the batch is a NoneType, in which no inputs"),
        (Sample, TypeError, "the batch is a type"),
    ],
)
def test_inputs_that_cannot_be_found_are_an_error_that_says_so(batch, error, words):
    with pytest.raises(error, match=words):
        find_inputs(batch)


@pytest.mark.parametrize(
    ("batch", "error", "words"),
    [
        (
            X,
            TypeError,
            r"the batch is a Tensor, in which no labels.*target_fn=.* or target='predicted' to do without",
        ),
        ((X,), ValueError, "length 1 and holds no labels"),
        ((X, ["cat", "dog"]), TypeError, "item 1 of the batch is a list"),
        ({"x": X}, ValueError, "none of 'y', 'label'"),
        ({"label": Y, "target": Y + 1}, ValueError, "'label', 'target': which are the labels"),
        ({"label": ["cat", "dog"]}, TypeError, "'label' in the batch .* is a list"),
        # torchvision's video data sets put the sound between the clip and its class.
        ((X, torch.rand(2, 1, 9), Y), ValueError, r"has \(2, 1, 9\).*target_fn"),
        ((X, torch.tensor(1)), ValueError, r"has \(\)"),
    ],
)
def test_labels_that_cannot_be_found_are_an_error_that_says_so(batch, error, words):
    with pytest.raises(error, match=words):
        find_labels(batch)
