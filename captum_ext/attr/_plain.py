"""A forward pass as torch runs it, for the methods that need scores, activations and gradients only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ext._compat import TargetType, select_targets
from captum_ext.attr._forward import (
    Captured,
    check_output,
    check_ran,
    check_running_statistics,
    run_on_copies,
)
from captum_ext.attr._random_numbers import no_random_numbers
from captum_ext.excitation import capture, unwrap
from captum_ext.excitation.gradients import gradients

__all__ = ["PlainPass", "RecurrenceWithoutCudnn", "plain_pass"]

_RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


class RecurrenceWithoutCudnn(TorchFunctionMode):
    """Keeps recurrent layers off cuDNN, whose backward pass refuses layers in evaluation mode.

    Convolutions stay on it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func not in _RECURRENT:
            return func(*args, **(kwargs or {}))
        enabled = torch.backends.cudnn.enabled
        torch.backends.cudnn.enabled = False
        try:
            return func(*args, **(kwargs or {}))
        finally:
            torch.backends.cudnn.enabled = enabled


@dataclass(frozen=True)
class PlainPass:
    """One forward pass.

    Args:
        inputs (tuple[Tensor, ...]): the leaves that stand for the explained inputs.
        calls (Mapping[str, list[Tensor]]): the calls of each captured layer, in order.
        output (Tensor): all scores, as the model returned them.
        selected (Tensor): the score of each example that the target selects.
    """

    inputs: tuple[Tensor, ...]
    calls: Mapping[str, list[Tensor]]
    output: Tensor
    selected: Tensor

    @property
    def n_examples(self) -> int:
        """N."""
        return self.inputs[0].shape[0]

    def gradients(self, at: Sequence[Tensor], what: str) -> list[Tensor]:
        """Gradients of the selected scores by some tensors."""
        found = gradients([self.selected], [torch.ones_like(self.selected)], at)
        if all(gradient is None for gradient in found):
            raise ValueError(
                f"no gradient reaches {what} from the output: it does not lie between the output and the "
                "inputs, or a part of the model in between is detached"
            )
        return [
            torch.zeros_like(tensor) if gradient is None else gradient
            for gradient, tensor in zip(found, at, strict=True)
        ]


@contextmanager
def plain_pass(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    target: TargetType,
    additional_forward_args: object,
    captured: Mapping[str, Captured],
    differentiable: bool = True,
) -> Iterator[PlainPass]:
    """Run the model on detached copies of checked inputs, gradients on or off, whatever the caller's mode."""
    model = unwrap(model)
    check_running_statistics(model)
    with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
        leaves = tuple(x.detach().clone().requires_grad_(differentiable) for x in inputs)
        run = run_on_copies(model, leaves, additional_forward_args)
        with ExitStack() as scopes:
            scopes.enter_context(no_random_numbers(leaves[0].device, run))
            if differentiable:
                scopes.enter_context(RecurrenceWithoutCudnn())
            calls = {
                name: scopes.enter_context(capture(item.layer, item.of_input))
                for name, item in captured.items()
            }
            output = run()
        selected = select_targets(output, target)
        check_output(selected, len(leaves[0]), differentiable)
        check_ran(calls, captured)
        yield PlainPass(leaves, calls, output, selected)
