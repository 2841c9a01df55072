"""Evidence for a class, normalised per example, and its contrast with the evidence for the dual."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_ext.attr._forward import NOT_BELOW, ForwardPass
from captum_ext.attr._time import FrameOrder, example_of_row
from captum_ext.attr._warning import warn
from captum_ext.excitation import Mass, Recording
from captum_ext.excitation.graph import check_parallel
from captum_ext.excitation.numerics import safe_divide

__all__ = ["check_rows", "contrast", "evidence", "normalized_evidence", "read_evidence"]

_UNREACHABLE = (
    "no evidence can reach {what} from the output: it does not lie between the output and the inputs, or a "
    "part of the model in between is detached"
)


def evidence(recording: Recording, at: Sequence[Tensor], what: str) -> list[Mass]:
    """Mass at some tensors, from one at the selected output unit of every example (eqs. 1-4)."""
    return _from_output(recording, torch.ones_like(recording.output), at, what)


def normalized_evidence(
    recording: Recording, at: Sequence[Tensor], what: str, dual: bool = False
) -> tuple[list[Mass], Tensor]:
    """Mass divided by the total of its example over time and neurons (eqs. 5 and 6), and the totals (N,)."""
    check_parallel(at, what)
    ones = torch.ones_like(recording.output)
    masses = _from_output(recording, ones, at, what, dual)
    examples = _examples(lambda start: _from_output(recording, start, at, what, dual), ones)
    total = masses[0].total.new_zeros(len(ones))
    for mass, example in zip(masses, examples, strict=True):
        total = total.index_add(0, example.flatten(), mass.total.flatten())
    factor = safe_divide(torch.ones_like(total), total)
    scaled = [mass.scaled(factor[example]) for mass, example in zip(masses, examples, strict=True)]
    return scaled, total


def _examples(propagate: Callable[[Tensor], list[Mass]], ones: Tensor) -> list[Tensor]:
    """Which example the mass of each entry belongs to, however the model orders its rows.

    One pass per binary digit of the examples' numbers, in which only those examples start with mass whose
    number has the digit set: an entry that then has mass belongs to one of them. Entries without mass count
    as example 0. ``propagate`` takes what each example starts with, (N,) like ``ones``.
    """
    numbers = torch.arange(len(ones), device=ones.device)
    n_digits = (len(ones) - 1).bit_length()
    passes = [propagate((numbers >> digit & 1).to(ones.dtype)) for digit in range(n_digits)]
    if not passes:
        return [torch.zeros_like(mass.total, dtype=torch.long) for mass in propagate(ones)]
    digits = [[(mass.total != 0).long() << digit for mass in masses] for digit, masses in enumerate(passes)]
    return [sum(found[1:], found[0]).clamp(max=len(ones) - 1) for found in zip(*digits, strict=True)]


def check_rows(run: ForwardPass, at: Sequence[Tensor], order: FrameOrder, what: str) -> None:
    """Raise if rows of a folded tensor do not belong to the examples that ``order`` gives them.

    All scores of an example start with mass, since that of an early time step reaches few frames.
    """
    ones = torch.ones_like(run.recording.output)

    def propagate(start: Tensor) -> list[Mass]:
        everywhere = start.view(-1, *[1] * (run.scores.dim() - 1)).expand_as(run.scores)
        return run.recording.propagate([run.scores], [Mass(everywhere)], at, _UNREACHABLE.format(what=what))

    for mass, example in zip(propagate(ones), _examples(propagate, ones), strict=True):
        declared = example_of_row(len(example), len(ones), order, example.device)
        declared = declared.view(-1, *[1] * (example.dim() - 1)).expand_as(example)
        if not bool((example == declared)[mass.total != 0].all()):
            other = "TN" if order == "NT" else "NT"
            raise ValueError(
                f"the rows of {what} do not follow frame_order={order!r}; pass frame_order={other!r}, or "
                "choose a layer that runs once per frame or on whole clips"
            )


def contrast(recording: Recording, at: Sequence[Tensor], what: str) -> list[Mass]:
    """Normalised mass minus normalised mass of the dual output unit (eq. 7)."""
    if not recording.classifier:
        raise ValueError(
            "no weighted layer was found between the output and the input, so there is no dual unit to "
            "contrast with; use contrastive=False"
        )
    positive, total = normalized_evidence(recording, at, what)
    dual, dual_total = normalized_evidence(recording, at, what, dual=True)
    one_sided = (total > 0) != (dual_total > 0)
    if one_sided.any():
        warn(
            f"for {int(one_sided.sum())} of {len(total)} examples only one of the target and its dual has "
            "evidence, so their contrastive maps do not sum to 0 (see the convergence delta)"
        )
    return [p.minus(d) for p, d in zip(positive, dual, strict=True)]


def read_evidence(run: ForwardPass, targets: Sequence[Tensor], what: str, contrastive: bool) -> list[Mass]:
    """Mass at ``targets``: from the output, or from the contrast layer down."""
    if not contrastive:
        return evidence(run.recording, targets, what)
    at = run.contrast_tensors
    given = "contrast layer" in run.calls
    where = "the contrast layer" if given else "the classifier (pass contrast_layer= to choose another layer)"
    masses = contrast(run.recording, at, where)
    return run.recording.propagate(at, masses, targets, NOT_BELOW)


def _from_output(
    recording: Recording, start: Tensor, at: Sequence[Tensor], what: str, dual: bool = False
) -> list[Mass]:
    # Output units count as positive, whatever their state.
    mass = Mass(start, (start, None))
    return recording.propagate([recording.output], [mass], at, _UNREACHABLE.format(what=what), dual)
