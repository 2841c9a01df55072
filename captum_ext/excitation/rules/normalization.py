"""Normalisation layers.

Batch norm in evaluation mode directly behind a linear map is one linear map with it: the positive factor per
channel cancels in the rule, a negative gamma swaps W^+ and W^-. Everywhere else, and for the normalisations
whose statistics come from the example itself, mass passes to the same position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext.excitation.functions import PassThrough
from captum_ext.excitation.mode import Args, ExcitationMode, Kwargs, constant, read_as_state, rule
from captum_ext.excitation.operand import Facts, facts_of, set_facts
from captum_ext.excitation.rules.sums import scale

__all__: list[str] = []


def _batch_norm(
    mode: ExcitationMode,
    tensor: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    gamma: Tensor | None,
    training: bool,
    eps: float,
    compute: Callable[[Tensor], Tensor],
) -> Tensor:
    if training or mean is None or variance is None:
        raise ValueError(
            f"batch norm uses the statistics of the batch in {mode.module_path()}, so examples would not be "
            "explained independently; call model.eval() first (and track running statistics)"
        )
    factor = torch.rsqrt(variance.detach() + eps)
    if gamma is not None:
        factor = factor * gamma.detach()
    return scale(mode, tensor, factor.reshape(1, -1, *[1] * (tensor.dim() - 2)), compute, factor)


@rule(F.batch_norm)
def batch_norm(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Batch norm as torch.nn calls it."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    rest = {name: constant(value) for name, value in given.items() if name != "input"}
    return _batch_norm(
        mode,
        given["input"],
        given["running_mean"],
        given["running_var"],
        given.get("weight"),
        given.get("training", False),
        given.get("eps", 1e-5),
        lambda x: func(x, **rest),
    )


@rule(torch.batch_norm)
def torch_batch_norm(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Batch norm as torch.batch_norm orders its arguments."""
    tensor, gamma, _, mean, variance, training, _, eps, _ = args
    rest = constant(args[1:])
    return _batch_norm(mode, tensor, mean, variance, gamma, training, eps, lambda x: func(x, *rest))


@rule(F.layer_norm, F.group_norm, F.instance_norm)
def norm_of_example(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Layer, group and instance norm: the sign of the mass follows the normalised output and gamma."""
    tensor = args[0] if args else kwargs["input"]
    if func is F.instance_norm and not _argument(args, kwargs, 5, "use_input_stats", True):
        return mode.run_without_rule(func, args, kwargs, "instance norm with running statistics has no rule")
    rest = {name: constant(value) for name, value in kwargs.items() if name != "input"}
    with torch.no_grad():
        output = func(tensor.detach(), *constant(args[1:]), **rest)
        position = 3 if func is F.instance_norm else 2
        gamma = _argument(args, kwargs, position, "weight", None)
        positive = output >= 0
        if gamma is not None and func is F.layer_norm:
            positive = positive ^ (gamma < 0)
        elif gamma is not None:
            positive = positive ^ (gamma < 0).reshape(1, -1, *[1] * (tensor.dim() - 2))
    result: Tensor = PassThrough.apply(lambda _: output, facts_of(tensor).map, positive, tensor)
    return set_facts(result, Facts(gate=facts_of(tensor).gate))


@rule(F.local_response_norm, F.normalize)
def sign_preserving_norm(mode: ExcitationMode, func: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """Division by a positive norm."""
    read_as_state(args[0])
    output: Tensor = PassThrough.apply(lambda x: func(x, *args[1:], **kwargs), None, None, args[0])
    facts = facts_of(args[0])
    return set_facts(output, Facts(non_negative=facts.non_negative, gate=facts.gate))


def _argument(args: Args, kwargs: Kwargs, position: int, name: str, default: Any) -> Any:
    return kwargs.get(name, args[position] if len(args) > position else default)
