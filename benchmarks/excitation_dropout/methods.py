"""The kinds of dropout that are compared, all at the first linear layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytorch_lightning import Callback
from torch import nn

from captum_ext.dropout import SharedDropout
from captum_ext.models import CNN2
from lightning_callbacks import AdaptiveDropout, CurriculumDropout, ExcitationDropout

__all__ = ["METHODS", "RATED", "STANDARD", "Method"]

STANDARD, LAYER = "Standard", "net.dropout1"


@dataclass(frozen=True)
class Method:
    """A kind of dropout.

    Args:
        prepare (Callable): changes the network for a drop rate.
        callbacks (Callable): what the trainer gets, for a drop rate.
    """

    prepare: Callable[[CNN2, float], None]
    callbacks: Callable[[float], list[Callback]]


def _set_rate(net: CNN2, rate: float) -> None:
    net.dropout1 = nn.Dropout(rate)


def _share_masks(net: CNN2, rate: float) -> None:
    net.dropout1 = SharedDropout(rate)


def _none(rate: float) -> list[Callback]:
    return []


METHODS = {
    "No": Method(lambda net, rate: _set_rate(net, 0.0), _none),
    STANDARD: Method(_share_masks, _none),
    "Standard + Mask/Img": Method(_set_rate, _none),
    "Curriculum": Method(_set_rate, lambda rate: [CurriculumDropout(LAYER, gamma="auto", log=False)]),
    "Adaptive": Method(_set_rate, lambda rate: [AdaptiveDropout(LAYER, "net.fc1")]),
    "Excitation": Method(_set_rate, lambda rate: [ExcitationDropout(LAYER, p=rate, log=False)]),
    "Excitation, annealed": Method(
        _set_rate, lambda rate: [ExcitationDropout(LAYER, p=rate, gamma="auto", log=False)]
    ),
}
"""By name: "Standard" has one mask for the batch, "Mask/Img" is nn.Dropout."""

RATED = (STANDARD, "Excitation")
"""Those whose sensitivity to the rate is measured."""
