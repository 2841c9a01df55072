"""Which ancestors of a dropout layer are running, and what happens when the outermost of them is done."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import _pop_mode

from captum_ext.dropout.copies import no_hook
from captum_ext.dropout.eager import is_in_compiled_code
from captum_ext.dropout.measure import examples_with_target, measure
from captum_ext.dropout.outputs import map_output
from captum_ext.dropout.tape import Site, Tape, unpacked
from captum_ext.dropout.targets import find_scores
from captum_ext.excitation import UnsupportedOperationError

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from captum_ext.dropout.layer import ExcitationDropoutLayer
__all__ = ["abort", "reach", "through_head", "unwatch", "watch"]

_PATIENCE = 10
"""Passes in which a layer may rest, as one of several branches, before a warning says so."""
_NO_ANCESTOR = (
    "an Excitation Dropout layer ran outside of the network that it was attached to, or that network was not "
    "called as a module: call self(x) rather than self.forward(x), attach to a module that contains what "
    "lies above the layer, or pass head="
)
_REENTRANT = (
    "reentrant activation checkpointing runs the network without gradients at first, where Excitation "
    "Dropout cannot act; pass use_reentrant=False to torch.utils.checkpoint"
)
_COMPILED = (
    "the network that Excitation Dropout was attached to is called from compiled code; attach to the "
    "compiled module itself, compiled = torch.compile(model); attach(compiled, ...), or pass head="
)
_NESTED_MODE = (
    "a torch function mode (such as `with torch.device(...)`) was entered or left between the Excitation "
    "Dropout layer and the end of the network; enter it around the whole call"
)


class _Running(threading.local):
    """The armed ancestors that are running in this thread, outermost first, and the open tape."""

    def __init__(self) -> None:
        self.stack: list[nn.Module] = []
        self.tape: Tape | None = None
        self.n_modes = 0
        self.scopes = ExitStack()


_running = _Running()


def reach(layer: ExcitationDropoutLayer, h: Tensor) -> Tensor:
    """A dropout layer was called in training, armed: what the network goes on with."""
    armed = layer.armed
    if armed is None or layer.p == 0 or _is_in_backward():
        return h
    if not torch.is_grad_enabled():
        _check_not_reentrant()
        return h
    layer.has_run = True
    # While the evidence of another layer below is measured, this one is measured with it.
    if _running.tape is None:
        if layer.head is not None:
            return h * through_head(layer, h)
        if not _running.stack:
            raise RuntimeError(_NO_ANCESTOR)
        tape = Tape(_running.stack[0], h.device)
        clean = tape.reach(layer, armed, h)
        if "torch._dynamo" in sys.modules:
            # Compiled code above the layer would run past the tape.
            _running.scopes.enter_context(torch.compiler.set_stance("force_eager"))
        _open(tape)
        return clean
    tape = _running.tape
    if not tape.is_innermost:
        raise RuntimeError(_NESTED_MODE)
    # Our own operations are none of the network's.
    tape.__exit__()
    try:
        return tape.reach(layer, armed, h)
    finally:
        tape.__enter__()


def _open(tape: Tape) -> None:
    _running.tape = tape
    tape.__enter__()


def _close() -> Tape:
    tape, _running.tape = _running.tape, None
    assert tape is not None  # noqa: S101
    if tape.is_innermost:
        tape.__exit__()
    while torch._C._len_torch_function_stack() > _running.n_modes:
        _pop_mode()  # type: ignore[no-untyped-call]  # a mode that was left while the tape was above it
    _running.scopes.close()
    return tape


def abort() -> None:
    """Forget what is running in this thread, as after an exception."""
    _running.stack.clear()
    if _running.tape is not None:
        _close().release()


def _finish(output: Any) -> Any:
    """The outermost ancestor is done: measure, draw the masks and run the network above the layers again."""
    tape = _running.tape
    assert tape is not None  # noqa: S101
    is_innermost = tape.is_innermost
    _close()
    try:
        if output is None:  # it raised an exception, or returned nothing that could be trained
            return None
        if not is_innermost:
            raise RuntimeError(_NESTED_MODE)
        maps = _measured(tape, output)
        with unpacked():
            values = tape.replay(lambda site, h: site.layer.multiplier(h, *maps[id(site)]))
        _number_scores(tape, output, values)
        found = False

        def replayed(tensor: Tensor) -> Tensor:
            nonlocal found
            slot = tape.slot(tensor)
            found |= slot is not None
            return tensor if slot is None else values[slot]

        result = map_output(output, replayed)
        if not found:
            raise TypeError(
                f"the network returned a {type(output).__name__} without a tensor that depends on its "
                "Excitation Dropout layer; return tensors, or tuples, lists, dicts or dataclasses of them"
            )
        return result
    finally:
        tape.release()


def _number_scores(tape: Tape, output: Any, values: list[Tensor]) -> None:
    """Note where in autograd's graph the scores are, if it was we who said which they are."""
    for site in tape.sites:
        site.layer.scores_number = None
        if site.armed.output_fn is find_scores:
            slot = tape.slot(find_scores(output))
            node = None if slot is None else values[slot].grad_fn
            site.layer.scores_number = None if node is None else node._sequence_nr()


Maps = dict[int, tuple[Tensor | None, Tensor]]


