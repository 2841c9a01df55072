"""The network above the dropout layer: run once to be measured, recorded, and run again on what was kept.

From the dropout layer up, every call of torch that depends on it goes through :class:`Tape`. The call runs
on a detached copy of the layer's activations under the Excitation Backprop engine, whose rules end up in the
graph of that clean pass, and is noted. :meth:`Tape.replay` repeats the calls on the masked activations as
ordinary operations, which training goes through. The network below runs once, and so does everything above
that does not depend on the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from captum_ext.dropout.clean import OF_SHAPE, run_clean
from captum_ext.dropout.outputs import each_tensor, map_arguments
from captum_ext.dropout.signs import is_known_non_negative
from captum_ext.excitation import UnsupportedOperationError
from captum_ext.excitation.mode import ExcitationMode
from captum_ext.excitation.operand import Facts, set_facts
from captum_ext.excitation.weights import ChangingWeights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from captum_ext.dropout.layer import ExcitationDropoutLayer
    from captum_ext.dropout.targets import Armed

__all__ = ["Site", "Tape", "unpacked"]

Multiplier = Callable[["Site", Tensor], Tensor]


@dataclass(frozen=True)
class _Slot:
    """Stands for a value of the tape among the arguments of a call."""

    index: int


class _State(NamedTuple):
    """What a call runs under besides its arguments."""

    grad: bool
    autocast: bool
    dtype: torch.dtype


@dataclass
class _Call:
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[int]
    state: _State


@dataclass
class _Start:
    """A tensor from outside that is written to above the layer: it begins as a copy of what it held.

    A ``target`` without gradients, such as a buffer, is to hold in the end what the run with dropout leaves
    in it.
    """

    value: Tensor
    output: int
    state: _State
    target: Tensor | None = None


@dataclass
class Site:
    """One call of a dropout layer.

    Args:
        layer (ExcitationDropoutLayer): the layer.
        armed (Armed): what its evidence is measured against.
        h (Tensor or _Slot): the activations, as the network below or the tape computes them.
        version (int): version of ``h`` at the call.
        measured (Tensor): where its evidence is read, in the graph of the clean pass.
    """

    layer: ExcitationDropoutLayer
    armed: Armed
    h: Any
    version: int
    measured: Tensor
    output: int
    state: _State


class Tape(TorchFunctionMode):
    """The calls above the first dropout layer of one forward pass; active from there to the network's end.

    Args:
        root (nn.Module): the network, to name modules in error messages.
        device (torch.device): where the activations are.
        rehearsal (bool, optional): the calls will not be run again from here: what they write to is to be
            restored by :meth:`undo_writes`. Default: False

    Attributes:
        root (nn.Module): the network.
        sites (list of Site): the calls of dropout layers.
    """

    def __init__(self, root: nn.Module, device: torch.device, rehearsal: bool = False) -> None:
        super().__init__()
        self.root, self._rehearsal = root, rehearsal
        self._made: set[int] = set()
        self._overwritten: list[tuple[Tensor, Tensor]] = []
        # Values that were computed without gradients, as inside of a custom autograd function.
        self._without_grad: set[int] = set()
        self.mode = ExcitationMode(root, "support", weights=ChangingWeights())
        self.sites: list[Site] = []
        self._device_type = device.type
        self._entries: list[_Call | _Start | Site] = []
        self._clean: list[Tensor] = []
        self._slots: dict[int, int] = {}
        # Tensors whose ids are in use here; they must not die before the tape.
        self._alive: list[Tensor] = []
        self._bypasses: dict[int, Tensor] = {}
        self._held: list[tuple[Tensor, int]] = []
        self._leaves: set[int] = set()
        self._first_node = _next_sequence_number()

    @cached_property
    def _constants(self) -> set[int]:
        """Ids of what is no evidence: buffers, and what is computed from weights alone."""
        return {id(buffer) for buffer in self.root.buffers()}

    # ------------------------------------------------------------------------------------------ recording

    def reach(self, layer: ExcitationDropoutLayer, armed: Armed, h: Tensor) -> Tensor:
        """Note a call of a dropout layer; the network goes on with what this returns."""
        state = self._state()
        index = self._slot_of(h)
        if index is None:
            measured, clean = self._leaf(h)
            source: Any = h
            self._alive.append(measured)
        else:
            measured = self._run(lambda: self._clean[index].view(h.shape))
            clean = self._run(measured.clone)
            source = _Slot(index)
        site = Site(layer, armed, source, _version(h), measured, self._new(clean), state)
        self.sites.append(site)
        self._entries.append(site)
        return clean

    def __enter__(self) -> Tape:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*(exception or (None, None, None)))  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ == "__get__":  # attributes: of interest if they are tensors, as x.T is
            result = func(*args, **kwargs)
            if not isinstance(result, Tensor):
                return result
        tensors = each_tensor(args) + each_tensor(kwargs)
        if all(self._slot_of(tensor) is None for tensor in tensors) or func in OF_SHAPE:
            return self._run_beside(func, args, kwargs, tensors)
        return self._run_and_note(func, args, kwargs)

    def _run_beside(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> Any:
        """Run what does not depend on the layer, once and as usual."""
        for tensor in tensors:
            if tensor.requires_grad and id(tensor) not in self._slots:
                self._check_origin(tensor)
        if self._rehearsal:
            targets = [t for t in _written(func, args, kwargs) if id(t) not in self._made]
            self._overwritten += [(target, target.detach().clone()) for target in targets]
        result = func(*args, **kwargs)
        made = each_tensor(result)
        self._alive += made
        self._made |= {id(tensor) for tensor in made}
        if all(isinstance(t, nn.Parameter) or id(t) in self._constants for t in tensors):
            self._constants |= {id(tensor) for tensor in made}
        return result

    def _run_and_note(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        state = self._state()
        for target in _written(func, args, kwargs):
            if self._slot_of(target) is None:
                self._adopt(target)
            elif state.grad:
                self._without_grad.discard(self._slots[id(target)])
        noted_args, noted_kwargs = map_arguments(args, self._note), map_arguments(kwargs, self._note)
        result = self._run(
            lambda: run_clean(
                func, map_arguments(args, self._clean_of), map_arguments(kwargs, self._clean_of)
            )
        )
        outputs = each_tensor(result)
        if outputs or result is None or func in _REGISTERS:
            slots = [self._slots.get(id(tensor)) for tensor in outputs]
            indices = [
                self._new(tensor) if slot is None else slot
                for tensor, slot in zip(outputs, slots, strict=True)
            ]
            self._entries.append(_Call(func, noted_args, noted_kwargs, indices, state))
            if not state.grad:
                self._without_grad |= {i for i, slot in zip(indices, slots, strict=True) if slot is None}
        return result

    def _run(self, call: Callable[[], Any]) -> Any:
        """Run a call of the clean pass: its graph belongs to no checkpoint, its casts to no cache."""
        cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)
        try:
            with unpacked(), self.mode:
                return call()
        finally:
            torch.set_autocast_cache_enabled(cached)

    def _state(self) -> _State:
        kind = self._device_type
        return _State(
            torch.is_grad_enabled(), torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        )

    def _new(self, value: Tensor) -> int:
        self._slots[id(value)] = len(self._clean)
        self._clean.append(value)
        return len(self._clean) - 1

    def _slot_of(self, tensor: Tensor) -> int | None:
        index = self._slots.get(id(tensor))
        if index in self._without_grad and tensor.grad_fn is not None:
            raise self._unseen(tensor.grad_fn)
        base = tensor._base if index is None and self._slots else None
        if base is None or id(base) not in self._slots:
            return index
        # A view, taken elsewhere, of a tensor that was written to since.
        place = tensor.shape, tensor.stride(), tensor.storage_offset()
        self._entries.append(
            _Call(
                torch.as_strided,
                (_Slot(self._slots[id(base)]), *place),
                {},
                [self._new(tensor)],
                self._state(),
            )
        )
        return self._slots[id(tensor)]

    def _leaf(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """A leaf of the clean pass that stands for ``tensor``, and a copy that the network may write to."""
        leaf = tensor.detach().requires_grad_()
        self._leaves.add(id(leaf))
        self.mode.explain(leaf)
        facts = Facts(non_negative=is_known_non_negative(tensor))
        clean: Tensor = self._run(lambda: set_facts(leaf.clone(), facts))
        return leaf, clean

    def _adopt(self, tensor: Tensor) -> None:
        """Follow a tensor from outside that is about to be written to."""
        state = self._state()
        if tensor.requires_grad:
            if tensor._base is not None or isinstance(tensor, nn.Parameter):
                raise UnsupportedOperationError(
                    "above the Excitation Dropout layer, a part of a tensor from below it is overwritten in "
                    f"{self.mode.module_path()}; clone the tensor before"
                )
            value = tensor.clone()
            leaf, clean = self._leaf(tensor)
            self._alive += [tensor, leaf]
            self._entries.append(_Start(value, self._new(clean), state))
            self._slots[id(tensor)] = self._slots[id(clean)]
            return
        whole = tensor if tensor._base is None else tensor._base
        self._entries.append(_Start(whole.detach().clone(), self._new(whole), state, whole))
        self._slot_of(tensor)

    def _note(self, value: Any) -> Any:
        """An argument as the tape keeps it."""
        if not isinstance(value, Tensor):
            return value
        index = self._slot_of(value)
        if index is not None:
            return _Slot(index)
        self._held.append((value, _version(value)))
        return value

    def _clean_of(self, value: Any) -> Any:
        """An argument as the clean pass sees it."""
        if not isinstance(value, Tensor):
            return value
        index = self._slot_of(value)
        if index is not None:
            return self._clean[index]
        if not value.requires_grad or isinstance(value, nn.Parameter):
            return value
        if isinstance(value._base, nn.Parameter):  # a part of a weight, taken below the layer
            return value.detach()
        if id(value) in self._constants:
            return value.detach()
        if id(value) not in self._bypasses:
            self._check_origin(value)
            leaf, clean = self._leaf(value)
            self._alive += [value, leaf]
            self._bypasses[id(value)] = clean
        return self._bypasses[id(value)]

    def _check_origin(self, tensor: Tensor) -> None:
        """Raise for what was computed above the layer without the tape seeing how."""
        node = tensor.grad_fn
        if node is not None and _reaches(node, self._first_node, self._leaves):
            raise self._unseen(node)

    def _unseen(self, node: Node) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"above the Excitation Dropout layer, the operation behind '{node.name()}' did not run as "
            "ordinary Python code of torch (a custom autograd function, such as reentrant checkpointing, a "
            "backward hook on a module, a scripted module, SyncBatchNorm, another thread), seen in "
            f"{self.mode.module_path()}: it can neither be measured nor run again. Choose a layer above it."
        )

    # ------------------------------------------------------------------------------------------ afterwards

    @contextmanager
    def unnoted(self) -> Iterator[None]:
        """Measure further operations without having them run again."""
        n = len(self._entries)
        with self:
            yield
        del self._entries[n:]

    @property
    def is_innermost(self) -> bool:
        """Whether no other function mode was entered since the tape, or left instead of it."""
        return _get_current_function_mode() is self  # type: ignore[no-untyped-call]

    def is_unchanged(self, site: Site, tensor: Tensor) -> bool:
        """Whether a tensor of the clean pass is what a dropout layer returned, not written to since."""
        written = (entry.outputs for entry in self._entries if isinstance(entry, _Call))
        return self._slot_of(tensor) == site.output and not any(site.output in slots for slots in written)

    def slot(self, tensor: Tensor) -> int | None:
        """The number of a tensor of the clean pass."""
        return self._slot_of(tensor)

    def undo_writes(self) -> None:
        """Restore what was written to and was there before, such as counters and statistics."""
        with torch.no_grad():
            for target, value in reversed(self._overwritten):
                target.copy_(value)
            for entry in self._entries:
                if isinstance(entry, _Start) and entry.target is not None:
                    entry.target.detach().copy_(entry.value)

    def replay(self, multiplier: Multiplier | None = None) -> list[Tensor]:
        """Repeat the calls, with the activations of each site times ``multiplier(site, activations)``.

        Returns the values by slot. Without a multiplier they are those of the network as it is.
        """
        for tensor, version in self._held:
            if _version(tensor) != version:
                raise RuntimeError(
                    f"a tensor of shape {tuple(tensor.shape)} that is used above the Excitation Dropout "
                    "layer was changed in place afterwards, so the network cannot be run again from there; "
                    "clone it"
                )
        values: list[Any] = [None] * len(self._clean)

        def value_of(value: Any) -> Any:
            return values[value.index] if type(value) is _Slot else value

        for state, entries in groupby(self._entries, key=lambda entry: entry.state):
            with ExitStack() as scopes:
                self._restore(state, scopes)
                for entry in entries:
                    if isinstance(entry, _Call):
                        args = map_arguments(entry.args, value_of)
                        result = each_tensor(entry.func(*args, **map_arguments(entry.kwargs, value_of)))
                        for index, tensor in zip(entry.outputs, result, strict=True):
                            values[index] = tensor
                    elif isinstance(entry, _Start):
                        values[entry.output] = entry.value.clone()
                    else:
                        values[entry.output] = _masked(entry, value_of(entry.h), multiplier)
        self._keep_written(values)
        return values

    def _keep_written(self, values: list[Tensor]) -> None:
        """Leave in buffers what the run with dropout wrote, not what the clean pass did."""
        targets = set()
        with torch.no_grad():
            for entry in self._entries:
                if isinstance(entry, _Start) and entry.target is not None:
                    targets.add(id(entry.target))
                    if not entry.target.requires_grad:
                        entry.target.copy_(values[entry.output])
        for module in self.root.modules():
            for name, buffer in module._buffers.items():
                slot = None if buffer is None else self._slots.get(id(buffer))
                if slot is not None and id(buffer) not in targets:  # another tensor than before
                    module._buffers[name] = values[slot]

    def _restore(self, state: _State, scopes: ExitStack) -> None:
        now = self._state()
        if state.grad != now.grad:
            scopes.enter_context(torch.set_grad_enabled(state.grad))
        if state[1:] != now[1:]:
            scopes.enter_context(torch.autocast(self._device_type, dtype=state.dtype, enabled=state.autocast))

    def release(self) -> None:
        """Let go of everything; gradients that arrive at the clean pass from now on are an error."""
        for tensor in self._clean:
            if tensor.requires_grad and tensor.grad_fn is not None:
                tensor.register_hook(_refuse_gradient)  # type: ignore[no-untyped-call]
        self.mode.release()
        self.sites.clear()
        for kept in (self._entries, self._clean, self._alive, self._held, self._overwritten):
            kept.clear()
        for known in (self._slots, self._bypasses, self._leaves, self._made):
            known.clear()
        self.__dict__.pop("_constants", None)


def _masked(site: Site, h: Tensor, multiplier: Multiplier | None) -> Tensor:
    if not isinstance(site.h, _Slot) and _version(h) != site.version:
        raise RuntimeError(
            "the input of an Excitation Dropout layer was changed in place after the layer had run; clone it"
        )
    # Without a mask the layer is a copy, so that in-place operations above it do not reach below.
    return h.clone() if multiplier is None else h * multiplier(site, h)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


@contextmanager
def unpacked() -> Iterator[None]:
    """Save tensors for the backward pass as they are, inside of activation checkpointing, too."""
    # Detached: a tensor that were given back as the output of the operation that saved it would hold that
    # operation, and so itself, for ever.
    with saved_tensors_hooks(Tensor.detach, _same):
        yield


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _refuse_gradient(_: Tensor) -> None:
    raise RuntimeError(
        "the loss depends on a tensor that was taken from inside the network, above its Excitation Dropout "
        "layer (kept as an attribute, or by a hook), where it belongs to the pass that measures evidence; "
        "return it from the network instead"
    )


_REGISTERS = (Tensor.register_hook, Tensor.register_post_accumulate_grad_hook, Tensor.retain_grad)
_IN_PLACE_OPERATORS = frozenset(
    f"__i{name}__"
    for name in "add sub mul truediv floordiv mod pow and or xor lshift rshift matmul".split()  # noqa: SIM905
)


def _written(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that a call writes to."""
    name = getattr(func, "__name__", "")
    is_in_place = name == "__setitem__" or name in _IN_PLACE_OPERATORS
    is_in_place |= name.endswith("_") and not name.endswith("__")
    is_in_place |= bool(kwargs.get("inplace", False))
    targets = each_tensor(args[:1] or kwargs.get("input")) if is_in_place else []
    return targets + each_tensor(kwargs.get("out"))


def _next_sequence_number() -> int:
    with torch.enable_grad():
        node = torch.zeros((), requires_grad=True).clone().grad_fn
    assert node is not None  # noqa: S101
    return node._sequence_nr()


def _reaches(node: Node, first: int, leaves: set[int]) -> bool:
    """Whether the graph from ``node`` on, as far as it is younger than the tape, begins at a leaf."""
    pending, seen = [node], set()
    while pending:
        node = pending.pop()
        if node in seen or node._sequence_nr() < first:
            continue
        seen.add(node)
        if id(getattr(node, "variable", None)) in leaves:
            return True
        pending += [child for child, _ in node.next_functions if child is not None]
    return False
