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


def log_probability(output: Tensor, target: TargetType, scores: Scores, n: int, kept: bool) -> Tensor:
    """Log p of the target, or log (1 - p), (n,); of a single logit, p is its sigmoid.

    The log-softmax of logits is finite for a hopeless target, where the logarithm of the softmax is not.
    """
    # 1 - p of a confident model needs more digits than p.
    exact = torch.promote_types(output.dtype, torch.float32 if kept else torch.float64)
    output = output.to(exact)
    if scores == "probabilities":
        p = _selected(output, target, n)
        tiny = torch.finfo(exact).tiny
        return (p if kept else 1 - p).clamp(min=tiny).log().float()
    if _is_single(output):
        logit = _selected(output, target, n)
        return F.logsigmoid(logit if kept else -logit).float()
    log_p = _selected(output.log_softmax(-1), target, n)
    if not kept:
        log_p = (-torch.expm1(log_p)).clamp(min=torch.finfo(exact).tiny).log()
    return log_p.float()


def check_declared(output: Tensor, target: TargetType, scores: Scores, n: int) -> None:
    """Raise if the target selects no score, or the scores are not what they were declared to be."""
    check_output(_selected(output, target, n), n, differentiable=False)
    inside = bool(((output >= 0) & (output <= 1)).all())
    if scores == "probabilities" and not inside:
        raise ValueError(
            f"scores='probabilities', but the model returns values from {float(output.min()):.4g} to "
            f"{float(output.max()):.4g}; pass scores='logits', or return probabilities"
        )
    if scores == "logits" and inside and not _is_single(output):
        totals = output.double().sum(-1)
        if bool(((totals - 1).abs() < 1e-3).all()):
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
