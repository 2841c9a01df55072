"""The dropout layer."""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from captum_ext.dropout import frames
from captum_ext.dropout.copies import StandIn
from captum_ext.dropout.keep import check_drop_rate, excitation_keep_mask, excitation_keep_probability
from captum_ext.dropout.rescale import Rescale, check_rescale, rescale_factor
from captum_ext.dropout.targets import Armed, OutputFn, find_scores

__all__ = ["Dropped", "ExcitationDropoutLayer", "Unit"]

Unit = Literal["element", "channel"]
_BY_HANDLE: weakref.WeakValueDictionary[int, ExcitationDropoutLayer] = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class Dropped:
    """What a layer did in its last training pass.

    Args:
        p_eb (Tensor): winning probabilities of its units.
        keep (Tensor): the mask, True for kept units.
        has_target (Tensor): the examples whose label is not ignored.

    Shape:
        ``p_eb`` and ``keep`` (N, *), with axes of size 1 behind the channels if units are channels;
        ``has_target`` (N,), or that of the scores if those are of fewer examples than the layer has rows.
    """

    p_eb: Tensor
    keep: Tensor
    has_target: Tensor

    def statistics(self) -> dict[str, Tensor]:
        """Means over the examples with a target, as tensors of no axes.

        ``peak_p_eb``, the largest winning probability; ``dropped_units``, the share of units that were
        dropped; ``dropped_evidence``, the winning probability they held; ``lost_mass``, what of the unit mass
        did not reach the layer, because it went around it or was lost in units without support.
        """
        n = self.has_target.sum().clamp(min=1)
        examples = (len(self.has_target), -1)
        p_eb, dropped = self.p_eb.reshape(examples), ~self.keep.reshape(examples)
        return {
            "peak_p_eb": p_eb.amax(1).sum() / n,
            "dropped_units": dropped.float().mean(1).sum() / n,
            "dropped_evidence": (p_eb * dropped).sum() / n,
            "lost_mass": 1 - p_eb.sum() / n,
        }


