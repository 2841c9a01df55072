"""Excitation Dropout in a model that knows nothing of it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from captum_ext.dropout import frames
from captum_ext.dropout.eager import Eager
from captum_ext.dropout.layer import ExcitationDropoutLayer, Unit
from captum_ext.dropout.rescale import Rescale
from captum_ext.dropout.swap import Swap, ancestors, find_module
from captum_ext.dropout.targets import Armed, OutputFn, find_scores
from captum_ext.excitation import unwrap

__all__ = ["Attachment", "attach", "is_compiled"]

_SHARDED = ("FullyShardedDataParallel", "FSDPModule")
Head = str | Sequence[str] | Callable[[nn.Module, Tensor], Any]


def attach(
    model: nn.Module,
    layers: str | Sequence[str],
    p: float | None = None,
    rescale: Rescale = "fraction",
    unit: Unit | None = None,
    n: Literal["layer", "active"] = "layer",
    inverse: bool = False,
    max_scale: float = 10.0,
    output_fn: OutputFn = find_scores,
    head: Head | None = None,
    strict: bool = True,
) -> Attachment:
    """Train a model with Excitation Dropout; the model is as before once the attachment is detached.

    A dropout layer of the model is replaced by an :class:`ExcitationDropoutLayer`; behind any other module
    one is added. Then, in every training pass of the model that is :meth:`armed <Attachment.arm>`, the part
    of the network from the lowest of the layers up runs twice, and all that is below runs once. The first,
    clean run is recorded and measured by Excitation Backprop; other dropouts do nothing in it and batch norm
    does not move its running statistics. The second run is trained. Both take whatever way the code of the
    model takes in the first. The mask takes one random number per unit; what draws random numbers without
    looking at the layer's values runs once, before that. Where one of the layers is behind a module inside of
    compiled code, all that torch has compiled is compiled again, when they are put in and when they go.

    Args:
        model (nn.Module): the model.
        layers (str or list[str]): dotted names of dropout layers, or of modules to drop from the output of.
        p (float, optional): base drop rate. Default: that of the layer whose place is taken, 0.5 behind
            others
        rescale (str, optional): see :class:`ExcitationDropoutLayer`. Default: ``"fraction"``
        unit (str, optional): ``"element"`` or ``"channel"``. Default: ``"channel"`` in the place of
            :class:`torch.nn.Dropout2d` and its kin
        n (str, optional): ``"layer"`` or ``"active"``. Default: ``"layer"``
        inverse (bool, optional): drop the units with the least evidence. Default: False
        max_scale (float, optional): largest factor of ``"unit"`` and ``"mass"``. Default: 10.0
        output_fn (Callable, optional): takes the scores (N, K) out of what the model returns. Default: the
            tensor itself, ``logits``, ``scores`` or ``out``, or the first of a tuple
        head (str, list[str] or Callable, optional): the part of the network above the layer, for
            :func:`torch.compile`: names of modules that run one after the other, or a function of the model
            and the activations that returns the scores. For one layer only. Default: found while the model
            runs
        strict (bool, optional): whether an operation without an Excitation Backprop rule is an error.
            Default: True

    Returns:
        Attachment: a context manager that detaches at its end.

    Raises:
        ValueError: a name that the model does not have, or settings that make no sense.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> x, y = torch.rand(8, 4), torch.randint(3, (8,))
        >>> with attach(model, "2") as dropout:
        ...     dropout.arm(y)
        ...     loss = nn.functional.cross_entropy(model(x), y)
        ...     loss.backward()
        >>> model[2]
        Dropout(p=0.5, inplace=False)
    """
    if any(kind.__name__ in _SHARDED for module in model.modules() for kind in type(module).__mro__):
        raise ValueError(
            "the weights of the model are sharded (FSDP) and gone outside of their module's own forward "
            "pass, so the part above a layer cannot run a second time; Excitation Dropout does not support it"
        )
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"layers must name at least one layer, and none twice, got {layers!r}")
    if head is not None and len(names) > 1:
        raise ValueError("head= describes what lies above one layer; attach several layers one by one")

    def make(rate: float | None, is_channelwise: bool) -> nn.Module:
        base = p if p is not None else 0.5 if rate is None else rate
        if p is None and base == 0:
            raise ValueError(f"a layer of {names} has the drop rate 0, so nothing would be dropped; pass p=")
        own: Unit = unit or ("channel" if is_channelwise else "element")
        return ExcitationDropoutLayer(
            base, rescale, own, n, inverse, max_scale, strict, None if head is None else _head(model, head)
        )

    return Attachment(model, names, make, output_fn)


class Attachment:
    """Excitation Dropout layers in a model; made by :func:`attach`.

    Args:
        model (nn.Module): the model.
        names (Sequence[str]): dotted names.
        make (Callable): makes a layer, see :class:`~captum_ext.dropout.swap.Swap`.
        output_fn (Callable): takes the scores out of what the model returns.

    Attributes:
        layers (Mapping[str, ExcitationDropoutLayer]): the layers by name.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        make: Callable[[float | None, bool], nn.Module],
        output_fn: OutputFn,
    ) -> None:
        self._output_fn = output_fn
        self._has_warned = False
        self._swaps: list[Swap] = []
        self._watched: list[tuple[nn.Module, ExcitationDropoutLayer]] = []
        self._eager = Eager()
        self._model: nn.Module | None = model
        layers: dict[str, ExcitationDropoutLayer] = {}
        self.layers: Mapping[str, ExcitationDropoutLayer] = layers
        try:
            for name in names:
                swap = Swap(model, name, make)
                self._swaps.append(swap)
                assert isinstance(swap.layer, ExcitationDropoutLayer)  # noqa: S101
                layers[name] = swap.layer
        except BaseException:
            self.detach()
            raise
        for name, layer in layers.items():
            if layer.head is None:
                for ancestor in ancestors(model, name):
                    frames.watch(ancestor, layer)
                    self._watched.append((ancestor, layer))
        if any(swap.is_behind for swap in self._swaps):
            _forget_compiled(model, layers)

    def arm(self, targets: Tensor | Literal["predicted"]) -> None:
        """Say what the evidence of the next training passes is for: see :meth:`ExcitationDropoutLayer.arm`.

        Args:
            targets (Tensor or str): labels, soft labels or ``"predicted"``.
        """
        frames.abort()
        armed = Armed(targets, self._output_fn)
        for layer in self.layers.values():
            layer.set_armed(armed)
        if self._watched and self._model is not None:
            if is_compiled(self._model, self.layers):
                self._run_eagerly()
            elif not self._has_warned:
                self._warn_of_compiled_parts(self._model)

    def disarm(self) -> None:
        """Make the layers the identity, until armed again."""
        frames.abort()
        for layer in self.layers.values():
            layer.disarm()
        self._eager.end()

    def detach(self) -> None:
        """Restore the model."""
        frames.abort()
        self._eager.end()
        for module, layer in self._watched:
            frames.unwatch(module, layer)
        self._watched.clear()
        if self._model is not None and any(swap.is_behind for swap in self._swaps):
            _forget_compiled(self._model, self.layers)
        while self._swaps:
            self._swaps.pop().undo()
        self._model = None

    def _warn_of_compiled_parts(self, model: nn.Module) -> None:
        self._has_warned = True
        parts = [name for name, module in model.named_modules() if name and _is_wrapper(module)]
        if parts:
            warnings.warn(
                f"parts of the model are compiled ({', '.join(map(repr, parts[:3]))}); those above "
                f"{', '.join(map(repr, self.layers))} run eagerly while it trains with Excitation Dropout, "
                "which records them; pass head= to keep them compiled. Parts below stay compiled.",
                stacklevel=3,
            )

    def _run_eagerly(self) -> None:
        self._eager.begin()
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "the model is compiled, but training with Excitation Dropout at "
                f"{', '.join(map(repr, self.layers))} runs it eagerly, since the network above a layer can "
                "only be recorded that way; pass head= (the part above the layer) to train compiled. "
                "Evaluation stays compiled, after disarm().",
                stacklevel=3,
            )

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def _head(model: nn.Module, head: Head) -> Callable[[Tensor], Any]:
    if isinstance(head, str):
        return find_module(model, head)
    if callable(head):
        return partial(head, unwrap(model))
    return nn.Sequential(*(find_module(model, name) for name in head))


def is_compiled(model: nn.Module, names: Iterable[str]) -> bool:
    """Whether one of the layers lies inside of a compiled module."""
    if "torch._dynamo" not in sys.modules:
        return False
    for name in names:
        module: Any = model
        for part in ("", *name.split(".")):
            module = getattr(module, part) if part else module
            if _is_wrapper(module):
                return True
    return False


def _is_wrapper(module: nn.Module) -> bool:
    """Whether calling a module runs compiled code; Lightning compiles the methods of its modules."""
    signs = ("_orig_mod", "_compiled_call_impl", "_compiler_ctx")
    return any(getattr(module, sign, None) is not None for sign in signs)


def _forget_compiled(model: nn.Module, names: Iterable[str]) -> None:
    """Have code compiled again: what was compiled before a hook came or went goes on without or with it."""
    if is_compiled(model, names):
        torch._dynamo.reset()
