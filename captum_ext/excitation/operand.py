"""What the engine knows of a tensor that carries evidence, and how its values compete."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.graph import Node

from captum_ext.excitation.numerics import working_dtype

if TYPE_CHECKING:
    from captum_ext.excitation.maps import EvidenceMap

__all__ = [
    "UNKNOWN",
    "Facts",
    "Negative",
    "Operand",
    "Pass",
    "Recurrence",
    "Sign",
    "current_pass",
    "facts_by_output",
    "facts_of",
    "has_facts",
    "metadata",
    "set_facts",
]

Sign = Literal[1, -1]
Negative = Literal["support", "clamp"]
Recurrence = Literal["value", "published"]

_KEY = "captum_ext.excitation"


@dataclass(frozen=True)
class Facts:
    """What is known of a tensor without looking at its values.

    Args:
        map (EvidenceMap, optional): the linear map that produced it, with nothing non-linear behind.
        non_negative (bool): no entry can be below zero.
        gate (bool): it is the output of a sigmoid or softmax, which modulates and receives no mass.
        bias (bool): it is a gate times a constant state, and so a bias wherever it is added.
        unsupported (str, optional): the operation without a rule that produced it.
        foreign (bool): it was produced where the mode does not see operations, as in another thread.
    """

    map: EvidenceMap | None = None
    non_negative: bool = False
    gate: bool = False
    bias: bool = False
    unsupported: str | None = None
    foreign: bool = False


UNKNOWN = Facts()


class Pass:
    """One forward pass: its facts are no facts to a later one, to which what it left behind is a constant.

    Args:
        inputs (Iterable[Tensor]): the explained leaves.
    """

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        self._inputs = {id(tensor) for tensor in inputs}

    def add_input(self, tensor: Tensor) -> None:
        """Count a leaf, which must outlive the pass, among the explained ones."""
        self._inputs.add(id(tensor))

    def __enter__(self) -> Pass:
        _running().append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _running().pop()

    def depends_on_inputs(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` was computed from the explained inputs, as far as is known."""
        if tensor.grad_fn is None:
            return id(tensor) in self._inputs
        noted = _noted(tensor.grad_fn)
        return noted is None or noted.by is self


class _Noted(NamedTuple):
    by: Pass | None
    facts: dict[int, Facts]


_local = threading.local()


def _running() -> list[Pass]:
    if not hasattr(_local, "passes"):
        _local.passes = []
    passes: list[Pass] = _local.passes
    return passes


def current_pass() -> Pass | None:
    """The forward pass that runs in this thread."""
    passes = _running()
    return passes[-1] if passes else None


def facts_of(tensor: Tensor) -> Facts:
    """The facts recorded for ``tensor``; an in-place change gives it a new node and so forgets them."""
    node = tensor.grad_fn
    if node is None:
        return UNKNOWN
    return facts_by_output(node).get(tensor.output_nr, UNKNOWN)


def has_facts(tensor: Tensor) -> bool:
    """Whether facts are recorded for ``tensor``; there is nothing to record of leaves."""
    return tensor.grad_fn is None or tensor.output_nr in facts_by_output(tensor.grad_fn)


def set_facts(tensor: Tensor, facts: Facts) -> Tensor:
    """Record ``facts`` on the autograd node of ``tensor`` and return it."""
    if tensor.grad_fn is not None:
        noted, now = _noted(tensor.grad_fn), current_pass()
        if noted is None or (now is not None and noted.by is not now):
            noted = _Noted(now, {})
            metadata(tensor.grad_fn)[_KEY] = noted
        noted.facts[tensor.output_nr] = facts
    return tensor


def facts_by_output(node: Node) -> dict[int, Facts]:
    """The facts of the outputs of an autograd node, by output number."""
    noted, now = _noted(node), current_pass()
    return {} if noted is None or (now is not None and noted.by is not now) else noted.facts


def _noted(node: Node) -> _Noted | None:
    noted: _Noted | None = metadata(node).get(_KEY)
    return noted


def metadata(node: Node) -> dict[Any, Any]:
    """What is kept with an autograd node for as long as it lives."""
    # torch's stubs call the property a method.
    return cast("dict[Any, Any]", node.metadata)


class Operand:
    """A child of a linear map.

    Its value is split into the part that pulls a parent up and the part that pulls it down, so that a child
    shares a parent's mass with the part that supports the parent's state. Where the child is itself the
    output of a linear map, with nothing in between, the two are one map, and the child competes with its own
    supporting input and not with its net value.
    """

    def __init__(self, tensor: Tensor, negative: Negative) -> None:
        facts = facts_of(tensor)
        # Not the tensor itself: an in-place operation could put this operand above it, and keep both alive.
        self.value = tensor.detach()
        self.device = tensor.device
        self.is_evidence = tensor.requires_grad
        self.map = facts.map
        self.shape = tensor.shape
        self.dtype = working_dtype(tensor.dtype)
        self._non_negative = facts.non_negative
        self._clamp = negative == "clamp"
        self._version = tensor._version

    def forget_net_value(self) -> None:
        """Let the memory go if the child competes with its supporting input."""
        if self.map is not None:
            self.value = self.value.new_empty(0)

    def part(self, sign: Sign) -> Tensor | None:
        """The part of the child that pulls a positively connected parent towards ``sign``; None if empty."""
        if sign < 0 and self._non_negative:
            return None
        if self.map is not None:
            return self.map.support(sign).to(self.dtype)
        if sign < 0 and self._clamp:
            return None
        if self.value._version != self._version:
            raise RuntimeError(
                "an activation was changed in place after it had been used by a layer, so its Excitation "
                "Backprop rule cannot be evaluated; clone the tensor before the in-place operation"
            )
        value = self.value.to(self.dtype)
        if self._non_negative:
            return value
        return value.clamp(min=0) if sign > 0 else (-value).clamp(min=0)

    def part_or_zeros(self, sign: Sign) -> Tensor:
        """Like :meth:`part`, with zeros for an empty part."""
        part = self.part(sign)
        return torch.zeros(self.shape, dtype=self.dtype, device=self.device) if part is None else part

    def receive(self, plus: Tensor, minus: Tensor | None) -> Tensor:
        """Take mass that supports the child's positive and negative part; returns the total for autograd."""
        if self.map is not None:
            self.map.deliver(plus, minus)
        return plus if minus is None else plus + minus
