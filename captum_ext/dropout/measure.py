"""Excitation Backprop over a tape: the winning probabilities at the dropout layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_ext.dropout.tape import Site, Tape, unpacked
from captum_ext.dropout.targets import Armed, prior_mass
from captum_ext.excitation import Mass, Recording
from captum_ext.excitation.graph import check_covered
from captum_ext.excitation.numerics import full_precision

__all__ = ["examples_with_target", "measure"]

_UNREACHABLE = (
    "no evidence reaches the Excitation Dropout layer from the scores: the scores do not depend on it in a "
    "way torch can follow, or output_fn takes other scores"
)


def measure(tape: Tape, output: Any, sites: Sequence[Site]) -> tuple[list[Tensor], Tensor]:
    """Winning probabilities at sites that are measured against the same targets.

    Args:
        tape (Tape): the tape, still able to record.
        output (Any): what the network returned in the clean pass.
        sites (Sequence[Site]): the sites.

    Returns:
        the map of each site, in the shape of its activations, in at least float32, and which examples have a
        target, (N,).

    Raises:
        UnsupportedOperationError: an operation on the way has no rule.
    """
    armed = sites[0].armed
    with tape.unnoted():
        scores = _scores(output, armed)
    if tape.slot(scores) is None or scores.grad_fn is None:
        raise ValueError(_UNREACHABLE)
    if any(tape.is_unchanged(site, scores) for site in sites):
        raise ValueError(
            "the Excitation Dropout layer is the last of the network: what it drops from are the scores, "
            "whose only evidence is the label itself; choose a layer below the classifier"
        )
    with unpacked(), torch.enable_grad(), full_precision(scores.device):
        prior = prior_mass(scores, armed.targets)
        check_covered([scores], [])
        masses = Recording(scores, tape.mode).propagate(
            [scores], [Mass(prior)], [site.measured for site in sites], _UNREACHABLE
        )
    return [mass.total for mass in masses], prior.flatten(1).any(1)


def examples_with_target(output: Any, armed: Armed) -> Tensor:
    """The examples whose label is not ignored, (N,)."""
    return prior_mass(_scores(output, armed), armed.targets).flatten(1).any(1)


def _scores(output: Any, armed: Armed) -> Tensor:
    scores = armed.output_fn(output)
    if not isinstance(scores, Tensor):
        raise TypeError(f"output_fn must return the scores, a tensor, got {type(scores).__name__}")
    return scores
