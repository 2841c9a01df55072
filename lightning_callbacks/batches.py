"""Where the inputs and the labels are in the common shapes of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

__all__ = ["INPUT_NAMES", "LABEL_NAMES", "find_inputs", "find_labels"]

INPUT_NAMES = (
    "x",
    "input",
    "inputs",
    "image",
    "images",
    "img",
    "video",
    "videos",
    "clip",
    "clips",
    "frames",
    "pixel_values",
    "pixel_values_videos",
)
"""Keys, or fields, under which the inputs are looked for."""

LABEL_NAMES = ("y", "label", "labels", "target", "targets")
"""Keys, or fields, under which the labels are looked for."""

_INPUT_FN = "Pass input_fn=lambda batch: ... to say where the inputs are"
_TARGET_FN = (
    "Pass target_fn=lambda batch: ... to say where the labels are, or target='predicted' to do without them"
)


def find_inputs(batch: object) -> Tensor:
    """Find the images or clips of a batch.

    They are the batch itself if it is a tensor; the first item of a tuple or list (or what that item holds by
    name); and of a mapping, dataclass or namedtuple what stands under one of ``INPUT_NAMES``.

    Args:
        batch (Any): what the data loader gives.

    Shape:
        returns (N, ...), not a copy.

    Returns:
        Tensor: the inputs.

    Raises:
        TypeError: the batch has none of these shapes, or holds something else than a tensor there.
        ValueError: none of the names is there, or several are.

    Example:
        >>> import torch
        >>> find_inputs({"video": torch.rand(2, 3, 5, 8, 9), "label": torch.tensor([1, 0])}).shape
        torch.Size([2, 3, 5, 8, 9])
    """
    return batch if isinstance(batch, Tensor) else _find(batch, 0, INPUT_NAMES, "inputs", _INPUT_FN)


def find_labels(batch: object) -> Tensor:
    """Find the labels of a batch.

    They are the second item of a tuple or list (or what that item holds by name); and of a mapping, dataclass
    or namedtuple what stands under one of ``LABEL_NAMES``.

    Args:
        batch (Any): what the data loader gives.

    Shape:
        returns (N,), or (N, K) for soft labels; not a copy.

    Returns:
        Tensor: the labels.

    Raises:
        TypeError: the batch has none of these shapes, or holds something else than a tensor there.
        ValueError: none of the names is there, or several are; or what is found has not one or two axes.

    Example:
        >>> import torch
        >>> find_labels((torch.rand(2, 3, 8, 9), torch.tensor([1, 0])))
        tensor([1, 0])
    """
    labels = _find(batch, 1, LABEL_NAMES, "labels", _TARGET_FN)
    if labels.dim() not in (1, 2):
        raise ValueError(
            f"labels must have the shape (N,), or (N, K) for soft labels; what was taken for them has "
            f"{tuple(labels.shape)}. {_TARGET_FN}"
        )
    return labels


def _find(batch: object, position: int, names: Sequence[str], what: str, remedy: str) -> Tensor:
    named = _named(batch)
    if named is None and isinstance(batch, (tuple, list)):
        if position >= len(batch):
            raise ValueError(
                f"the batch is a {type(batch).__name__} of length {len(batch)} and holds no {what}. {remedy}"
            )
        item = batch[position]
        if isinstance(item, Tensor):
            return item
        where, named = f"item {position} of the batch", _named(item)
    else:
        where, item = "the batch", batch
    if named is None:
        raise TypeError(f"{where} is a {type(item).__name__}, in which no {what} can be found. {remedy}")
    present = {name: named[name] for name in names if name in named}
    tensors = {name: value for name, value in present.items() if isinstance(value, Tensor)}
    if len({id(value) for value in tensors.values()}) == 1:
        return next(iter(tensors.values()))
    if tensors:
        raise ValueError(
            f"{where} ({type(item).__name__}) holds {', '.join(map(repr, tensors))}: which are the {what}? "
            f"{remedy}"
        )
    if present:
        name, value = next(iter(present.items()))
        raise TypeError(
            f"{name!r} in {where} ({type(item).__name__}) is a {type(value).__name__}, not a tensor. {remedy}"
        )
    raise ValueError(
        f"{where} ({type(item).__name__}) holds {', '.join(map(repr, named)) or 'nothing'}, and none of "
        f"{', '.join(map(repr, names))}, where {what} are looked for. {remedy}"
    )


def _named(item: object) -> Mapping[Any, object] | None:
    """What a mapping, dataclass or namedtuple holds, by name."""
    if isinstance(item, Mapping):
        return item
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return {name: getattr(item, name) for name in item._fields}
    return None
