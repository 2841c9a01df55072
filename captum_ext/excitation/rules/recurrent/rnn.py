r"""The plain recurrent layer, :math:`h_t = \phi(W x_t + U h_{t-1} + b)`: one linear map at each step."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ext.excitation.mode import ExcitationMode
from captum_ext.excitation.operand import Facts, set_facts
from captum_ext.excitation.rules.recurrent.children import (
    BOTH,
    POSITIVE,
    JointStep,
    by_sign,
    join_steps,
    parts_of,
    receive,
)
from captum_ext.excitation.rules.recurrent.layer import LayerCall, ValueLayer

__all__ = ["rnn_layer"]


class _RNN(ValueLayer):
    def __init__(self, mode: ExcitationMode, call: LayerCall, is_signed: bool) -> None:
        super().__init__(mode, call)
        self._is_signed = is_signed and not mode.clamp
        self._below_zero = call.outputs < 0 if self._is_signed else None

    def _joint_step(self) -> JointStep:
        later = by_sign(self.h_before[1:], BOTH if self._is_signed else POSITIVE)
        hidden = join_steps(parts_of(self.initial[0]), later)
        return JointStep(self.x, hidden, self.signed, slice(None), self._below_zero)

    def distribute(self, *masses: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the steps; only the recurrent part is a loop."""
        m_outputs = masses[0].to(self.dtype)
        joint = self.joint_step
        quotients = joint.new_quotients()
        kinds = torch.zeros_like(m_outputs[0]).unsqueeze(1)
        for t in range(len(m_outputs) - 1, -1, -1):
            kinds = joint.to_hidden(t, m_outputs[t] + kinds.sum(1), quotients)
        return joint.to_inputs(quotients), receive(self.initial[0], kinds)


def rnn_layer(mode: ExcitationMode, call: LayerCall, is_signed: bool) -> Tensor:
    """Outputs (T, N, H) of one layer, with their rule."""
    (outputs,) = _RNN(mode, call, is_signed).run(call, call.outputs)
    return set_facts(outputs, Facts(non_negative=not is_signed))
