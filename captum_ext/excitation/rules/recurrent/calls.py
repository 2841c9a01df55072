"""What torch runs as one call (all layers, directions, steps), taken apart into layers in one direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ext.excitation.errors import UnsupportedOperationError
from captum_ext.excitation.mode import (
    Args,
    ExcitationMode,
    Kwargs,
    RecurrentCall,
    constant,
    is_evidence,
    rule,
)
from captum_ext.excitation.relu_lstm import relu_lstm
from captum_ext.excitation.rules.recurrent.gru import gru_layer
from captum_ext.excitation.rules.recurrent.layer import LayerCall, Weights
from captum_ext.excitation.rules.recurrent.lstm import Activation, lstm_layer
from captum_ext.excitation.rules.recurrent.published import published_lstm_layer
from captum_ext.excitation.rules.recurrent.rnn import rnn_layer
from captum_ext.excitation.rules.recurrent.steps import EqualSteps, PackedSteps, Steps

__all__: list[str] = []

Run = Callable[[ExcitationMode, LayerCall], tuple[Tensor, ...]]
_CONSTANT_WEIGHTS = "its weights depend on the explained input"


def _lstm(phi: Activation) -> Run:
    def run(mode: ExcitationMode, call: LayerCall) -> tuple[Tensor, ...]:
        if mode.recurrence == "value":
            return lstm_layer(mode, call, phi)
        if call.weights.hr is not None:
            raise _not_published(mode, "LSTMs with projections")
        return published_lstm_layer(mode, call, phi)

    return run


def _gru(mode: ExcitationMode, call: LayerCall) -> tuple[Tensor, ...]:
    if mode.recurrence == "published":
        raise _not_published(mode, "GRUs")
    return (gru_layer(mode, call),)


def _rnn(is_signed: bool) -> Run:
    def run(mode: ExcitationMode, call: LayerCall) -> tuple[Tensor, ...]:
        if mode.recurrence == "published":
            raise _not_published(mode, "plain recurrent layers")
        return (rnn_layer(mode, call, is_signed),)

    return run


def _not_published(mode: ExcitationMode, what: str) -> UnsupportedOperationError:
    return UnsupportedOperationError(
        f"recurrence='published' is only known for LSTMs (nn.LSTM, nn.LSTMCell, ReLULSTM), not for {what}, "
        f"one of which runs in {mode.module_path()}; use recurrence='value'"
    )


# ------------------------------------------------------------------------------------------------ layers


@dataclass(frozen=True)
class _Layers:
    """The arguments of ``torch.lstm``, ``torch.gru`` and ``torch.rnn_*``."""

    func: Callable[..., Any]
    states: tuple[Tensor, ...]
    parameters: Sequence[Tensor]
    has_biases: bool
    n_layers: int
    bidirectional: bool
    batch_sizes: Tensor | None

    @property
    def n_directions(self) -> int:
        return 2 if self.bidirectional else 1

    def weights(self, k: int) -> list[Tensor]:
        """The parameters of layer and direction k, in torch's order."""
        n = len(self.parameters) // (self.n_layers * self.n_directions)
        return list(self.parameters[k * n : (k + 1) * n])

    def call(self, k: int, steps: Steps, x: Tensor) -> LayerCall:
        """Run layer and direction k as it is."""
        initial, weights = tuple(state[k] for state in self.states), self.weights(k)
        with torch.no_grad():
            hidden = tuple(state[None].contiguous() for state in initial)
            batch = () if self.batch_sizes is None else (self.batch_sizes,)
            batch_first = (False,) if self.batch_sizes is None else ()
            outputs, _, *last = self.func(
                steps.pack(x),
                *batch,
                hidden if len(hidden) > 1 else hidden[0],
                weights,
                self.has_biases,
                1,
                0.0,
                False,
                False,
                *batch_first,
            )
            outputs = steps.unpack(outputs)
        ih, hh, *rest = weights
        biases, projection = (rest[:2], rest[2:]) if self.has_biases else ([], rest)
        return LayerCall(
            x,
            initial,
            Weights(ih, hh, tuple(biases), *projection),
            outputs,
            tuple(state[0].clone() for state in last),
            steps.ended,
        )


