"""Rows of a layer, frames of a clip: undoing the folding of time into the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from captum_ext.excitation import Mass
from captum_ext.excitation.numerics import safe_divide

__all__ = ["FrameOrder", "example_of_row", "normalized", "per_example", "unfold_time"]

FrameOrder = Literal["NT", "TN"]


def example_of_row(n_rows: int, n_examples: int, order: FrameOrder, device: torch.device) -> Tensor:
    """Which example each of the rows of a layer belongs to."""
    if n_rows % n_examples:
        raise ValueError(
            f"a layer ran on {n_rows} rows, which is no multiple of the {n_examples} examples of the batch, "
            "so its rows cannot be told apart"
        )
    rows = torch.arange(n_rows, device=device)
    return rows // (n_rows // n_examples) if order == "NT" else rows % n_examples


def per_example(
    tensors: Sequence[Tensor], n_examples: int, order: FrameOrder = "NT", batch_axis: int = 0
) -> Tensor:
    """Sum of all entries of the tensors that belong to each example, (N,)."""
    total = tensors[0].new_zeros(n_examples)
    for tensor in tensors:
        rows = tensor.movedim(batch_axis, 0).flatten(1).sum(1) if tensor.dim() > 1 else tensor
        total = total.index_add(0, example_of_row(len(rows), n_examples, order, tensor.device), rows)
    return total


def normalized(
    masses: Sequence[Mass], n_examples: int, order: FrameOrder = "NT", batch_axis: int = 0
) -> list[Mass]:
    """Divide the mass of each example by its total over time and neurons (eqs. 5 and 6)."""
    total = per_example([mass.total for mass in masses], n_examples, order, batch_axis)
    factor = safe_divide(torch.ones_like(total), total)
    result = []
    for mass in masses:
        examples = example_of_row(mass.total.shape[batch_axis], n_examples, order, total.device)
        shape = [1] * mass.total.dim()
        shape[batch_axis] = -1
        result.append(mass.scaled(factor[examples].view(shape)))
    return result


def unfold_time(calls: Sequence[Tensor], n_examples: int, order: FrameOrder, what: str) -> Tensor:
    """Bring the calls of a layer into one map whose row i is example i.

    Shape:
        one call (N, C, *): as it is; one call (N * T, C, *) of a per-frame layer, or T calls (N, C, *):
        (N, C, T, *).
    """
    shapes = {tuple(call.shape) for call in calls}
    if len(shapes) > 1:
        raise ValueError(f"the calls of {what} have different shapes {sorted(shapes)} and cannot be stacked")
    first = calls[0]
    if len(calls) > 1:
        if first.shape[0] != n_examples:
            raise ValueError(
                f"{what} was called {len(calls)} times with {first.shape[0]} rows for {n_examples} examples; "
                "choose a layer that runs on the whole batch in each call"
            )
        return torch.stack(list(calls), dim=min(2, first.dim()))
    if first.shape[0] == n_examples:
        return first
    n_frames = first.shape[0] // n_examples
    example_of_row(first.shape[0], n_examples, order, first.device)
    folded = (n_examples, n_frames) if order == "NT" else (n_frames, n_examples)
    frames = first.reshape(*folded, *first.shape[1:])
    frames = frames if order == "NT" else frames.transpose(0, 1)
    return frames.movedim(1, 2) if frames.dim() > 2 else frames
