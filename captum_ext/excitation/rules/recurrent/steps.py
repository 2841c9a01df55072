"""The steps of a batch of sequences, of one length or, packed, of several."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["EqualSteps", "PackedSteps", "Steps"]


class Steps(Protocol):
    """How sequences (T, N, D), filled up with zeros, are made of what a layer takes and returns."""

    ended: Tensor | None

    def unpack(self, data: Tensor) -> Tensor:
        """Sequences (T, N, D) of a layer's input."""

    def pack(self, sequences: Tensor) -> Tensor:
        """A layer's input or output of sequences (T, N, D)."""

    def reverse(self, sequences: Tensor) -> Tensor:
        """Each sequence from its last step to its first; the filling stays behind the end."""

    def last(self, sequences: Tensor) -> Tensor:
        """The last step of each sequence, (N, D)."""


class EqualSteps:
    """Sequences of one length."""

    ended: Tensor | None = None

    def unpack(self, data: Tensor) -> Tensor:
        """They are what they are."""
        return data

    def pack(self, sequences: Tensor) -> Tensor:
        """They are what they are."""
        return sequences

    def reverse(self, sequences: Tensor) -> Tensor:
        """Flip time."""
        return sequences.flip(0)

    def last(self, sequences: Tensor) -> Tensor:
        """The last step."""
        return sequences[-1]


class PackedSteps:
    """Sequences of several lengths, longest first, in a packed sequence's order.

    Args:
        batch_sizes (Tensor): number of sequences that are still running at each step, (T,).
        device (torch.device): where the data are.
    """

    def __init__(self, batch_sizes: Tensor, device: torch.device) -> None:
        row = torch.arange(int(batch_sizes[0]))
        running = row < batch_sizes.unsqueeze(1)
        lengths, step = running.sum(0), torch.arange(len(batch_sizes)).unsqueeze(1)
        # The packed data are the running entries, row by row; the others read a row of zeros behind them.
        packed = running.flatten().cumsum(0).view(running.shape) - 1
        self.ended: Tensor | None = (~running).to(device)
        self._from_packed = packed.masked_fill(~running, int(running.sum())).to(device)
        self._running = tuple(index.to(device) for index in running.nonzero(as_tuple=True))
        self._reversed = torch.where(running, lengths - 1 - step, step).to(device)
        self._last, self._row = (lengths - 1).to(device), row.to(device)

    def unpack(self, data: Tensor) -> Tensor:
        """Fill up with zeros."""
        return F.pad(data, (0, 0, 0, 1))[self._from_packed]

    def pack(self, sequences: Tensor) -> Tensor:
        """Leave the filling away."""
        return sequences[self._running]

    def reverse(self, sequences: Tensor) -> Tensor:
        """Each up to its own end."""
        return sequences[self._reversed, self._row]

    def last(self, sequences: Tensor) -> Tensor:
        """Each at its own end."""
        return sequences[self._last, self._row]
