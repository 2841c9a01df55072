"""The layers that a callback names, and when a model has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

__all__ = ["layer_names", "makes_layers_late"]


def layer_names(layers: str | Sequence[str]) -> list[str]:
    """The names that a callback was given.

    Args:
        layers (str or list[str]): one or several.

    Raises:
        TypeError: something else was given, such as the layer itself.
        ValueError: no name.
    """
    names = [layers] if isinstance(layers, str) or not isinstance(layers, Iterable) else list(layers)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"layers are given by their dotted names, such as 'net.classifier.2', not as "
                f"{type(name).__name__}; pass its name in model.named_modules()"
            )
    if not names:
        raise ValueError("no layer is named; pass the dotted name of at least one")
    return names


def makes_layers_late(module: LightningModule) -> bool:
    """Whether a model has hooks that run after a callback's ``setup`` and may make or replace its layers."""
    return any(
        name in vars(kind)
        for kind in type(module).__mro__
        if kind.__module__.partition(".")[0] not in ("pytorch_lightning", "lightning")
        for name in ("setup", "configure_model")
    )
