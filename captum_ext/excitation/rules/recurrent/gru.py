r"""The GRU.

:math:`h_t = (1 - z_t) n_t + z_t h_{t-1}` shares its mass between its two summands.
:math:`n_t = \tanh(W_n x_t + b_n + r_t (U_n h_{t-1} + b_{hn}))` shares its part over :math:`x_t` and
:math:`h_{t-1}` jointly, with weights :math:`W_n` and :math:`r_t U_n`. The sum is a linear map, one with the
maps that read :math:`h_t`: there its two summands compete, each by its own sign.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.maps import SumMap
from captum_ext.excitation.mode import ExcitationMode, read_as_state
from captum_ext.excitation.numerics import safe_divide
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

__all__ = ["gru_layer"]


class _GRU(ValueLayer):
    """The rule between the summands (1 - z) n and z h_{t-1} and the inputs."""

    def __init__(self, mode: ExcitationMode, call: LayerCall) -> None:
        super().__init__(mode, call)
        self._signs = POSITIVE if self.clamp else BOTH
        x = self.x.value.to(self.dtype)
        ih, hh = (weight.detach().to(self.dtype) for weight in (call.weights.ih, call.weights.hh))
        b_ih, b_hh = self.biases()
        r, z, n = F.linear(x, ih, b_ih).chunk(3, dim=-1)
        r_h, z_h, n_h = F.linear(self.h_before, hh, b_hh).chunk(3, dim=-1)
        self._reset = (r + r_h).sigmoid()
        update, self._n = (z + z_h).sigmoid(), torch.tanh(n + self._reset * n_h)
        self.entered, self.kept = (1 - update) * self._n, update * self.h_before
        if not self.initial[0].is_evidence:
            self.kept[0] = 0.0  # a bias

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor]:
        """Supports of (1 - z) n and of z h_{t-1} by sign, (T, N, S, H)."""
        return by_sign(self.entered, self._signs), by_sign(self.kept, self._signs)

    @cached_property
    def _shares(self) -> tuple[Tensor, Tensor]:
        entered, kept = self._parts
        return safe_divide(entered, entered + kept), safe_divide(kept, entered + kept)

    def _joint_step(self) -> JointStep:
        size, (entered, kept) = self._n.shape[-1], self._parts
        return JointStep(
            self.x,
            join_steps(parts_of(self.initial[0]), (entered + kept)[:-1]),
            self.signed,
            slice(2 * size, 3 * size),
            None if self.clamp else self._n < 0,
            gate=self._reset,
        )

    def distribute(self, *masses: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the steps; only the recurrent part is a loop."""
        m_entered, m_kept = (mass.to(self.dtype) for mass in masses)
        joint, (entered, kept) = self.joint_step, self._shares
        quotients = joint.new_quotients()
        # z h_{t-1} reads h_{t-1} as a state: its mass supports the sign that h_{t-1} has.
        below_zero = self.h_before < 0
        own = torch.stack([~below_zero, below_zero], dim=2) if len(self._signs) > 1 else None
        kinds = torch.zeros_like(entered[0])
        for t in range(len(entered) - 1, -1, -1):
            stays = m_kept[t] + (kinds * kept[t]).sum(1)
            kinds = joint.to_hidden(t, m_entered[t] + (kinds * entered[t]).sum(1), quotients)
            if t > 0:
                as_state = stays.unsqueeze(1)
                kinds = kinds[:, : len(self._signs)] + (as_state if own is None else as_state * own[t])
        return joint.to_inputs(quotients), receive(self.initial[0], kinds) + stays


def gru_layer(mode: ExcitationMode, call: LayerCall) -> Tensor:
    """Outputs (T, N, H) of one layer, with their rule."""
    read_as_state(*call.initial)
    with torch.autocast(call.x.device.type, enabled=False):
        layer = _GRU(mode, call)
    entered, kept = layer.run(call, layer.entered.clone(), layer.kept.clone())
    both = SumMap(mode.operand(entered), mode.operand(kept), (1, 1), mode.clamp)
    return mode.propagate(both, lambda *_: call.outputs, entered, kept)
