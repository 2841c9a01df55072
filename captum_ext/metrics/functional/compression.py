"""Compression resilience: what a network still knows while units of a layer are switched off."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from captum_ext.metrics.functional._units import probabilities_of, units_of

Order = Literal["most", "least", "random"]
By = Literal["mass", "units"]

# Winning probabilities are float32 sums, so that ten times 0.05 need not be 0.5.
_SLACK = 1e-6


@dataclass(frozen=True)
class CompressionCurves:
    """What is left of the decision of each example, by level.

    Attributes:
        probability (Tensor): Probability of the target class, softmax of the logits, (N, L) float64.
        correct (Tensor): Whether the target class is the largest logit, (N, L) bool.
        units_off (Tensor): Share of the layer's units that are switched off, in 0..1, (N, L) float64.
    """

    probability: Tensor
    correct: Tensor
    units_off: Tensor


def default_by(order: Order) -> By:
    """How the thesis counts: relevant units by their cumulated p_EB, random ones by their number."""
    return "units" if order == "random" else "mass"


def default_levels(by: By) -> tuple[float, ...]:
    """The levels of the thesis: p_c = 0, 0.05, ... 0.95, or k = 0, 128, ... 4096 units of 4096."""
    if by == "mass":
        return tuple(k / 20 for k in range(20))
    return tuple(k / 32 for k in range(33))


def switch_off_levels(
    excitation: Tensor,
    order: Order = "most",
    by: By | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The level from which on each unit is switched off.

    Units are put into an order: by falling p_EB (``"most"`` relevant first), by rising p_EB (``"least"``
    relevant first), or at random; equal ones by their number. Then a level c switches off

    - ``by="mass"``: the longest beginning of the order whose cumulated p_EB is at most c. Units that come
      before any mass are never switched off: they are no part of what c counts, and otherwise the curve of
      the least relevant would not start at the whole network, since for a single linear layer above half of
      the *active* units have a p_EB of 0;
    - ``by="units"``: the first c U units, rounded.

    At level 0 all units are on.

    Args:
        excitation (Tensor): p_EB of the units; one row per order.
        order (str): ``"most"``, ``"least"`` or ``"random"``.
        by (str, optional): ``"mass"`` or ``"units"``. Default: as in the thesis, ``"units"`` for
            ``"random"``, else ``"mass"``.
        generator (torch.Generator, optional): Source of random orders, on the CPU. Default: torch's own.

    Shape:
        - excitation: (N, U) or (N, *)
        - returns: (N, U), or U the product of the axes beside the batch

    Returns:
        Tensor: Level above 0, infinite for units that are never switched off, float64. Unit i is off at level
        c if its value is at most c.

    Raises:
        TypeError: If the excitation is not floating point.
        ValueError: If it has no batch axis, is empty, not finite or negative, a row sums to more than 1, or a
            name is unknown.

    Example:
        >>> p = torch.tensor([[0.5, 0.0, 0.25, 0.25]])
        >>> switch_off_levels(p) <= 0.8  # the first and the third, 0.75 together
        tensor([[ True, False,  True, False]])
        >>> switch_off_levels(p, order="least", by="units") <= 0.5
        tensor([[False,  True,  True, False]])

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, section 5.2.4.
    """
    by = check_order(order, by)
    p = probabilities_of(excitation, "excitation").double()
    if order == "random":
        ranking = torch.rand(p.shape, dtype=torch.float64, generator=generator).argsort(1).to(p.device)
    else:
        ranking = p.argsort(dim=1, descending=order == "most", stable=True)
    if by == "units":
        return (ranking.argsort(1) + 0.5) / p.shape[1]
    mass = torch.zeros_like(p).scatter(1, ranking, p.gather(1, ranking).cumsum(1))
    tiny = torch.finfo(p.dtype).tiny  # on at level 0, however little the mass
    return torch.where(mass > 0, (mass - _SLACK).clamp(min=tiny), torch.inf)


