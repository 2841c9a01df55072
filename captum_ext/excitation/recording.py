"""One forward pass under the mode, and the backward passes of winning probabilities over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import disable_saved_tensors_hooks

import captum_ext.excitation.rules  # noqa: F401  (registers the rules)
from captum_ext.excitation.graph import boundary_calls, check_covered, classifier_calls
from captum_ext.excitation.maps import WeightedMap
from captum_ext.excitation.mode import ExcitationMode, RecurrentCall, read_as_state
from captum_ext.excitation.operand import Negative, Operand

__all__ = ["Recording", "capture", "record", "unwrap"]

_CHECKPOINTING = (
    "activation checkpointing recomputes layers where Excitation Backprop cannot follow; "
    "switch checkpointing off"
)


def unwrap(model: nn.Module) -> nn.Module:
    """The plain module inside a compiled or (distributed) data parallel one."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


@contextmanager
def capture(module: nn.Module, of_input: bool = False) -> Iterator[list[Tensor]]:
    """Collect the output (or the first input) of every call of ``module``, in order.

    The model goes on with a copy, so that in-place operations cannot reach what was collected.
    """
    calls: list[Tensor] = []

    def keep(value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"the {'input' if of_input else 'output'} of layer {type(module).__name__} is a "
                f"{type(value).__name__}, not a tensor; choose a layer inside or around it"
            )
        calls.append(value)
        return value.clone()

    def before(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (keep(args[0] if args else None), *args[1:])

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Tensor:
        return keep(output)

    handle = module.register_forward_pre_hook(before) if of_input else module.register_forward_hook(after)
    try:
        yield calls
    finally:
        handle.remove()


class Recording:
    """A forward pass whose graph propagates winning probabilities.

    Args:
        output (Tensor): the selected output units, one per example, (N,).
        mode (ExcitationMode): the mode that was active.
    """

    def __init__(self, output: Tensor, mode: ExcitationMode) -> None:
        self.output = output
        self._mode = mode
        self.classifier: list[WeightedMap] = classifier_calls(output)

    @property
    def classifier_inputs(self) -> list[Operand]:
        """Inputs of the classifier, one per call."""
        return [linear_map.operands[0] for linear_map in self.classifier]

    @property
    def boundary(self) -> list[RecurrentCall]:
        """The calls of the lowest recurrent layer."""
        return boundary_calls(self._mode.recurrent_calls)

    def check(self, targets: Sequence[Tensor]) -> None:
        """Raise unless all operations between the output and ``targets`` have a rule."""
        check_covered([self.output], targets)

    def propagate(
        self,
        sources: Sequence[Tensor],
        masses: Sequence[Tensor],
        targets: Sequence[Tensor],
        dual: bool = False,
    ) -> list[Tensor]:
        """Mass of ``targets`` when ``sources`` hold ``masses`` (eqs. 3, 4 and 9).

        Args:
            sources (Sequence[Tensor]): where the mass starts.
            masses (Sequence[Tensor]): the mass there, of the same shapes.
            targets (Sequence[Tensor]): where it is read.
            dual (bool): start from the dual of the output unit: the classifier's weights are negated.
        """
        # Where mass starts inside the network, it supports the state found there.
        read_as_state(*sources)
        for linear_map in self._mode.maps:
            linear_map.reset()
        for linear_map in self.classifier:
            linear_map.is_dual = dual
        try:
            found = torch.autograd.grad(sources, targets, masses, retain_graph=True, allow_unused=True)
        finally:
            for linear_map in self.classifier:
                linear_map.is_dual = False
        return [
            torch.zeros_like(target) if mass is None else mass
            for mass, target in zip(found, targets, strict=True)
        ]


def record(
    model: nn.Module, run: Callable[[], Tensor], negative: Negative, private_inputs: bool = False
) -> Recording:
    """Call ``run``, which runs ``model`` and selects one output unit per example, under the mode."""
    mode = ExcitationMode(model, negative, private_inputs)
    with ExitStack() as stack:
        stack.enter_context(disable_saved_tensors_hooks(_CHECKPOINTING))
        stack.enter_context(mode)
        output = run()
    return Recording(output, mode)
