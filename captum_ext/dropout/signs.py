"""What the graph of the network below says of a tensor's signs, without a look at its values on a GPU."""

from __future__ import annotations

from torch import Tensor

__all__ = ["is_known_non_negative"]

_NON_NEGATIVE = ("ReluBackward", "SigmoidBackward", "SoftmaxBackward", "SoftplusBackward", "ExpBackward")
# Operations with one operand whose result is non-negative if that is.
_KEEPS_SIGN = (
    *("ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward", "CloneBackward", "AliasBackward"),
    *("ToCopyBackward", "SqueezeBackward", "UnsqueezeBackward", "TransposeBackward", "PermuteBackward"),
    *("MaxPool", "AdaptiveMaxPool", "AvgPool", "AdaptiveAvgPool", "MeanBackward", "SumBackward"),
    *("SelectBackward", "SliceBackward", "NativeDropoutBackward"),
)
_DEPTH = 8


def is_known_non_negative(tensor: Tensor) -> bool:
    """Whether no entry can be below zero; False if that is not known.

    Knowing it halves the work of the layer above, and changes no result. On the CPU the values are looked at.
    """
    node = tensor.grad_fn
    for _ in range(_DEPTH):
        if node is None:
            break
        name = node.name()
        if name.startswith(_NON_NEGATIVE):
            return True
        if not name.startswith(_KEEPS_SIGN):
            break
        node = node.next_functions[0][0]
    return tensor.device.type == "cpu" and not bool((tensor.detach() < 0).any())
