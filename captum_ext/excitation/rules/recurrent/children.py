"""The linear maps inside a recurrent layer: who competes, and by which weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.numerics import safe_divide
from captum_ext.excitation.operand import Operand, Sign
from captum_ext.excitation.weights import SignedWeight

__all__ = [
    "BOTH",
    "POSITIVE",
    "Children",
    "JointStep",
    "by_sign",
    "is_of_layers",
    "join_steps",
    "parts_of",
    "receive",
]

POSITIVE: tuple[Sign, ...] = (1,)
BOTH: tuple[Sign, ...] = (1, -1)


class Children:
    """The children of a linear map at all steps of a sequence.

    Args:
        parts (Tensor): their positive and, where there are any, their negative parts.
        weight (SignedWeight): the weights, (H, D), or with more rows of which only some are used.
        rows (slice): those rows.
        parents (tuple[Sign, ...]): the signs that the parents' states can have.

    Shape:
        parts (T, N, S, D), with S = 1 or 2 kinds of children; mass at the parents (..., S', H).
    """

    def __init__(self, parts: Tensor, weight: SignedWeight, rows: slice, parents: tuple[Sign, ...]) -> None:
        self.parts = parts
        self._n_parents = len(parents)
        children = BOTH[: parts.shape[2]]
        # One matrix for all kinds, so that a step costs one product: (S' H, S D).
        self._weight = torch.cat(
            [
                torch.cat([weight.part(parent * child, parts.dtype)[rows] for child in children], dim=1)
                for parent in parents
            ]
        )

    def support(self) -> Tensor:
        """Their part of the denominators, (T, N, S', H)."""
        support = F.linear(self.parts.flatten(2), self._weight)
        return support.view(*support.shape[:2], self._n_parents, -1)

    def share(self, quotients: Tensor, t: int | slice = slice(None)) -> Tensor:
        """Their mass (..., S, D) at the steps ``t``, from the parents' mass over its support (..., S', H)."""
        parts = self.parts[t]
        return parts * (quotients.flatten(-2) @ self._weight).view(parts.shape)


class JointStep:
    """The value of a cell, phi(W x_t + r_t U h_{t-1} + b): one linear map of x_t and h_{t-1}.

    Args:
        x (Operand): the sequence.
        hidden (Tensor): parts of h_{t-1}, empty where it is constant.
        weights (tuple): W and U.
        rows (slice): the rows of W and U that make the value.
        below_zero (Tensor, optional): where the value is below zero; None where all count as positive.
        share (Tensor, optional): the share of the mass given to each step that goes to the value.
        gate (Tensor, optional): r.

    Shape:
        hidden (T, N, S, H), below_zero, share and gate (T, N, H).
    """

    def __init__(
        self,
        x: Operand,
        hidden: Tensor,
        weights: tuple[SignedWeight, SignedWeight],
        rows: slice,
        below_zero: Tensor | None = None,
        share: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> None:
        parents = POSITIVE if below_zero is None else BOTH
        self._x, self._gate = x, None if gate is None else gate.unsqueeze(2)
        self._inputs = Children(parts_of(x), weights[0], rows, parents)
        self._hidden = Children(hidden, weights[1], rows, parents)
        support = self._hidden.support()
        support = self._inputs.support() + (support if self._gate is None else support * self._gate)
        of_value = torch.ones_like(support) if share is None else share.unsqueeze(2).expand_as(support)
        self._ratio = safe_divide(of_value, support)
        if below_zero is not None:
            self._ratio[:, :, 0].masked_fill_(below_zero, 0.0)
            self._ratio[:, :, 1].masked_fill_(~below_zero, 0.0)

    def new_quotients(self) -> Tensor:
        """Where :meth:`to_hidden` notes the mass over support of each step, for :meth:`to_inputs`."""
        return torch.empty_like(self._ratio)

    def to_hidden(self, t: int, mass: Tensor, quotients: Tensor) -> Tensor:
        """Mass of the parts of h_{t-1}, (N, S, H), from the mass (N, H) at step t."""
        quotient = torch.mul(mass.unsqueeze(1), self._ratio[t], out=quotients[t])
        return self._hidden.share(quotient if self._gate is None else quotient * self._gate[t], t)

    def to_inputs(self, quotients: Tensor) -> Tensor:
        """Mass of the sequence, all steps at once."""
        return receive(self._x, self._inputs.share(quotients))


def receive(operand: Operand, kinds: Tensor) -> Tensor:
    """Hand the mass of the parts, (..., S, D), to the operand; returns the total for autograd."""
    up, *down = kinds.unbind(-2)
    return operand.receive(up, down[0] if down else None)


def parts_of(operand: Operand) -> Tensor:
    """Positive and negative parts, (..., S, D); constants do not compete."""
    if not operand.is_evidence:
        return torch.zeros(operand.shape, dtype=operand.dtype, device=operand.value.device).unsqueeze(-2)
    up, down = operand.part_or_zeros(1), operand.part(-1)
    return up.unsqueeze(-2) if down is None else torch.stack([up, down], dim=-2)


def is_of_layers(state: Operand) -> bool:
    """Whether a state comes straight out of weighted layers, with which a gate on it is one linear map."""
    return state.is_evidence and state.map is not None and state.map.is_of_layers


def by_sign(value: Tensor, signs: tuple[Sign, ...]) -> Tensor:
    """Parts of values that are no linear map of others, (..., S, D)."""
    return torch.stack([(value if sign > 0 else -value).clamp(min=0) for sign in signs], dim=-2)


def join_steps(first: Tensor, later: Tensor) -> Tensor:
    """Parts of the state before each step, from those of h_0, (N, S, H), and the rest, (T - 1, N, S, H)."""
    n_kinds = max(first.shape[1], later.shape[2])
    return torch.cat([F.pad(p, (0, 0, 0, n_kinds - p.shape[-2])) for p in (first[None], later)])
