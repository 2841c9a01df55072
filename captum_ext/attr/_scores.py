"""From what a model returns to the probability of the target."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ext._compat import TargetType, select_targets
from captum_ext.attr._forward import check_output

__all__ = ["Scores", "check_declared", "log_probability"]

Scores = Literal["logits", "probabilities"]

# By how much probabilities, such as means of several models', may miss 0, 1 and their sum.
_ROUNDING = 1e-3


def log_probability(output: Tensor, target: TargetType, scores: Scores, n: int, kept: bool) -> Tensor:
    """Log p of the target, or log (1 - p), (n,); of a single logit, p is its sigmoid.

    The log-softmax of logits is finite for a hopeless target, where the logarithm of the softmax is not.
    """
    output = output.to(torch.promote_types(output.dtype, torch.float32))
    if scores == "probabilities":
        p = _selected(output, target, n)
        return (p if kept else 1 - p).clamp(min=torch.finfo(p.dtype).tiny).log()
    if _is_single(output):
        logit = _selected(output, target, n)
        return F.logsigmoid(logit if kept else -logit)
    if kept:
        return _selected(output.log_softmax(-1), target, n)
    # 1 - p is the probability of all other classes, whose logits say it to the last digit.
    n_classes = output.shape[-1]
    numbers = torch.arange(output.numel(), device=output.device).view_as(output)
    selected = _selected(numbers, target, n)
    logits = output.reshape(-1, n_classes)[selected // n_classes]
    others = logits.scatter(1, (selected % n_classes).unsqueeze(1), -torch.inf)
    return others.logsumexp(1) - logits.logsumexp(1)


def check_declared(output: Tensor, target: TargetType, scores: Scores, n: int) -> None:
    """Raise if the target selects no score, or the scores are not what they were declared to be."""
    check_output(_selected(output, target, n), n, differentiable=False)
    inside = bool(((output >= -_ROUNDING) & (output <= 1 + _ROUNDING)).all())
    if scores == "probabilities" and not inside:
        raise ValueError(
            f"scores='probabilities', but the model returns values from {float(output.min()):.4g} to "
            f"{float(output.max()):.4g}; pass scores='logits', or return probabilities"
        )
    if scores == "logits" and inside and not _is_single(output):
        totals = output.double().sum(-1)
        if bool(((totals - 1).abs() < _ROUNDING).all()):
            raise ValueError(
                "the model returns values in 0..1 that sum to 1 for every example, which are probabilities "
                "and not logits; pass scores='probabilities'"
            )


def _selected(output: Tensor, target: TargetType, n: int) -> Tensor:
    selected: Tensor = select_targets(output, target)
    if selected.numel() != n:
        check_output(selected, n, differentiable=False)
    return selected.flatten()


def _is_single(output: Tensor) -> bool:
    return output.dim() < 2 or output.shape[-1] == 1
