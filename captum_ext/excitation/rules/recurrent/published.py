r"""The LSTM as in the papers' released code.

Inside the unit the code propagates plain gradients, to all four gates; at the sum of :math:`W x_t` and
:math:`U h_{t-1}` everything goes to the first, so only the cell state connects the steps. :math:`W x_t` is a
proper step of Excitation Backprop whose denominator contains neither :math:`h_{t-1}` nor the bias. With mass
:math:`M_h` and :math:`M_c` arriving at :math:`h_t` and :math:`c_t`:

.. math::
    s = M_c + M_h\, o_t\, \phi'(c_t), \quad M(c_{t-1}) = s f_t, \quad M(z_i) = s\, g_t\, i_t (1 - i_t),

    M(z_f) = s\, c_{t-1} f_t (1 - f_t), \quad M(z_g) = s\, i_t\, \phi'(z_g), \quad
    M(z_o) = M_h\, \phi(c_t)\, o_t (1 - o_t)
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from captum_ext.excitation.mode import ExcitationMode
from captum_ext.excitation.numerics import safe_divide
from captum_ext.excitation.operand import Facts, set_facts
from captum_ext.excitation.rules.recurrent.children import POSITIVE, Children, parts_of, receive
from captum_ext.excitation.rules.recurrent.layer import Layer, LayerCall
from captum_ext.excitation.rules.recurrent.lstm import Activation, LSTMGates, lstm_gates

__all__ = ["published_lstm_layer"]


class _PublishedLSTM(Layer):
    def __init__(self, mode: ExcitationMode, call: LayerCall, phi: Activation) -> None:
        super().__init__(mode, call)
        self._phi = phi

    @cached_property
    def _gates(self) -> LSTMGates:
        return lstm_gates(self, self._phi)

    @cached_property
    def _inputs(self) -> tuple[Children, Tensor]:
        inputs = Children(parts_of(self.x), self.signed[0], slice(None), POSITIVE)
        return inputs, inputs.support()

    def _slope(self, activated: Tensor) -> Tensor:
        """Derivative of phi from its value."""
        return (activated > 0).to(self.dtype) if self._phi is torch.relu else 1 - activated * activated

    def distribute(self, *masses: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the unit, then a step of Excitation Backprop to the inputs."""
        m_outputs, m_cell = (mass.to(self.dtype) for mass in masses)
        gates = self._gates
        i, f, g, o = gates.i, gates.f, gates.g, gates.o
        activated = self._phi(gates.c)
        to_cell = m_outputs * o * self._slope(activated)
        kept = f if self.ended is None else f.masked_fill(self.ended.unsqueeze(-1), 1.0)
        s = torch.empty_like(to_cell)
        for t in range(len(s) - 1, -1, -1):
            torch.add(m_cell, to_cell[t], out=s[t])
            m_cell = s[t] * kept[t]
        m_gates = torch.cat(
            [
                s * g * i * (1 - i),
                s * gates.c_before * f * (1 - f),
                s * i * self._slope(g),
                m_outputs * activated * o * (1 - o),
            ],
            dim=-1,
        )
        if self.ended is not None:
            m_gates[self.ended] = 0.0
        inputs, support = self._inputs
        m_x = receive(self.x, inputs.share(safe_divide(m_gates.unsqueeze(2), support)))
        return m_x, None, m_cell


def published_lstm_layer(mode: ExcitationMode, call: LayerCall, phi: Activation) -> tuple[Tensor, Tensor]:
    """Outputs (T, N, H) and last cell state (N, H) of one layer, with the published recurrences."""
    outputs, c_n = _PublishedLSTM(mode, call, phi).run(call, call.outputs, *call.last)
    return set_facts(outputs, Facts(non_negative=phi is torch.relu)), c_n