class ExcitationDropoutLayer(StandIn, nn.Dropout):
    """Dropout of the units that contribute most to the label, each with its share of the evidence.

    In training, and only after :meth:`arm` or under :func:`attach`, a pass of the network runs as follows
    (thesis, Figure 5.1): the activations h reach the layer; the network above runs on h; Excitation Backprop
    from the labels gives the winning probabilities p_EB of the units of h; each unit of each example is kept
    with the probability of eq. 5.1 (:func:`excitation_keep_probability`); the network above runs once more,
    on the units that were kept, and this is what is trained. p_EB and the mask are constants to autograd. At
    all other times the layer is the identity. It has neither parameters nor buffers, so a checkpoint fits a
    model with :class:`torch.nn.Dropout` in its place, and the other way round.

    The part of the network above is given as ``head``, or found by :func:`attach`.

    Args:
        p (float, optional): base drop rate C = 1 - P, the rate if all units held the same evidence; at least
            0, below 1. May be changed at any time. Default: 0.5
        rescale (str, optional): what kept activations are multiplied by. ``"fraction"``: per example 1 / the
            share of units that were kept, as the authors' code since 2023; ``"none"``: 1, as in the thesis;
            ``"unit"``: 1 / the keep probability of the unit, unbiased for every unit but noisy; ``"mass"``:
            per example the sum of magnitudes / its expectation, unbiased for the sum of a layer behind a
            ReLU. Default: ``"fraction"``
        unit (str, optional): what is dropped: ``"element"``, or ``"channel"`` of a convolutional map, with
            the evidence summed over the other axes. Default: ``"element"``
        n (str, optional): N of eq. 5.1: ``"layer"``, all units of an example, or ``"active"``, those that are
            not 0, which makes ``p`` the rate among them. Default: ``"layer"``
        inverse (bool, optional): drop the units with the least evidence, as a control. Default: False
        max_scale (float, optional): largest factor of ``"unit"`` and ``"mass"``. Default: 10.0
        strict (bool, optional): whether an operation without an Excitation Backprop rule above the layer is
            an error; if not, the layer warns once and drops all units at the rate ``p``. Default: True
        head (Callable, optional): the network above, from the layer's output to the scores: a module or a
            function. Default: None

    Shape:
        (N, *), or (N, C, *) with channels as units; the result has the same shape. Scores as
        :func:`torch.nn.functional.cross_entropy` takes them.

    Example:
        >>> import torch
        >>> head = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> dropout = ExcitationDropoutLayer(p=0.5, head=head)
        >>> dropout.arm(torch.tensor([0, 2]))
        >>> h = torch.rand(2, 6)
        >>> scores = head(dropout(h))
        >>> dropout.last.p_eb.shape, dropout.last.keep.dtype
        (torch.Size([2, 6]), torch.bool)
        >>> torch.equal(dropout.eval()(h), h)
        True

    References:
        Zunino et al., Excitation Dropout: Encouraging Plasticity in Deep Neural Networks, IJCV 2021; Bargal,
        thesis 2019, chapter 5.
    """

    def __init__(
        self,
        p: float = 0.5,
        rescale: Rescale = "fraction",
        unit: Unit = "element",
        n: Literal["layer", "active"] = "layer",
        inverse: bool = False,
        max_scale: float = 10.0,
        strict: bool = True,
        head: Callable[[Tensor], Any] | None = None,
    ) -> None:
        check_drop_rate(p)
        check_rescale(rescale)
        if unit not in ("element", "channel"):
            raise ValueError(f"unit must be 'element' or 'channel', got {unit!r}")
        if n not in ("layer", "active"):
            raise ValueError(f"n must be 'layer' or 'active', got {n!r}")
        if not 1 <= max_scale < math.inf:
            raise ValueError(f"max_scale must be a number of at least 1, got {max_scale}")
        super().__init__(p)
        self.rescale: Rescale = rescale
        self.unit: Unit = unit
        self.n, self.inverse, self.max_scale, self.strict = n, inverse, float(max_scale), strict
        # In a tuple it is no submodule: its weights belong to the network and must not be saved twice.
        self._head = (head,)
        self._forget()

    @property
    def head(self) -> Callable[[Tensor], Any] | None:
        """The network above, where it was given."""
        return self._head[0]

    def _forget(self) -> None:
        """Begin with no target, measured nothing yet."""
        self.has_warned = False
        self.has_run = False
        self.idle_passes = 0
        self.scores_number: int | None = None
        self.armed: Armed | None = None
        self.is_armed = False
        self.last: Dropped | None = None
        self.handle = id(self)
        _BY_HANDLE[self.handle] = self

    def __getstate__(self) -> dict[str, Any]:
        """Copies, as weight averaging makes them, are not armed."""
        state = cast("dict[str, Any]", super().__getstate__())  # type: ignore[no-untyped-call]
        return {**state, "armed": None, "is_armed": False, "last": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forget()

    def arm(self, targets: Tensor | Literal["predicted"], output_fn: OutputFn = find_scores) -> None:
        """Say what the evidence of the next training passes is for.

        Args:
            targets (Tensor or str): labels (N,), of which negative ones leave their example alone; soft
                labels (N, K), weights of the classes that need not sum to 1; or ``"predicted"``, the class
                with the highest score, classes being axis 1 of the scores.
            output_fn (Callable, optional): takes the scores (N, K) out of what the network (or ``head``)
                returns. Default: :func:`find_scores`
        """
        self.set_armed(Armed(targets, output_fn))

    def disarm(self) -> None:
        """Be the identity from now on."""
        self.set_armed(None)

    def set_armed(self, armed: Armed | None) -> None:
        """Share with other layers what the evidence is for, so that they are measured together."""
        self.armed, self.is_armed = armed, armed is not None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name in torch)
        """Drop what :class:`ExcitationDropoutLayer` says."""
        if not self.training or not self.is_armed:
            return input
        if torch.compiler.is_compiling() and self.head is not None:
            autocast = torch.is_autocast_enabled(input.device.type)
            multiplier: Tensor = torch.ops.captum_ext.excitation_dropout(
                input.detach(), self.handle, autocast
            )
            return input * multiplier
        return frames.reach(self, input)

    def multiplier(self, h: Tensor, p_eb: Tensor | None, has_target: Tensor) -> Tensor:
        """Draw the mask for activations of known evidence and note it.

        Args:
            h (Tensor): the activations.
            p_eb (Tensor, optional): winning probabilities in their shape; None to drop all units alike.
            has_target (Tensor): the examples whose label is not ignored, (examples,).

        Returns:
            what the activations are to be multiplied by.
        """
        h = h.detach()
        examples = len(has_target)
        if examples == 0:
            raise ValueError("the batch is empty: Excitation Dropout has no example to measure evidence for")
        if h.dim() < 2 or h.shape[0] % examples:
            raise ValueError(
                f"the Excitation Dropout layer sees activations of shape {tuple(h.shape)} for {examples} "
                "examples; axis 0 must be the batch, or a whole number of rows per example"
            )
        # Whatever is counted is counted over all rows of an example: (examples, rows, *).
        h = h.reshape(examples, -1, *h.shape[1:])
        inner = tuple(range(3, h.dim())) if self.unit == "channel" else ()
        shape = (*h.shape[:3], *[1] * len(inner)) if inner else h.shape
        n: int | Tensor = math.prod(shape[1:])
        if p_eb is None:
            even = has_target.float().view(-1, *[1] * (len(shape) - 1)) / n
            p_eb = even.expand(shape)
        else:
            p_eb = p_eb.reshape(h.shape)
            p_eb = p_eb.sum(inner, keepdim=True) if inner else p_eb
            if self.n == "active":
                is_on = (h != 0).any(inner, keepdim=True) if inner else h != 0
                n = is_on.sum(tuple(range(1, h.dim())), keepdim=True).clamp(min=2)
        # Evidence is NaN where scores overflowed. So shall be the loss, for the GradScaler to skip the step.
        is_finite = p_eb.isfinite()
        known = p_eb.where(is_finite, 0.0)
        keep = excitation_keep_mask(known, self.p, n, self.inverse)
        probability = None
        if self.rescale in ("unit", "mass"):
            probability = excitation_keep_probability(known, self.p, n, self.inverse)
        scale = rescale_factor(h, keep, probability, self.rescale, self.max_scale)
        self.last = Dropped(p_eb.flatten(0, 1), keep.flatten(0, 1), has_target)
        return torch.where(is_finite, keep * scale, torch.nan).to(h.dtype).flatten(0, 1)

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"p={self.p}, rescale={self.rescale!r}, unit={self.unit!r}, n={self.n!r}, inverse={self.inverse}"
        )


