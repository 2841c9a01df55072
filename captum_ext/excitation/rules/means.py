"""Weighted means that are written as a step: a + g (b - a) is (1 - g) a + g b, whose children are a and b."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

from captum_ext.excitation.mode import ExcitationMode, is_evidence
from captum_ext.excitation.rules.entries import copies, same_entries

__all__ = ["ends_of_mean", "note_difference", "note_step"]


@dataclass(frozen=True)
class _End:
    """One side of a difference, as it was."""

    tensor: Tensor
    coefficient: float
    version: int

    def is_same(self, other: Any) -> bool:
        if not isinstance(other, Tensor) or self.tensor._version != self.version:
            return False
        if is_evidence(self.tensor) and is_evidence(other):
            return other.shape == self.tensor.shape and same_entries(other, self.tensor)
        return other is self.tensor


@dataclass(frozen=True)
class _Steps:
    differences: dict[Node, tuple[_End, _End]] = field(default_factory=dict)
    gated: dict[Node, tuple[tuple[_End, _End], Tensor, int]] = field(default_factory=dict)


def note_difference(
    mode: ExcitationMode, output: Tensor, operands: Sequence[Any], coefficients: tuple[float, float]
) -> Tensor:
    """Remember what ``output`` is the difference of, for as long as the pass lasts."""
    first, second = operands
    if sorted(coefficients) == [-1, 1] and isinstance(first, Tensor) and isinstance(second, Tensor):
        node = output.grad_fn
        assert node is not None  # noqa: S101
        ends = (
            _End(first, coefficients[0], first._version),
            _End(second, coefficients[1], second._version),
        )
        mode.notes(_Steps).differences[node] = ends
    return output


def note_step(mode: ExcitationMode, output: Tensor, value: Tensor, gate: Tensor) -> Tensor:
    """Remember that ``output`` is a gate times a value, if the value is a difference."""
    steps = mode.notes(_Steps)
    ends = next((steps.differences[node] for node in copies(value) if node in steps.differences), None)
    if ends is not None and output.grad_fn is not None:
        steps.gated[output.grad_fn] = ends, gate, gate._version
    return output


def ends_of_mean(
    mode: ExcitationMode, first: Any, second: Any, coefficients: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """What the sum of ``first`` and ``second`` is a mean of, (a, b, g); None if it is none."""
    steps = mode.notes(_Steps)
    forward, backward = (first, second, *coefficients), (second, first, *coefficients[::-1])
    for start, step, one, sign in (forward, backward):
        nodes = copies(step) if isinstance(step, Tensor) and is_evidence(step) else []
        found = next((steps.gated[node] for node in nodes if node in steps.gated), None)
        if found is None or one != 1 or abs(sign) != 1:
            continue
        ends, gate, version = found
        for own, other in (ends, ends[::-1]):
            # What the start loses is what the other end gains.
            unchanged = gate._version == version and other.tensor._version == other.version
            if unchanged and sign * own.coefficient == -1 and own.is_same(start):
                return start, other.tensor, gate
    return None
