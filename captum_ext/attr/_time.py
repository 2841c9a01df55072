"""Rows of a layer, frames of a clip: undoing the folding of time into the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["FrameOrder", "check_order", "example_of_row", "per_example", "unfold_time"]

FrameOrder = Literal["NT", "TN"]


def check_order(order: str) -> None:
    """Raise for anything but the two orders of frames."""
    if order not in ("NT", "TN"):
        raise ValueError(f"frame_order must be 'NT' or 'TN', got {order!r}")


def example_of_row(n_rows: int, n_examples: int, order: FrameOrder, device: torch.device) -> Tensor:
    """Which example each of the rows of a layer belongs to."""
    rows, per_example = torch.arange(n_rows, device=device), _rows_per_example(n_rows, n_examples)
    return rows // per_example if order == "NT" else rows % n_examples


def _rows_per_example(n_rows: int, n_examples: int) -> int:
    if n_rows % n_examples:
        raise ValueError(
            f"a layer ran on {n_rows} rows, which is no multiple of the {n_examples} examples of the batch, "
            "so its rows cannot be told apart; of a layer on sequences with time first, (T, N, D), explain "
            "one example at a time"
        )
    return n_rows // n_examples


def per_example(maps: Sequence[Tensor], n_examples: int, order: FrameOrder = "NT") -> Tensor:
    """Sum of all entries of the maps that belong to each example, (N,)."""
    total = maps[0].new_zeros(n_examples)
    for found in maps:
        rows = found.flatten(1).sum(1) if found.dim() > 1 else found
        total = total.index_add(0, example_of_row(len(rows), n_examples, order, found.device), rows)
    return total


def unfold_time(
    calls: Sequence[Tensor],
    n_examples: int,
    order: FrameOrder,
    n_frames: int | None = None,
    time_first: bool = False,
    channels_first: bool | None = None,
) -> Tensor:
    """Bring the calls of a layer into one map whose row i is example i and whose axis 2 is time.

    Args:
        calls (Sequence[Tensor]): the map of every call.
        n_examples (int): N.
        order (str): how frames are folded into the batch.
        n_frames (int, optional): T, where the layer is known to see a clip of T frames.
        time_first (bool): layers on whole sequences see (T, N, D) and not (N, T, D).
        channels_first (bool, optional): layers on whole sequences see (N, C, T'), or do not; None: that
            is not known.

    Shape:
        T calls (N, C, *), one call (N * T, C, *), or a sequence (N, T, D): (N, C, T, *). A layer that sees
        whole clips, (N, C, T, h, w) or (N, C, T'), or whose T is not known: as it is.
    """
    shapes = {tuple(call.shape) for call in calls}
    if len(shapes) > 1:
        raise ValueError(
            f"the calls of the layer have different shapes {sorted(shapes)}, so they do not stack"
        )
    first = calls[0]
    if len(calls) > 1:
        if first.shape[0] != n_examples:
            raise ValueError(
                f"the layer was called {len(calls)} times with {first.shape[0]} rows for {n_examples} "
                "examples; choose a layer that runs on the whole batch in each call"
            )
        return torch.stack(list(calls), dim=min(2, first.dim()))
    if (
        channels_first is None
        and n_frames not in (None, 1)
        and first.shape == (n_examples, n_frames, n_frames)
    ):
        raise ValueError(
            f"the layer has the shape {tuple(first.shape)} for clips of {n_frames} frames, so its time "
            "cannot be told from its channels; choose the layer in front or behind, read it "
            "with LayerExcitationBackprop, which leaves the axes as they are, or explain a clip of another "
            "length"
        )
    if n_frames is not None and first.dim() == 3 and not (channels_first and len(first) == n_examples):
        sequences = {False: (n_examples, n_frames), True: (n_frames, n_examples)}
        for is_time_first in (time_first, not time_first):
            if tuple(first.shape[:2]) == sequences[is_time_first]:
                return first.permute(1, 2, 0) if is_time_first else first.transpose(1, 2)
    if first.shape[0] == n_examples and (n_frames != 1 or first.dim() == 5):
        return first
    rows_per_example = _rows_per_example(first.shape[0], n_examples)
    if n_frames not in (None, rows_per_example):
        raise ValueError(
            f"the layer ran on {first.shape[0]} rows for {n_examples} clips of {n_frames} frames; choose a "
            "layer that runs once per frame or on whole clips"
        )
    folded = (n_examples, rows_per_example) if order == "NT" else (rows_per_example, n_examples)
    frames = first.reshape(*folded, *first.shape[1:])
    frames = frames if order == "NT" else frames.transpose(0, 1)
    return frames.movedim(1, 2) if frames.dim() > 2 else frames