# Two calls draw two masks; torch's older signatures take no tags.
_TAKES_TAGS = "tags" in inspect.signature(torch.library.custom_op).parameters
_TAGS: dict[str, Any] = {"tags": (torch.Tag.nondeterministic_seeded,)} if _TAKES_TAGS else {}


@torch.library.custom_op("captum_ext::excitation_dropout", mutates_args=(), **_TAGS)
def _through_head(h: Tensor, handle: int, autocast: bool) -> Tensor:
    """The multiplier of the layer with this handle, whose head is run and measured in here.

    An operator, since a compiled network then calls it as it is, without a graph break. Autograd is off in
    operators; inference_mode(False) is the public way to have it back.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(h.device.type, dtype=_autocast_dtype(h), enabled=autocast),
    ):
        multiplier = frames.through_head(_BY_HANDLE[handle], h)
    # What an operator returns must be no tensor that it was given, nor one that autograd follows.
    return multiplier.detach()


@_through_head.register_fake
def _(h: Tensor, handle: int, autocast: bool) -> Tensor:
    return torch.empty_like(h)


def _autocast_dtype(h: Tensor) -> torch.dtype:
    is_half = h.dtype in (torch.float16, torch.bfloat16)
    return h.dtype if is_half else torch.get_autocast_dtype(h.device.type)
