"""The error for operations that no Excitation Backprop rule covers."""


class UnsupportedOperationError(RuntimeError):
    """Evidence flows through an operation that has no Excitation Backprop rule.

    The message names the operation and the path of the module that called it. The engine never falls back to
    the gradient, because a gradient is not a winning probability and would silently give a wrong map.
    """
