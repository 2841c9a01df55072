"""Where the evidence is measured from: the scores in what a network returns, and the mass at each score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Armed", "OutputFn", "find_scores", "prior_mass"]

OutputFn = Callable[[Any], Tensor]

_NAMES = ("logits", "scores", "out")


@dataclass(frozen=True)
class Armed:
    """What the next forward passes are measured against.

    Args:
        targets (Tensor or str): labels, distributions over the classes, or ``"predicted"``.
        output_fn (Callable): takes the scores out of what the network returns.
    """

    targets: Tensor | Literal["predicted"]
    output_fn: OutputFn

    def __post_init__(self) -> None:
        targets = self.targets
        if isinstance(targets, str) and targets == "predicted":
            return
        if not isinstance(targets, Tensor):
            shown = repr(targets) if isinstance(targets, str) else type(targets).__name__
            raise TypeError(f"targets must be a tensor of labels or soft labels, or 'predicted', got {shown}")
        if targets.is_complex():
            raise TypeError(f"labels must be integers, soft labels floating point, got {targets.dtype}")


def find_scores(output: Any) -> Tensor:
    """The scores in what a network returned, so far as that can be told.

    A tensor; else what is called ``logits``, ``scores`` or ``out``; else the first of a tuple or list.

    Args:
        output (Any): a tensor, dict, tuple, list, dataclass or any other object with such attributes.

    Returns:
        *Tensor* of scores, (N, K) or (N, K, *).

    Raises:
        TypeError: there is no floating point tensor of at least two axes there.

    Example:
        >>> find_scores({"loss": torch.tensor(0.5), "logits": torch.zeros(2, 3)}).shape
        torch.Size([2, 3])
    """
    found = output
    if isinstance(output, Mapping):
        found = next((output[name] for name in _NAMES if name in output), None)
    elif not isinstance(output, Tensor):
        found = next((value for name in _NAMES if (value := getattr(output, name, None)) is not None), None)
        if found is None and isinstance(output, list | tuple) and output:
            found = output[0]
    if not isinstance(found, Tensor) or found.dim() < 2 or not found.is_floating_point():
        shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise TypeError(
            f"Excitation Dropout finds no class scores (N, K) in the {type(output).__name__}{shape} that the "
            "network returned; pass output_fn=, a function that takes them out of it"
        )
    return found


def prior_mass(scores: Tensor, targets: Tensor | Literal["predicted"]) -> Tensor:
    """Where the mass of each example starts: at its label, or as its soft label says; 0 for ignored labels.

    Args:
        scores (Tensor): the network's scores.
        targets (Tensor or str): labels (negative ones are ignored), non-negative weights of the classes, such
            as several labels as 0 and 1, or ``"predicted"``.

    Shape:
        scores (N, K, *) as :func:`torch.nn.functional.cross_entropy` takes them, labels (N, *) or (N, 1),
        weights (N, K, *). The mass has the shape of the scores, its sum per example is 1, or 0 where all of
        the labels are ignored or the weights are 0.
    """
    if scores.dim() < 2:
        raise ValueError(
            f"the scores have shape {tuple(scores.shape)}; Excitation Dropout needs (N, K), or (N, K, *) "
            "with the classes at axis 1; pass output_fn= to bring them there"
        )
    if scores.shape[1] == 1:
        raise ValueError(
            f"scores of shape {tuple(scores.shape)} are one number per example, in which nothing would be "
            "the evidence for a low one; for two classes pass output_fn=lambda z: torch.cat([-z, z], 1) and "
            "labels 0 and 1"
        )
    scores = scores.detach()
    if isinstance(targets, str):
        mass = _one_hot(scores.argmax(1), scores)
    else:
        targets = targets.detach().to(scores.device)
        if targets.is_floating_point() or targets.shape == scores.shape:
            mass = _weights(targets, scores)
        else:
            mass = _one_hot(_labels(targets, scores), scores)
    total = mass.sum(tuple(range(1, mass.dim())), keepdim=True)
    return mass / torch.where(total > 0, total, 1.0)


def _one_hot(labels: Tensor, scores: Tensor) -> Tensor:
    counts = (labels >= 0).unsqueeze(1).float()
    return torch.zeros(scores.shape, dtype=torch.float32, device=scores.device).scatter_(
        1, labels.clamp(min=0).unsqueeze(1), counts
    )


def _labels(labels: Tensor, scores: Tensor) -> Tensor:
    shape = scores.shape[:1] + scores.shape[2:]
    if labels.shape != shape and labels.shape == (*shape, 1):
        labels = labels.squeeze(-1)
    if labels.shape != shape:
        raise ValueError(_misfit(labels, scores, f"labels {tuple(shape)}"))
    if labels.dtype == torch.bool and scores.shape[1] != 2:
        raise TypeError(
            f"labels {tuple(shape)} must be integers, got booleans, which tell two classes apart and not "
            f"{scores.shape[1]}"
        )
    # On a GPU, looking would make the host wait; there torch's own assertion stops the run.
    if labels.device.type == "cpu" and labels.numel() and int(labels.max()) >= scores.shape[1]:
        raise ValueError(
            f"label {int(labels.max())} is not one of the {scores.shape[1]} classes of scores "
            f"{tuple(scores.shape)}; if the labels are no classes, pass target='predicted'"
        )
    return labels.long()


def _weights(weights: Tensor, scores: Tensor) -> Tensor:
    if weights.shape != scores.shape:
        raise ValueError(_misfit(weights, scores, f"soft labels {tuple(scores.shape)}"))
    if weights.device.type == "cpu" and not bool(((weights >= 0) & weights.isfinite()).all()):
        raise ValueError(
            "soft labels must be finite and not negative; the mass of a class is its share of the evidence"
        )
    return weights.float().clamp(min=0)


def _misfit(targets: Tensor, scores: Tensor, wanted: str) -> str:
    return (
        f"targets of shape {tuple(targets.shape)} ({targets.dtype}) do not fit scores of shape "
        f"{tuple(scores.shape)}: wanted {wanted}. The network may run more than once per batch, or the "
        "targets may not be class labels: pass a target_fn= that returns what fits (or None to leave a batch "
        "alone), output_fn= for other scores, or target='predicted'"
    )
