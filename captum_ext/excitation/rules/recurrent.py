"""LSTM layers and cells, along the value path.

h_t = o_t phi(c_t) gives all its mass to c_t. c_t = f_t c_{t-1} + i_t g_t shares it between the two summands.
g_t = phi(W_g x_t + U_g h_{t-1} + b_g) shares its part over x_t and h_{t-1} jointly, by the rule of linear
maps. The gates i, f and o modulate and receive nothing. Constant initial states are biases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.functions import LSTMFunction, States
from captum_ext.excitation.mode import (
    Args,
    ExcitationMode,
    Kwargs,
    RecurrentCall,
    constant,
    is_evidence,
    read_as_state,
    rule,
)
from captum_ext.excitation.numerics import safe_divide
from captum_ext.excitation.operand import Facts, facts_of, set_facts
from captum_ext.excitation.relu_lstm import relu_lstm

__all__: list[str] = []

Activation = Callable[[Tensor], Tensor]


class _Children:
    """Children of the cell input g_t (x_t or h_{t-1}), split by sign, with their weights split by sign."""

    def __init__(self, up: Tensor, down: Tensor | None, weight: Tensor) -> None:
        self._up, self._down = up, down
        self._weight = {1: weight.clamp(min=0), -1: (-weight).clamp(min=0)}

    def support(self, sign: int) -> Tensor:
        """Their part of the denominator for parents whose state has ``sign``, (T, N, H)."""
        support = F.linear(self._up, self._weight[sign])
        return support if self._down is None else support + F.linear(self._down, self._weight[-sign])

    def share(
        self, plus: Tensor, minus: Tensor | None, t: int | slice = slice(None)
    ) -> tuple[Tensor, Tensor | None]:
        """Mass of the positive and of the negative children at the steps ``t``."""
        up = self._up[t] * self._pull(plus, minus, 1)
        return up, None if self._down is None else self._down[t] * self._pull(plus, minus, -1)

    def _pull(self, plus: Tensor, minus: Tensor | None, sign: int) -> Tensor:
        pull = plus @ self._weight[sign]
        return pull if minus is None else pull + minus @ self._weight[-sign]


class _LSTMLayer:
    """The rule of one layer in one direction, on time-major sequences.

    Shape:
        x (T, N, D), outputs (T, N, H), states (N, H).
    """

    def __init__(
        self,
        mode: ExcitationMode,
        x: Tensor,
        h_0: Tensor,
        c_0: Tensor,
        weights: Sequence[Tensor],
        phi: Activation,
    ) -> None:
        self.x = mode.operand(x)
        # Whether a state competes: a constant one is a bias, it takes no part in the competition.
        self.initial = [(state.detach(), is_evidence(state)) for state in (h_0, c_0)]
        self.weights = tuple(constant(weight) for weight in weights)
        self.outputs: Tensor | None = None
        self._phi, self._clamp = phi, mode.clamp

    def distribute(self, m_outputs: Tensor, m_h: Tensor, m_c: Tensor) -> States:
        """Mass of x, h_0 and c_0 from the mass of the outputs and of the last states."""
        assert self.outputs is not None  # noqa: S101
        dtype = self.x.dtype
        (h_0, h_competes), (c_0, c_competes) = ((state.to(dtype), own) for state, own in self.initial)
        h_before = torch.cat([h_0[None], self.outputs.to(dtype)[:-1]])
        carried, entered, g = self._cell_shares(h_before, c_0, c_competes)
        if not h_competes:
            h_before[0] = 0.0

        weight_ih, weight_hh = (weight.to(dtype).chunk(4)[2] for weight in self.weights[:2])
        signed = self._phi is torch.tanh and not self._clamp
        h_down = (-h_before).clamp(min=0) if signed or (h_competes and not self._clamp) else None
        inputs = self._inputs(weight_ih)
        hidden = _Children(h_before.clamp(min=0), h_down, weight_hh)
        # The support of g_t counts both kinds of children jointly.
        support = inputs.support(1) + hidden.support(1)
        below_zero = (g < 0) if signed else None
        if below_zero is not None:
            support = torch.where(below_zero, inputs.support(-1) + hidden.support(-1), support)

        quotients = torch.empty_like(g)
        m_hidden, m_cell = m_h.to(dtype), m_c.to(dtype)
        for t in range(len(g) - 1, -1, -1):
            m_cell = m_cell + m_hidden + m_outputs[t].to(dtype)
            quotients[t] = safe_divide(m_cell * entered[t], support[t])
            plus, minus = _by_sign(quotients[t], None if below_zero is None else below_zero[t])
            up, down = hidden.share(plus, minus, t)
            m_hidden = up if down is None else up + down
            m_cell = m_cell * carried[t]
        m_x = self.x.receive(*inputs.share(*_by_sign(quotients, below_zero)))
        return m_x, m_hidden, m_cell

    def _inputs(self, weight: Tensor) -> _Children:
        """The children x_t; a constant sequence is a bias."""
        if not self.x.is_evidence:
            return _Children(torch.zeros_like(self.x.value, dtype=self.x.dtype), None, weight)
        return _Children(self.x.part_or_zeros(1), self.x.part(-1), weight)

    def _cell_shares(self, h_before: Tensor, c_0: Tensor, c_competes: bool) -> States:
        """Shares of f c_{t-1} and of i g in the state c_t, and g itself, all (T, N, H)."""
        x = self.x.value.to(h_before.dtype)
        weight_ih, weight_hh, *biases = (weight.to(h_before.dtype) for weight in self.weights)
        bias = sum(biases[1:], biases[0]) if biases else None
        i, f, g, _ = (F.linear(x, weight_ih, bias) + F.linear(h_before, weight_hh)).chunk(4, dim=-1)
        forget, new = f.sigmoid(), i.sigmoid() * self._phi(g)
        carried, entered = torch.zeros_like(new), torch.zeros_like(new)
        c = c_0
        for t in range(len(x)):
            old = forget[t] * c
            c = old + new[t]
            sign = 1.0 if self._clamp else torch.where(c < 0, -1.0, 1.0).to(c.dtype)
            a = (sign * old).clamp(min=0) if t > 0 or c_competes else torch.zeros_like(old)
            b = (sign * new[t]).clamp(min=0)
            carried[t], entered[t] = safe_divide(a, a + b), safe_divide(b, a + b)
        return carried, entered, g


def _by_sign(quotients: Tensor, below_zero: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if below_zero is None:
        return quotients, None
    return quotients.masked_fill(below_zero, 0.0), quotients.masked_fill(~below_zero, 0.0)


def _run_layer(
    mode: ExcitationMode,
    x: Tensor,
    h_0: Tensor,
    c_0: Tensor,
    weights: Sequence[Tensor],
    phi: Activation,
    compute: Callable[[], States],
) -> States:
    read_as_state(h_0, c_0)
    layer = _LSTMLayer(mode, x, h_0, c_0, weights, phi)
    states: States = LSTMFunction.apply(layer, compute, x, h_0, c_0)
    for state in states:
        set_facts(state, Facts(non_negative=phi is torch.relu))
    return states


@rule(torch.lstm)
def lstm(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """nn.LSTM, layer by layer and direction by direction."""
    if len(args) != 9 or kwargs or not isinstance(args[1], list | tuple):
        return mode.run_without_rule(
            func, args, kwargs, "packed sequences have no rule yet; pass padded ones"
        )
    x, (h_0, c_0), parameters, has_biases, n_layers, dropout, training, bidirectional, batch_first = args
    n_directions = 2 if bidirectional else 1
    per_layer = 4 if has_biases else 2
    if len(parameters) != per_layer * n_layers * n_directions:
        return mode.run_without_rule(func, args, kwargs, "LSTMs with projections have no rule yet")
    if dropout > 0 and training and n_layers > 1:
        raise ValueError(
            f"dropout between LSTM layers is in training mode in {mode.module_path()}: the explanation would "
            "be random; call model.eval() first"
        )
    mode.recurrent_calls.append(RecurrentCall(x, batch_axis=0 if batch_first else 1))
    sequence = x
    if batch_first:
        sequence = mode.rearrange(x.transpose(0, 1), [x], lambda t: t.transpose(0, 1), facts_of(x))
    last_h, last_c = [], []
    for index in range(n_layers):
        directions = []
        for direction in range(n_directions):
            k = index * n_directions + direction
            weights = parameters[k * per_layer : (k + 1) * per_layer]
            step = _flip(mode, sequence) if direction else sequence

            def compute(step: Tensor = step, k: int = k, weights: Sequence[Tensor] = weights) -> States:
                states = h_0[k : k + 1].detach().contiguous(), c_0[k : k + 1].detach().contiguous()
                y, h, c = func(step.detach(), states, list(weights), has_biases, 1, 0.0, False, False, False)
                return y, h[0], c[0]

            y, h, c = _run_layer(mode, step, h_0[k], c_0[k], weights, torch.tanh, compute)
            directions.append(y.flip(0) if direction else y)
            last_h.append(h)
            last_c.append(c)
        sequence = torch.cat(directions, dim=-1) if len(directions) > 1 else directions[0]
    outputs = sequence.transpose(0, 1) if batch_first else sequence
    return outputs, torch.stack(last_h), torch.stack(last_c)


def _flip(mode: ExcitationMode, sequence: Tensor) -> Tensor:
    return mode.rearrange(sequence.flip(0), [sequence], lambda t: t.flip(0), facts_of(sequence))


@rule(relu_lstm)
def relu_lstm_layer(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """The LSTM with ReLU, whose states are non-negative."""
    x, h_0, c_0, weight_ih, weight_hh, bias = args
    mode.recurrent_calls.append(RecurrentCall(x, batch_axis=0))
    steps = mode.rearrange(x.transpose(0, 1), [x], lambda t: t.transpose(0, 1), facts_of(x))

    def compute() -> States:
        y, h, c = func(*(None if a is None else a.detach() for a in args))
        return y.transpose(0, 1).contiguous(), h, c

    weights = [w for w in (weight_ih, weight_hh, bias) if w is not None]
    y, h, c = _run_layer(mode, steps, h_0, c_0, weights, torch.relu, compute)
    return set_facts(y.transpose(0, 1), Facts(non_negative=True)), h, c


@rule(torch.lstm_cell)
def lstm_cell(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """nn.LSTMCell: a sequence of one step."""
    x, (h_0, c_0), *weights = args
    weights = [weight for weight in weights if weight is not None]
    mode.recurrent_calls.append(RecurrentCall(x, batch_axis=0))
    step = mode.rearrange(x[None], [x], lambda t: t[None], facts_of(x))

    def compute() -> States:
        h, c = func(x.detach(), (h_0.detach(), c_0.detach()), *(constant(a) for a in args[2:]))
        return h[None], h.clone(), c

    _, h, c = _run_layer(mode, step, h_0, c_0, weights, torch.tanh, compute)
    return h, c
