"""Average pools, mean, sum and interpolation: linear maps with fixed non-negative weights.

Max pools need no rule: the gradient already gives all mass to the winner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.maps import NonNegativeMap
from captum_ext.excitation.mode import Args, ExcitationMode, Kwargs, rule
from captum_ext.excitation.operand import facts_of

__all__ = ["mix"]


def mix(mode: ExcitationMode, tensor: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """A linear map of ``tensor`` whose weights, constants or gates, are not negative.

    ``apply`` must take any floating dtype.
    """
    facts = facts_of(tensor)
    return mode.propagate(
        NonNegativeMap(mode.operand(tensor), apply, mode.clamp),
        apply,
        tensor,
        non_negative=facts.non_negative,
        gate=facts.gate,
    )


@rule(
    F.avg_pool1d,
    F.avg_pool2d,
    F.avg_pool3d,
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    F.adaptive_avg_pool3d,
    torch.adaptive_avg_pool1d,
    torch.mean,
    Tensor.mean,
    torch.sum,
    Tensor.sum,
    F.fold,
)
def average(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Weights that do not depend on the values."""
    names = ("input",) if "input" in kwargs else ("self",)
    tensor = args[0] if args else kwargs[names[0]]
    rest = {name: value for name, value in kwargs.items() if name not in names}
    if rest.get("out") is not None:
        return mode.run_without_rule(func, args, kwargs, "the out argument has no rule")

    def compute(x: Tensor) -> Tensor:
        result: Tensor = func(x, *args[1:], **rest)
        return result

    return mix(mode, tensor, compute)


@rule(F.interpolate)
def interpolate(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Nearest, linear and area interpolation; bicubic weights can be negative."""
    method = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
    if method == "bicubic":
        return mode.run_without_rule(func, args, kwargs, "bicubic weights can be negative; use bilinear")
    return average(mode, func, args, kwargs)