def _layers(run: Run) -> Callable[..., Any]:
    def rule_of_layers(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        if len(args) != 9 or kwargs:
            return mode.run_without_rule(func, args, kwargs, "only calls as torch.nn makes them have a rule")
        is_packed = isinstance(args[3], list | tuple)
        batch_first = not is_packed and args[8]
        x, batch_sizes = args[0], args[1] if is_packed else None
        initial, parameters, has_biases, n_layers, dropout, training, bidirectional = (
            args[2:] if is_packed else args[1:8]
        )
        if is_evidence(parameters):
            return mode.run_without_rule(func, args, kwargs, _CONSTANT_WEIGHTS)
        if dropout > 0 and training and n_layers > 1:
            raise ValueError(
                f"dropout between recurrent layers is in training mode in {mode.module_path()}: the "
                "explanation would be random; call model.eval() first"
            )
        states = constant(tuple(initial) if isinstance(initial, list | tuple) else (initial,))
        layers = _Layers(func, states, parameters, has_biases, n_layers, bidirectional, batch_sizes)
        steps: Steps = EqualSteps() if batch_sizes is None else PackedSteps(batch_sizes, x.device)
        mode.recurrent_calls.append(RecurrentCall(x, None if is_packed else 0 if batch_first else 1))
        # The mode is off while one of its rules runs; on again, it follows the entries that move here.
        with mode:
            outputs, *last = _run_layers(
                mode, run, layers, steps, steps.unpack(x.transpose(0, 1) if batch_first else x)
            )
            outputs = steps.pack(outputs)
            return outputs.transpose(0, 1) if batch_first else outputs, *last

    return rule_of_layers


def _run_layers(
    mode: ExcitationMode, run: Run, layers: _Layers, steps: Steps, sequence: Tensor
) -> tuple[Tensor, ...]:
    last: list[tuple[Tensor, ...]] = []
    for index in range(layers.n_layers):
        directions = []
        for direction in range(layers.n_directions):
            x = steps.reverse(sequence) if direction else sequence
            call = layers.call(index * layers.n_directions + direction, steps, x)
            outputs, *states = run(mode, call)
            last.append((steps.last(outputs), *states))
            directions.append(steps.reverse(outputs) if direction else outputs)
        sequence = torch.cat(directions, dim=-1) if len(directions) > 1 else directions[0]
    return sequence, *(torch.stack(states) for states in zip(*last, strict=True))


rule(torch.lstm)(_layers(_lstm(torch.tanh)))
rule(torch.gru)(_layers(_gru))
rule(torch.rnn_tanh)(_layers(_rnn(is_signed=True)))
rule(torch.rnn_relu)(_layers(_rnn(is_signed=False)))


@rule(relu_lstm)
def relu_lstm_layer(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """The LSTM with ReLU, whose states are non-negative."""
    x, h_0, c_0, weight_ih, weight_hh, bias = args
    if is_evidence(weight_ih, weight_hh, bias):
        return mode.run_without_rule(func, args, kwargs, _CONSTANT_WEIGHTS)
    mode.recurrent_calls.append(RecurrentCall(x, batch_axis=0))
    with torch.no_grad():
        outputs, _, c_n = func(*args)
    with mode:
        call = LayerCall(
            x.transpose(0, 1),
            (constant(h_0), constant(c_0)),
            Weights(weight_ih, weight_hh, () if bias is None else (bias,)),
            outputs.transpose(0, 1).clone(),
            (c_n.clone(),),
        )
        y, c = _lstm(torch.relu)(mode, call)
        return y.transpose(0, 1), y[-1], c


# ------------------------------------------------------------------------------------------------- cells


def _cell(run: Run) -> Callable[..., Any]:
    def rule_of_cell(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
        """A sequence of one step."""
        if kwargs or is_evidence(args[2:]):
            why = _CONSTANT_WEIGHTS if not kwargs else "only positional arguments have a rule"
            return mode.run_without_rule(func, args, kwargs, why)
        x, initial, weight_ih, weight_hh, *biases = args
        states = constant(tuple(initial) if isinstance(initial, list | tuple) else (initial,))
        mode.recurrent_calls.append(RecurrentCall(x, batch_axis=0))
        with torch.no_grad():
            result = func(*args)
        h, *last = result if isinstance(result, tuple) else (result,)
        weights = Weights(weight_ih, weight_hh, tuple(bias for bias in biases if bias is not None))
        with mode:
            outputs, *last = run(mode, LayerCall(x[None], states, weights, h[None].clone(), tuple(last)))
            return (outputs[0], *last) if last else outputs[0]

    return rule_of_cell


rule(torch.lstm_cell)(_cell(_lstm(torch.tanh)))
rule(torch.gru_cell)(_cell(_gru))
rule(torch.rnn_tanh_cell)(_cell(_rnn(is_signed=True)))
rule(torch.rnn_relu_cell)(_cell(_rnn(is_signed=False)))