def _measured(tape: Tape, output: Any) -> Maps:
    """The winning probabilities of each site, and which examples have a target, by the site's id."""
    groups: dict[int, list[Site]] = {}
    for site in tape.sites:
        groups.setdefault(id(site.armed), []).append(site)
    maps: Maps = {}
    for sites in groups.values():
        try:
            found, has_target = measure(tape, output, sites)
        except UnsupportedOperationError as error:  # noqa: PERF203  (the groups are few)
            if any(site.layer.strict for site in sites):
                raise UnsupportedOperationError(
                    f"{error} (Excitation Dropout runs Excitation Backprop from the scores to the dropout "
                    "layer; strict=False falls back to standard dropout)"
                ) from error
            _warn_of_fallback(sites, error)
            with tape.unnoted():
                has_target = examples_with_target(output, sites[0].armed)
            maps |= {id(site): (None, has_target) for site in sites}
        else:
            maps |= {id(site): (p_eb, has_target) for site, p_eb in zip(sites, found, strict=True)}
    return maps


def _warn_of_fallback(sites: list[Site], error: Exception) -> None:
    for site in sites:
        if not site.layer.has_warned:
            site.layer.has_warned = True
            warnings.warn(f"{error} This Excitation Dropout layer acts as standard dropout.", stacklevel=2)


def through_head(layer: ExcitationDropoutLayer, h: Tensor) -> Tensor:
    """What the activations of a layer with a head of its own are to be multiplied by."""
    head, armed = layer.head, layer.armed
    if layer.p == 0 or head is None or armed is None:
        return torch.ones_like(h)
    tape = Tape(head if isinstance(head, nn.Module) else layer, h.device, rehearsal=True)
    n_modes, _running.n_modes = _running.n_modes, torch._C._len_torch_function_stack()
    try:
        clean = tape.reach(layer, armed, h)
        _open(tape)
        try:
            output = head(clean)
        finally:
            _close()
            tape.undo_writes()
        (site,) = tape.sites
        return layer.multiplier(h, *_measured(tape, output)[id(site)])
    finally:
        _running.n_modes = n_modes
        tape.release()


# ------------------------------------------------------------------------------------------------ hooks


def watch(module: nn.Module, layer: ExcitationDropoutLayer) -> None:
    """Follow the calls of an ancestor of the layer."""
    if module not in _WATCHED:
        _WATCHED[module] = _Watched(module)
    _WATCHED[module].layers.append(layer)


def unwatch(module: nn.Module, layer: ExcitationDropoutLayer) -> None:
    """Follow them no longer."""
    watched = _WATCHED[module]
    watched.layers = [other for other in watched.layers if other is not layer]
    if not watched.layers:
        watched.remove()
        del _WATCHED[module]


class _Watched:
    """The hooks of one ancestor; those of a copy of the module do nothing."""

    def __init__(self, module: nn.Module) -> None:
        self.layers: list[ExcitationDropoutLayer] = []
        enter, leave = _Hook(id(module), self, _enter), _Hook(id(module), self, _leave)
        self._handles: list[RemovableHandle] = [
            module.register_forward_pre_hook(enter),
            # Ours comes first, so that hooks of the user see what is trained.
            module.register_forward_hook(leave, prepend=True, always_call=True),
        ]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


_WATCHED: WeakKeyDictionary[nn.Module, _Watched] = WeakKeyDictionary()


class _Hook:
    def __init__(self, owner: int, watched: _Watched, act: Callable[..., Any]) -> None:
        self._owner, self._watched, self._act = owner, watched, act

    def __call__(self, module: nn.Module, *arguments: Any) -> Any:
        return self._act(module, self._watched, *arguments) if id(module) == self._owner else None

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return no_hook, ()


def _enter(module: nn.Module, watched: _Watched, _: Any) -> None:
    # Not asked whether a layer is in training: one behind a module learns of it when that module runs.
    if any(layer.is_armed and layer.head is None for layer in watched.layers):
        if module.training and torch.is_grad_enabled() and is_in_compiled_code():
            raise RuntimeError(_COMPILED)
        stack = _running.stack
        stack.append(module)
        if len(stack) > 1 and _n_calls(stack[0]) < stack.count(stack[0]):
            # Ctrl-C ended a call, and no hook was told.
            abort()
            stack.append(module)
        if len(stack) == 1:
            _running.n_modes = torch._C._len_torch_function_stack()


def _leave(module: nn.Module, watched: _Watched, _: Any, output: Any) -> Any:
    stack = _running.stack
    if not stack or stack[-1] is not module:
        return None
    stack.pop()
    if stack:
        return None
    result = _finish(output) if _running.tape is not None else None
    if output is not None and module.training and torch.is_grad_enabled():
        _warn_of_idle(watched.layers)
    return result


def _warn_of_idle(layers: list[ExcitationDropoutLayer]) -> None:
    for layer in layers:
        if not layer.is_armed or layer.p == 0 or layer.has_run:
            continue
        layer.idle_passes += 1
        if layer.idle_passes == _PATIENCE:
            warnings.warn(
                f"the network ran {_PATIENCE} times in training, but one of its Excitation Dropout layers "
                "did not run with gradients, so nothing was dropped there. Is its module used, in training "
                "mode, and called as a module (not through its weights, as MultiheadAttention does)?",
                stacklevel=2,
            )


# ---------------------------------------------------------------------------------- where the layer runs


def _n_calls(module: nn.Module) -> int:
    """How many calls of a module are running in this thread."""
    n, frame = 0, sys._getframe(1)
    while frame is not None:
        n += frame.f_code is nn.Module._call_impl.__code__ and frame.f_locals.get("self") is module
        frame = frame.f_back  # type: ignore[assignment]
    return n


def _is_in_backward() -> bool:
    """Whether a checkpoint is recomputing, up to here only, as the network above is not part of it."""
    return torch._C._current_graph_task_id() != -1


def _check_not_reentrant() -> None:
    checkpoint = sys.modules.get("torch.utils.checkpoint")
    forward = None if checkpoint is None else checkpoint.CheckpointFunction.forward.__code__
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is forward:
            raise RuntimeError(_REENTRANT)
        frame = frame.f_back  # type: ignore[assignment]
