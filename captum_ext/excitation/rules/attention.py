"""Attention (experimental): the attention matrix is a gate, all mass goes to the values.

With fixed attention weights the output is a linear map of the values whose weights are not negative. Queries
and keys only decide the weights, and receive nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.mode import Args, ExcitationMode, Kwargs, constant, is_evidence, rule
from captum_ext.excitation.rules.pooling import mix

__all__: list[str] = []

_SIGNATURES = {
    F.multi_head_attention_forward: inspect.signature(F.multi_head_attention_forward),
    F.scaled_dot_product_attention: inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
            for name, default in (
                ("query", inspect.Parameter.empty),
                ("key", inspect.Parameter.empty),
                ("value", inspect.Parameter.empty),
                ("attn_mask", None),
                ("dropout_p", 0.0),
                ("is_causal", False),
                ("scale", None),
                ("enable_gqa", False),
            )
        ]
    ),
}


@rule(F.scaled_dot_product_attention)
def scaled_dot_product_attention(
    mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs
) -> Any:
    """Attention as one call."""
    given = _given(func, args, kwargs)
    _check_dropout(mode, given["dropout_p"])
    query, key, value = (given.pop(name) for name in ("query", "key", "value"))
    if not is_evidence(value):
        return mode.run_without_rule(func, args, kwargs, "its values do not depend on the explained input")
    query, key = query.detach(), key.detach()
    mask = given.pop("attn_mask")

    def apply(v: Tensor) -> Tensor:
        own_mask = mask.detach().to(v.dtype) if mask is not None and mask.is_floating_point() else mask
        output: Tensor = func(query.to(v.dtype), key.to(v.dtype), v, own_mask, **given)
        return output

    return mix(mode, value, apply)


@rule(F.multi_head_attention_forward)
def multi_head_attention(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """nn.MultiheadAttention: value projection, mixing by the attention weights, output projection."""
    given = _given(func, args, kwargs)
    if given["training"]:
        _check_dropout(mode, given["dropout_p"])
    if any(given[name] is not None for name in ("bias_k", "bias_v", "static_k", "static_v")):
        return mode.run_without_rule(func, args, kwargs, "added or given keys and values have no rule")
    value = given["value"]
    if not is_evidence(value):
        return mode.run_without_rule(func, args, kwargs, "its values do not depend on the explained input")
    # Untouched, and asked for the weights of every head: (N, heads, L, S).
    everything = {name: constant(v) for name, v in given.items()}
    for name in ("query", "key", "value"):
        everything[name] = everything[name].detach()
    everything.update(need_weights=True, average_attn_weights=False)
    _, weights = func(**everything)

    if given["use_separate_proj_weight"]:
        projection = given["v_proj_weight"]
    else:
        projection = given["in_proj_weight"].chunk(3)[2]
    bias = None if given["in_proj_bias"] is None else given["in_proj_bias"].detach().chunk(3)[2]
    n_heads, batched = given["num_heads"], value.dim() == 3
    per_head = weights if batched else weights[None]
    n_keys = value.shape[0]  # the column that add_zero_attn appends has no value

    def apply(v: Tensor) -> Tensor:
        mixed: Tensor = per_head[..., :n_keys].to(v.dtype) @ v
        return mixed

    with mode:
        projected = F.linear(value, projection.detach(), bias)
        if not batched:
            projected = projected.unsqueeze(1)
        heads = projected.view(*projected.shape[:-1], n_heads, -1).permute(1, 2, 0, 3)
    mixed = mix(mode, heads, apply)
    with mode:
        joined = mixed.permute(2, 0, 1, 3).flatten(2)
        if not batched:
            joined = joined.squeeze(1)
        output = F.linear(joined, given["out_proj_weight"], given["out_proj_bias"])
    if not given["need_weights"]:
        return output, None
    return output, weights.mean(dim=-3) if given["average_attn_weights"] else weights


def _given(func: Callable[..., Any], args: Args, kwargs: Kwargs) -> dict[str, Any]:
    bound = _SIGNATURES[func].bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _check_dropout(mode: ExcitationMode, p: float) -> None:
    if p > 0:
        raise ValueError(
            f"dropout of attention weights is active in {mode.module_path()}: the explanation would be "
            "random; call model.eval() first (and pass dropout_p=0 in evaluation)"
        )
