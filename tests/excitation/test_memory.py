"""Nothing of an explanation outlives it: its graph is freed at once, without the garbage collector."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torchvision
from torch import nn

from captum_ext.attr import ExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.excitation.mode import ExcitationMode
from captum_ext.models import FrameCNNLSTM


class InPlace(nn.Module):
    """Every way of writing in place that the rules follow."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.top = (
            nn.Conv2d(2, 2, 3, padding=1),
            nn.Conv2d(2, 2, 3, padding=1),
            nn.Linear(2, 3),
        )

    def forward(self, x):
        y = self.a(x)
        y += self.b(y)
        y[:, 1:] += self.b(x)[:, :1]
        y[:, :, 0] = self.b(y.clone())[:, :, 1]
        y = torch.relu_(y).clone()
        y *= torch.sigmoid(self.a(x))
        return self.top(y.mean((2, 3)))


def in_place():
    return ExcitationBackprop(InPlace().eval()), torch.rand(2, 2, 5, 6), 1


def resnet():
    return ExcitationBackprop(torchvision.models.resnet18().eval()), torch.rand(2, 3, 32, 40), 1


def cnn_lstm():
    model = FrameCNNLSTM(3, output="steps").eval()
    return RecurrentExcitationBackprop(model, "features"), torch.rand(2, 3, 4, 64, 64), (3, 1)


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("case", [in_place, resnet, cnn_lstm])
def test_the_maps_of_a_pass_die_with_it(case, contrastive, monkeypatch):
    explainer, x, target = case()
    born = []
    exit_ = ExcitationMode.__exit__

    def remember(mode, *args):
        born.extend(weakref.ref(linear_map) for linear_map in mode.maps)
        return exit_(mode, *args)

    monkeypatch.setattr(ExcitationMode, "__exit__", remember)
    gc.collect()
    gc.disable()
    try:
        explainer.attribute(x, target=target, contrastive=contrastive)
        alive = sum(reference() is not None for reference in born)
    finally:
        gc.enable()
    assert len(born) > 3
    assert alive == 0
