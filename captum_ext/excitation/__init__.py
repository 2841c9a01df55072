"""The Excitation Backprop engine.

A :class:`torch.overrides.TorchFunctionMode` is active during one forward pass and gives every operation a
backward pass that propagates winning probabilities; the model itself is never written to. The attribution
classes in :mod:`captum_ext.attr` are built on :func:`record`.
"""

from captum_ext.excitation.errors import UnsupportedOperationError
from captum_ext.excitation.recording import Mass, Recording, capture, record, unwrap
from captum_ext.excitation.relu_lstm import relu_lstm

__all__ = ["Mass", "Recording", "UnsupportedOperationError", "capture", "record", "relu_lstm", "unwrap"]
