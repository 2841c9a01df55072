"""One clip, one model: from frames to maps, windows and files; what ``captum-ext explain`` does."""

from captum_ext.explanation.explain import METHODS, Explanation, Method, MethodResult, explain
from captum_ext.explanation.extremal import AREAS, KeptPart
from captum_ext.explanation.files import FILES, save, window_seconds
from captum_ext.explanation.forward import layer_shapes

__all__ = [
    "AREAS",
    "FILES",
    "METHODS",
    "Explanation",
    "KeptPart",
    "Method",
    "MethodResult",
    "explain",
    "layer_shapes",
    "save",
    "window_seconds",
]