def compression_curves(
    head: Callable[[Tensor], Tensor],
    activations: Tensor,
    excitation: Tensor,
    target: Tensor,
    levels: Sequence[float],
    order: Order = "most",
    by: By | None = None,
    rescale: bool = False,
    generator: torch.Generator | None = None,
) -> CompressionCurves:
    """Switch units off, level by level, and run the rest of the network.

    Args:
        head (Callable): The network from the layer to its logits, in evaluation mode. It is called once per
            level, without gradients.
        activations (Tensor): Activations of the layer, what ``head`` takes.
        excitation (Tensor): p_EB at the layer, which orders the units. With fewer axes than the activations
            its entries are units of several values: (N, C) for the channels of (N, C, H, W).
        target (Tensor): Class whose probability is followed; the ground truth in the thesis.
        levels (sequence of float): Levels in 0..1, see
            :func:`~captum_ext.metrics.functional.switch_off_levels`.
        order (str): ``"most"``, ``"least"`` or ``"random"``.
        by (str, optional): ``"mass"`` or ``"units"``.
        rescale (bool): Divide the activations of the survivors by their share of the layer, as training with
            inverted dropout does. The thesis does not mention it. Default: False
        generator (torch.Generator, optional): Source of random orders, on the CPU.

    Shape:
        - activations: (N, U) or (N, U, *)
        - excitation: (N, U); (1, U) for one order for all examples; the first axes of the activations
        - target: (N,)

    Returns:
        CompressionCurves: Probabilities, hits and the share of units switched off.

    Raises:
        TypeError: If a tensor has the wrong type.
        ValueError: If shapes do not match, a value is not finite or outside its range, or a name is unknown.

    Example:
        >>> head = torch.nn.Linear(4, 3)
        >>> h, p = torch.rand(2, 4), torch.tensor([[0.4, 0.3, 0.2, 0.1]]).expand(2, 4)
        >>> curves = compression_curves(head, h, p, torch.tensor([0, 2]), [0.0, 0.4, 0.9])
        >>> curves.probability.shape
        torch.Size([2, 3])
        >>> curves.units_off[0]
        tensor([0.0000, 0.2500, 0.7500], dtype=torch.float64)
    """
    units_of(activations, "activations")
    axes = excitation.dim() if isinstance(excitation, Tensor) else 0
    if axes and not (
        axes <= activations.dim()
        and excitation.shape[1:] == activations.shape[1:axes]
        and len(excitation) in (1, len(activations))
    ):
        raise ValueError(
            f"excitation must have the shape of activations, {tuple(activations.shape)}, or of its first "
            f"axes, got {tuple(excitation.shape)}."
        )
    _check_target(target, len(activations))
    _check_head(head)
    check_levels(levels)
    off_from = switch_off_levels(excitation, order, by, generator).to(activations.device)
    units = (-1, *excitation.shape[1:], *[1] * (activations.dim() - axes))
    target = target.to(activations.device)
    probability, correct, units_off = [], [], []
    with torch.no_grad():
        for level in levels:
            on = off_from > level
            share = on.double().mean(1, keepdim=True)
            # Where no unit is left there is nothing to scale.
            scale = on / share.clamp(min=1 / on.shape[1]) if rescale else on
            logits = head(activations.detach() * scale.reshape(units).to(activations.dtype))
            _check_logits(logits, target)
            probability.append(logits.double().softmax(1).gather(1, target[:, None])[:, 0])
            correct.append(logits.argmax(1) == target)
            units_off.append((1 - share[:, 0]).expand(len(target)))
    return CompressionCurves(torch.stack(probability, 1), torch.stack(correct, 1), torch.stack(units_off, 1))


def normalized_auc(curves: Tensor, levels: Sequence[float]) -> Tensor:
    """Area under each curve by the trapezoid rule, divided by the width of the levels.

    Args:
        curves (Tensor): Values at the levels.
        levels (sequence of float): Rising levels, at least two.

    Shape:
        - curves: (N, L)
        - returns: (N,)

    Returns:
        Tensor: Mean height, in the units of the curves, float64.

    Raises:
        ValueError: If there are fewer than two levels, they do not rise, or their number is not L.

    Example:
        >>> normalized_auc(torch.tensor([[1.0, 0.5, 0.0]]), [0.0, 0.1, 0.2])
        tensor([0.5000], dtype=torch.float64)
    """
    check_rising(levels)
    if curves.dim() != 2 or curves.shape[1] != len(levels):
        raise ValueError(f"curves must have shape (N, {len(levels)}), got {tuple(curves.shape)}.")
    at = torch.tensor(levels, dtype=torch.float64, device=curves.device)
    return torch.trapezoid(curves.double(), at) / (at[-1] - at[0])


def check_order(order: str, by: str | None) -> By:
    """Refuse unknown names; the way of counting, by default the thesis' one."""
    if order not in ("most", "least", "random"):
        raise ValueError(f'order must be "most", "least" or "random", got {order!r}.')
    if by is None:
        return default_by(order)  # type: ignore[arg-type]
    if by not in ("mass", "units"):
        raise ValueError(f'by must be "mass" or "units", got {by!r}.')
    return by  # type: ignore[return-value]


def check_levels(levels: Sequence[float]) -> None:
    """Refuse levels outside 0..1."""
    if len(levels) == 0 or not all(0 <= level <= 1 for level in levels):
        raise ValueError(f"levels must lie in 0..1 and be at least one, got {list(levels)}.")


def check_rising(levels: Sequence[float]) -> None:
    """Refuse levels without an area above them."""
    if len(levels) < 2 or any(b <= a or math.isnan(b - a) for a, b in pairwise(levels)):
        raise ValueError(f"levels must be at least two and rise, got {list(levels)}.")


def _check_head(head: object) -> None:
    for name, module in head.named_modules() if isinstance(head, nn.Module) else ():
        if module.training and isinstance(module, _DropoutNd | _BatchNorm):
            raise ValueError(
                f"head is in training mode: {name or 'it'} ({type(module).__name__}) would change what is "
                "measured; call head.eval()."
            )


def _check_target(target: Tensor, n: int) -> None:
    if not isinstance(target, Tensor) or target.is_floating_point() or target.dtype == torch.bool:
        what = str(target.dtype) if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"target must be an integer tensor of shape (N,), got {what}.")
    if target.shape != (n,):
        raise ValueError(f"target must have shape ({n},), one class per example, got {tuple(target.shape)}.")


def _check_logits(logits: Tensor, target: Tensor) -> None:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(target):
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"head must return logits of shape ({len(target)}, K), got {what}.")
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("head returned logits that are not finite.")
    if int(target.min()) < 0 or int(target.max()) >= logits.shape[1]:
        raise ValueError(
            f"target must lie in 0..{logits.shape[1] - 1} (classes), got {int(target.min())}.."
            f"{int(target.max())}."
        )
