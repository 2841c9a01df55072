r"""The LSTM.

:math:`h_t = o_t \phi(c_t)` gives all its mass to :math:`c_t`, which shares it between its two summands
:math:`f_t c_{t-1}` and :math:`i_t g_t`. :math:`g_t = \phi(W_g x_t + U_g h_{t-1} + b_g)` shares its part over
:math:`x_t` and :math:`h_{t-1}` jointly. A projection :math:`h_t = W_r (o_t \phi(c_t))` is a linear map, one
with the maps that read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.mode import ExcitationMode, read_as_state
from captum_ext.excitation.numerics import safe_divide
from captum_ext.excitation.operand import Facts, set_facts
from captum_ext.excitation.rules.linear import weighted_layer
from captum_ext.excitation.rules.recurrent.children import (
    BOTH,
    POSITIVE,
    Children,
    JointStep,
    by_sign,
    is_of_layers,
    join_steps,
    parts_of,
    receive,
)
from captum_ext.excitation.rules.recurrent.layer import Layer, LayerCall, ValueLayer

__all__ = ["Activation", "LSTMGates", "lstm_gates", "lstm_layer"]

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LSTMGates:
    """Gates i, f and o, the value g and the cell state c of every step, and the state before the first."""

    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    c: Tensor
    c_0: Tensor

    @property
    def c_before(self) -> Tensor:
        """c_{t-1}."""
        return torch.cat([self.c_0[None], self.c[:-1]])


def lstm_gates(layer: Layer, phi: Activation) -> LSTMGates:
    """What happened inside the layer, from its inputs and outputs: one product for all steps."""
    x, c_0 = (operand.value.to(layer.dtype) for operand in (layer.x, layer.initial[1]))
    ih, hh = (weight.detach().to(layer.dtype) for weight in (layer.weights.ih, layer.weights.hh))
    b_ih, b_hh = layer.biases()
    i, f, g, o = (F.linear(x, ih, b_ih) + F.linear(layer.h_before, hh, b_hh)).chunk(4, dim=-1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), phi(g), o.sigmoid()
    c = i * g
    before = c_0
    for t in range(len(c)):
        before = c[t].addcmul_(f[t], before)
    return LSTMGates(i, f, g, o, c, c_0)


class _LSTM(ValueLayer):
    """The rule between the cell's output o phi(c) and the inputs."""

    def __init__(self, mode: ExcitationMode, call: LayerCall, phi: Activation) -> None:
        super().__init__(mode, call)
        self._phi = phi
        self._projection = None if call.weights.hr is None else mode.weight(call.weights.hr)
        self.is_signed = phi is not torch.relu

    @cached_property
    def _gates(self) -> LSTMGates:
        return lstm_gates(self, self._phi)

    @cached_property
    def projected(self) -> Tensor:
        """What is projected, o phi(c), (T, N, H)."""
        return self._gates.o * self._phi(self._gates.c)

    @cached_property
    def _carried_and_entered(self) -> tuple[Tensor, Tensor]:
        """Shares of f c_{t-1} and of i g in the state c_t, (T, N, H)."""
        gates = self._gates
        old, new = gates.f * gates.c_before, gates.i * gates.g
        if self.is_signed and not self.clamp:
            below_zero = gates.c < 0
            old, new = torch.where(below_zero, -old, old), torch.where(below_zero, -new, new)
        old, new = old.clamp_(min=0), new.clamp_(min=0)
        c_0 = self.initial[1]
        if not c_0.is_evidence:
            old[0] = 0.0
        elif is_of_layers(c_0):
            old[0] = gates.f[0] * torch.where(
                self._starts_below_zero, c_0.part_or_zeros(-1), c_0.part_or_zeros(1)
            )
        carried, entered = safe_divide(old, old + new), safe_divide(new, old + new)
        if self.ended is not None:
            carried[self.ended], entered[self.ended] = 1.0, 0.0
        return carried, entered

    @property
    def _starts_below_zero(self) -> Tensor:
        """Where the first cell state counts as negative."""
        c = self._gates.c[0]
        return c < 0 if self.is_signed and not self.clamp else torch.zeros_like(c, dtype=torch.bool)

    @cached_property
    def _projection_step(self) -> tuple[Children, Tensor]:
        """The children of a projected h_t, and its support by either sign."""
        assert self._projection is not None  # noqa: S101
        children = by_sign(self.projected, POSITIVE if self.clamp else BOTH)
        step = Children(children, self._projection, slice(None), BOTH)
        return step, step.support()

    def _joint_step(self) -> JointStep:
        gates = self._gates
        if self._projection is None:
            later = by_sign(self.h_before[1:], BOTH if self.is_signed and not self.clamp else POSITIVE)
        else:
            later = self._projection_step[1][:-1]
        size = len(self.weights.hh) // 4
        return JointStep(
            self.x,
            join_steps(parts_of(self.initial[0]), later),
            self.signed,
            slice(2 * size, 3 * size),
            gates.g < 0 if self.is_signed and not self.clamp else None,
            self._carried_and_entered[1],
        )

    def distribute(self, *masses: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the steps; only the recurrent part is a loop."""
        m_outputs, m_cell = (mass.to(self.dtype) for mass in masses)
        carried, joint = self._carried_and_entered[0], self.joint_step
        quotients = joint.new_quotients()
        m_hidden = torch.zeros_like(m_cell)
        kinds = m_hidden.unsqueeze(1)
        for t in range(len(carried) - 1, -1, -1):
            m_cell = m_cell + m_hidden + m_outputs[t]
            kinds = joint.to_hidden(t, m_cell, quotients)
            m_cell = m_cell * carried[t]
            if t > 0:
                m_hidden = self._through_projection(t - 1, kinds)
        h_0, c_0 = self.initial
        if is_of_layers(c_0):
            below_zero = self._starts_below_zero
            m_cell = c_0.receive(m_cell.masked_fill(below_zero, 0.0), m_cell.masked_fill(~below_zero, 0.0))
        return joint.to_inputs(quotients), receive(h_0, kinds), m_cell

    def _through_projection(self, t: int, kinds: Tensor) -> Tensor:
        if self._projection is None:
            return kinds.sum(1)
        step, support = self._projection_step
        return step.share(safe_divide(kinds, support[t]), t).sum(1)


def lstm_layer(mode: ExcitationMode, call: LayerCall, phi: Activation) -> tuple[Tensor, Tensor]:
    """Outputs (T, N, H) and last cell state (N, H) of one layer, with their rule."""
    layer = _LSTM(mode, call, phi)
    if not is_of_layers(layer.initial[1]):
        read_as_state(call.initial[1])
    (c_n,) = call.last
    hr = call.weights.hr
    if hr is None:
        outputs, c_n = layer.run(call, call.outputs, c_n)
        return set_facts(outputs, Facts(non_negative=phi is torch.relu)), c_n
    with torch.autocast(call.x.device.type, enabled=False):
        projected = layer.projected.clone()
    value, c_n = layer.run(call, projected, c_n)
    outputs = weighted_layer(mode, value, hr, F.linear, lambda q, w: q @ w, lambda _: call.outputs)
    return outputs, c_n
