"""Finding the labels in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["find_targets"]

_NAMES = ("label", "labels", "target", "targets", "y")


def find_targets(batch: Any) -> Tensor:
    """The labels in a batch, so far as that can be told.

    The entry or attribute ``label``, ``labels``, ``target``, ``targets`` or ``y`` of a dict, named tuple,
    dataclass or other object; else the second element of a tuple or list, in which the same names count.

    Args:
        batch (Any): a batch as ``training_step`` takes it.

    Returns:
        *Tensor*.

    Raises:
        TypeError: there are no labels to be found.

    Example:
        >>> import torch
        >>> find_targets((torch.rand(2, 3), torch.tensor([0, 1])))
        tensor([0, 1])
        >>> find_targets({"image": torch.rand(2, 3), "label": torch.tensor([1, 1])})
        tensor([1, 1])
    """
    found = _named(batch)
    if found is None and isinstance(batch, tuple | list) and len(batch) > 1:
        found = batch[1] if isinstance(batch[1], Tensor) else _named(batch[1])
    if not isinstance(found, Tensor):
        what = f" with the keys {sorted(map(str, batch))}" if isinstance(batch, Mapping) else ""
        raise TypeError(
            f"Excitation Dropout finds no labels in the batch, a {type(batch).__name__}{what}; pass "
            "target_fn=, a function that takes them out of it, or target='predicted'"
        )
    return found


def _named(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return None
    if isinstance(batch, Mapping):
        return next((batch[name] for name in _NAMES if name in batch), None)
    return next((value for name in _NAMES if isinstance(value := getattr(batch, name, None), Tensor)), None)
