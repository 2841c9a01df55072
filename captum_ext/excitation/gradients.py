"""Autograd, asked for tensors of which some may be constants."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["gradients"]


def gradients(
    sources: Sequence[Tensor], starts: Sequence[Tensor], targets: Sequence[Tensor]
) -> list[Tensor | None]:
    """What arrives at each target from ``starts`` at the sources; None where nothing can."""
    reached = [target for target in targets if target.requires_grad]
    if not sources or not reached:
        return [None] * len(targets)
    found = iter(torch.autograd.grad(sources, reached, starts, retain_graph=True, allow_unused=True))
    return [next(found) if target.requires_grad else None for target in targets]
