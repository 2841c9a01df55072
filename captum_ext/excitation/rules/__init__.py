"""The rules, one file per family of operations; importing this package registers them."""

from captum_ext.excitation.rules import (
    activations,
    attention,
    hooks,
    linear,
    normalization,
    pooling,
    products,
    recurrent,
    structural,
    sums,
)

__all__ = [
    "activations",
    "attention",
    "hooks",
    "linear",
    "normalization",
    "pooling",
    "products",
    "recurrent",
    "structural",
    "sums",
]
