"""What runs differently while evidence is measured: nothing random, and no running statistics written.

Other dropouts are the identity; batch norm takes the statistics of the batch as constants.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["OF_SHAPE", "run_clean"]

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]

OF_SHAPE = frozenset(
    (
        *(torch.rand_like, torch.randn_like, torch.randint_like, torch.empty_like, torch.zeros_like),
        *(torch.ones_like, torch.full_like, Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones),
        *(Tensor.new_full, Tensor.new_tensor),
    )
)
"""Functions that read the shape of a tensor and not its values: they run once."""

_DROPOUTS = frozenset(
    (
        *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
        *(torch.dropout, torch.dropout_, torch.feature_dropout, torch.feature_dropout_),
        *(torch.alpha_dropout, torch.alpha_dropout_),
        *(torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
    )
)
_RECURRENT = frozenset((torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu))
_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_INSTANCE_NORM = (
    "input",
    "running_mean",
    "running_var",
    "weight",
    "bias",
    "use_input_stats",
    "momentum",
    "eps",
)
_ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_MULTI_HEAD = tuple(inspect.signature(F.multi_head_attention_forward).parameters)


def run_clean(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Call ``func`` as it runs while evidence is measured."""
    if func in _DROPOUTS:
        return _dropout(func, args, kwargs)
    if func is F.batch_norm:
        return _batch_norm(_named(_BATCH_NORM, args, kwargs))
    if func is F.instance_norm:
        given = _named(_INSTANCE_NORM, args, kwargs)
        if given.get("use_input_stats", True):
            given.update(running_mean=None, running_var=None)
        return F.instance_norm(**given)
    if func is F.scaled_dot_product_attention:
        return func(**{**_named(_ATTENTION, args, kwargs), "dropout_p": 0.0})
    if func is F.multi_head_attention_forward:
        return func(**{**_named(_MULTI_HEAD, args, kwargs), "dropout_p": 0.0})
    if func in _RECURRENT:
        return func(*_without_dropout(args), **kwargs)
    return func(*args, **kwargs)


def _dropout(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Tensor:
    tensor: Tensor = args[0] if args else kwargs["input"]
    in_place = func.__name__.endswith("_") or _named(("input", "p", "training", "inplace"), args, kwargs).get(
        "inplace"
    )
    # A tensor of its own, since what is written to the result must not reach the input.
    return tensor if in_place else tensor.clone()


def _batch_norm(given: dict[str, Any]) -> Tensor:
    if given.get("training", False):
        x = given["input"].detach()
        axes = [axis for axis in range(x.dim()) if axis != 1]
        dtype = next(
            (given[name].dtype for name in ("weight", "running_mean") if given.get(name) is not None), x.dtype
        )
        variance, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), axes, correction=0)
        given |= {"running_mean": mean.to(dtype), "running_var": variance.to(dtype), "training": False}
    result: Tensor = F.batch_norm(**given)
    return result


def _without_dropout(args: Args) -> Args:
    """The arguments of a recurrent layer: its flat weights, biases or not, layers, dropout, ..."""
    weights = next(index for index, value in enumerate(args) if isinstance(value, list))
    return (*args[: weights + 3], 0.0, *args[weights + 4 :])


def _named(names: tuple[str, ...], args: Args, kwargs: Kwargs) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}
