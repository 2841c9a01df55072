"""Layers that run on whole sequences: which axis is what."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_ext.attr._forward import ForwardPass
from captum_ext.excitation import Mass

__all__ = ["axis_of_examples", "channels_first"]

_CHANNELS_FIRST = (
    nn.Conv1d,
    nn.ConvTranspose1d,
    nn.BatchNorm1d,
    nn.InstanceNorm1d,
    nn.GroupNorm,
    nn.MaxPool1d,
    nn.AvgPool1d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool1d,
)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.TransformerEncoderLayer, nn.TransformerEncoder)


def channels_first(layer: nn.Module) -> bool | None:
    """Whether a layer's sequences are (N, C, T) by its type, or not; None for types that do not care."""
    if isinstance(layer, _CHANNELS_FIRST):
        return True
    return False if isinstance(layer, _CHANNELS_LAST) else None


def axis_of_examples(run: ForwardPass, call: Tensor, what: str) -> int | None:
    """Axis 0 or 1 of a call (N, T, D) or (T, N, D): the one along which the first example has one entry.

    All its scores start with mass, since that of an early time step reaches few frames. None where the mass
    does not say.
    """
    start = torch.zeros_like(run.scores)
    start[0] = 1
    unreachable = f"no evidence can reach {what} from the output of the first example"
    (mass,) = run.recording.propagate([run.scores], [Mass(start)], [call], unreachable)
    has_mass = mass.total.sum(2) > 0
    beyond = [bool(has_mass[1:].any()), bool(has_mass[:, 1:].any())]
    return beyond.index(False) if beyond.count(False) == 1 else None
