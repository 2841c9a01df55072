"""One forward pass under the mode, and the backward passes of winning probabilities over it."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import disable_saved_tensors_hooks

import captum_ext.excitation.rules  # noqa: F401  (registers the rules)
from captum_ext.excitation.gradients import gradients
from captum_ext.excitation.graph import (
    OutputUnits,
    boundary_calls,
    check_covered,
    check_parallel,
    output_units,
)
from captum_ext.excitation.maps import Kinds, WeightedMap, together
from captum_ext.excitation.mode import ExcitationMode, RecurrentCall, note_origin
from captum_ext.excitation.numerics import UNIT, working_dtype
from captum_ext.excitation.operand import Negative, Recurrence, facts_of
from captum_ext.excitation.weights import WeightCache

__all__ = ["Mass", "Recording", "capture", "record", "unwrap"]

_CHECKPOINTING = (
    "activation checkpointing recomputes layers where Excitation Backprop cannot follow; "
    "switch checkpointing off"
)
_HOOKS_AROUND = (
    "hooks on saved tensors (torch.autograd.graph.saved_tensors_hooks or save_on_cpu) are active around the "
    "call; explain outside of that context"
)
_STANCE = threading.RLock()


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
    # The module may be running in other threads at the same time, for explanations of their own.
    owner = threading.get_ident()

    def keep(value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"the {'input' if of_input else 'output'} of layer {type(module).__name__} is a "
                f"{type(value).__name__}, not a tensor; choose a layer inside or around it"
            )
        # Not the tensor itself, which may be a weight of the model or a state that it keeps.
        calls.append(value.view(value.shape))
        return calls[-1].clone()

    def before(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if threading.get_ident() != owner:
            return None
        if args or not kwargs:
            return (keep(args[0] if args else None), *args[1:]), kwargs
        names = [*inspect.signature(module.forward).parameters, *kwargs]
        first = next(name for name in names if name in kwargs)
        return args, {**kwargs, first: keep(kwargs[first])}

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Tensor | None:
        return keep(output) if threading.get_ident() == owner else None

    handle = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if of_input
        else module.register_forward_hook(after)
    )
    try:
        yield calls
    finally:
        handle.remove()


@dataclass(frozen=True)
class Mass:
    """Winning probabilities at a tensor.

    Args:
        total (Tensor): the mass.
        kinds (tuple, optional): how much of it is known to support values above and below zero, where the
            tensor comes out of a linear map. The rest supports the value as it is.
    """

    total: Tensor
    kinds: Kinds | None = None

    def in_working_dtype(self) -> Mass:
        """The mass in the precision that rules compute in."""
        return Mass(self.total.to(working_dtype(self.total.dtype)), self.kinds)

    def scaled(self, factor: Tensor | float) -> Mass:
        """The mass times a factor that broadcasts."""
        if self.kinds is None:
            return Mass(self.total * factor)
        plus, minus = self.kinds
        return Mass(self.total * factor, (plus * factor, None if minus is None else minus * factor))

    def minus(self, other: Mass) -> Mass:
        """The difference, kind by kind."""
        negated = other.scaled(-1.0)
        kinds = [kinds for kinds in (self.kinds, negated.kinds) if kinds is not None]
        return Mass(self.total + negated.total, together(*kinds) if kinds else None)


class Recording:
    """A forward pass whose graph propagates winning probabilities.

    Args:
        output (Tensor): the selected output units, one per example, (N,).
        mode (ExcitationMode): the mode that was active.
    """

    def __init__(self, output: Tensor, mode: ExcitationMode) -> None:
        self.output = output
        self._mode = mode

    @cached_property
    def _units(self) -> OutputUnits:
        return output_units(self.output)

    @property
    def classifier(self) -> list[WeightedMap]:
        """The last weighted layer on every path to the output, one entry per call."""
        return self._units.classifier

    def at(self, select: Callable[[], Tensor]) -> Recording:
        """The same pass, explained at what ``select`` takes of its output, one entry per example, (N,)."""
        with self._mode:
            selected = select()
        return Recording(selected, self._mode)

    @property
    def classifier_inputs(self) -> list[Tensor]:
        """Inputs of the classifier, one per call; kept only for passes with private inputs."""
        return [self._mode.layer_inputs[linear_map] for linear_map in self.classifier]

    @property
    def boundary(self) -> list[RecurrentCall]:
        """The calls of the lowest recurrent layer."""
        return boundary_calls(self._mode.recurrent_calls)

    def check(self, targets: Sequence[Tensor]) -> None:
        """Raise unless all operations down to ``targets`` have a rule and no target feeds another."""
        check_covered([self.output], targets)
        check_parallel(targets, "the layer")

    def propagate(
        self,
        sources: Sequence[Tensor],
        masses: Sequence[Mass],
        targets: Sequence[Tensor],
        unreachable: str,
        dual: bool = False,
    ) -> list[Mass]:
        """Mass of ``targets`` when ``sources`` hold ``masses`` (eqs. 3, 4 and 9).

        Args:
            sources (Sequence[Tensor]): where the mass starts.
            masses (Sequence[Mass]): the mass there.
            targets (Sequence[Tensor]): where it is read.
            unreachable (str): what to say if no way leads from the sources to any of the targets.
            dual (bool): start from the dual of the output unit: the classifier's weights are negated.
        """
        for linear_map in self._mode.maps:
            linear_map.reset()
        for linear_map in self._units.hidden:
            linear_map.is_output = True
        masses = [mass.scaled(UNIT) for mass in masses]
        # Calls on constants hold no mass, and none arrives at them.
        start = [(s, mass) for s, mass in zip(sources, masses, strict=True) if s.requires_grad]
        for source, mass in start:
            behind = facts_of(source).map
            if behind is not None and mass.kinds is not None:
                behind.deliver(*mass.kinds)
        for linear_map in self.classifier:
            linear_map.is_dual = dual
        try:
            totals = gradients(
                [source for source, _ in start],
                [mass.total.to(source.dtype) for source, mass in start],
                targets,
            )
        finally:
            for linear_map in self.classifier:
                linear_map.is_dual = False
        if all(total is None for total in totals):
            raise ValueError(unreachable)
        return [
            Mass(torch.zeros_like(target) if total is None else total, _delivered(target))
            .in_working_dtype()
            .scaled(1 / UNIT)
            for total, target in zip(totals, targets, strict=True)
        ]


def _delivered(tensor: Tensor) -> Kinds | None:
    behind = facts_of(tensor).map
    return None if behind is None else behind.delivered


@contextmanager
def record(
    model: nn.Module,
    run: Callable[[], Tensor],
    inputs: Sequence[Tensor],
    negative: Negative,
    private_inputs: bool = False,
    recurrence: Recurrence = "value",
    weights: WeightCache | None = None,
) -> Iterator[Recording]:
    """Call ``run``, which runs ``model`` on ``inputs``, under the mode.

    The recording can be used until the context ends. Signed parts of weights are kept in ``weights``.
    """
    mode = ExcitationMode(model, negative, private_inputs, recurrence, weights, inputs)
    try:
        with ExitStack() as stack:
            with disable_saved_tensors_hooks(_HOOKS_AROUND):
                pass
            stack.enter_context(disable_saved_tensors_hooks(_CHECKPOINTING))
            if "torch._dynamo" in sys.modules:
                # Something may have been compiled, be it a function that no module knows of, and compiled
                # code would run past the mode. The stance is that of the whole process.
                stack.enter_context(_STANCE)
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(mode)
            output = run()
            note_origin(output)
        yield Recording(output, mode)
    finally:
        mode.release()
