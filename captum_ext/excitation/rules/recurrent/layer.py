"""What all recurrent layers share: their call, and the numbers that are kept for the backward passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ext.excitation.functions import RecurrentFunction
from captum_ext.excitation.mode import ExcitationMode
from captum_ext.excitation.operand import UNKNOWN, set_facts
from captum_ext.excitation.rules.recurrent.children import JointStep
from captum_ext.excitation.weights import SignedWeight

__all__ = ["Layer", "LayerCall", "ValueLayer", "Weights"]


@dataclass(frozen=True)
class Weights:
    """The parameters of one layer in one direction, in torch's order.

    Args:
        ih (Tensor): of the inputs.
        hh (Tensor): of h_{t-1}.
        biases (tuple[Tensor, ...]): those of the inputs and of h_{t-1}, their sum, or none.
        hr (Tensor, optional): the projection of an LSTM.
    """

    ih: Tensor
    hh: Tensor
    biases: tuple[Tensor, ...] = ()
    hr: Tensor | None = None


@dataclass(frozen=True)
class LayerCall:
    """One layer that ran in one direction over whole sequences.

    Args:
        x (Tensor): the sequences, time first, filled up with zeros.
        initial (tuple[Tensor, ...]): h_0, and c_0 of an LSTM.
        weights (Weights): its parameters.
        outputs (Tensor): the h_t that came out.
        last (tuple[Tensor, ...]): c_n of an LSTM.
        ended (Tensor, optional): the steps behind the end of a sequence.

    Shape:
        x (T, N, D), initial (N, H), outputs (T, N, H), last (N, H), ended (T, N).
    """

    x: Tensor
    initial: tuple[Tensor, ...]
    weights: Weights
    outputs: Tensor
    last: tuple[Tensor, ...] = ()
    ended: Tensor | None = None


class Layer(ABC):
    """The rule of one recurrent layer in one direction."""

    def __init__(self, mode: ExcitationMode, call: LayerCall) -> None:
        self.x = mode.operand(call.x)
        self.initial = tuple(mode.operand(state) for state in call.initial)
        self.clamp, self.ended = mode.clamp, call.ended
        self.dtype = self.x.dtype
        self.weights = call.weights
        self.signed: tuple[SignedWeight, SignedWeight] = (
            mode.weight(call.weights.ih),
            mode.weight(call.weights.hh),
        )
        # A copy, so that in-place operations on the outputs cannot reach it.
        h_0 = self.initial[0].value.to(call.outputs.dtype)
        self.h_before = torch.cat([h_0[None], call.outputs[:-1]]).to(self.dtype)

    @abstractmethod
    def distribute(self, *masses: Tensor) -> tuple[Tensor | None, ...]:
        """Mass of the sequence and of the initial states, from that of what the layer returned."""

    def run(self, call: LayerCall, *values: Tensor) -> tuple[Tensor, ...]:
        """Put ``values``, what the layer computed, into the graph with this rule behind them."""
        outputs: tuple[Tensor, ...] = RecurrentFunction.apply(self, values, call.x, *call.initial)
        for output in outputs:
            set_facts(output, UNKNOWN)
        return outputs

    def biases(self) -> tuple[Tensor | None, Tensor | None]:
        """The biases of the inputs and of h_{t-1}; a single one is their sum."""
        given = [bias.detach().to(self.dtype) for bias in self.weights.biases]
        first, second, *_ = (*given, None, None)
        return first, second


class ValueLayer(Layer):
    """A layer whose rule follows the value path."""

    _kept: JointStep | None = None

    @property
    def joint_step(self) -> JointStep:
        """The linear map that makes the cell's value; kept between passes unless it depends on maps below."""
        step = self._kept or self._joint_step()
        if all(operand.map is None for operand in (self.x, *self.initial)):
            self._kept = step
        return step

    @abstractmethod
    def _joint_step(self) -> JointStep:
        """The linear map of the inputs and of h_{t-1}."""
