"""The contrast: evidence for a class that is not evidence for its dual."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext.attr._time import FrameOrder, normalized
from captum_ext.excitation import Mass, Recording

__all__ = ["contrast", "evidence"]


def evidence(recording: Recording, at: Sequence[Tensor], dual: bool = False) -> list[Mass]:
    """Mass at some tensors, from one at the selected output unit of every example (eqs. 1-4)."""
    return recording.propagate([recording.output], [Mass(torch.ones_like(recording.output))], at, dual)


def contrast(
    recording: Recording,
    at: Sequence[Tensor],
    n_examples: int,
    order: FrameOrder = "NT",
    batch_axis: int = 0,
) -> list[Mass]:
    """P_N - dual P_N, each normalised to sum 1 per example (eqs. 5-7)."""
    if not recording.classifier:
        raise ValueError(
            "no weighted layer was found between the output and the input, so there is no dual unit to "
            "contrast with; use contrastive=False"
        )
    positive, dual = (
        normalized(evidence(recording, at, is_dual), n_examples, order, batch_axis)
        for is_dual in (False, True)
    )
    return [p.minus(d) for p, d in zip(positive, dual, strict=True)]
