"""The function mode that replaces every operation of a forward pass by one that carries its rule."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from captum_ext.excitation.functions import Propagate
from captum_ext.excitation.maps import EvidenceMap, LinearMap, RearrangedMap
from captum_ext.excitation.operand import (
    UNKNOWN,
    Facts,
    Negative,
    Operand,
    Pass,
    Recurrence,
    current_pass,
    facts_of,
    has_facts,
    set_facts,
)
from captum_ext.excitation.weights import SignedWeight, WeightCache

__all__ = [
    "ExcitationMode",
    "RecurrentCall",
    "Rule",
    "constant",
    "evidence_in",
    "is_evidence",
    "note_origin",
    "read_as_state",
    "rule",
]

Args = tuple[Any, ...]
Kwargs = Mapping[str, Any]
Notes = TypeVar("Notes")
Rule = Callable[["ExcitationMode", Callable[..., Any], Args, Kwargs], Any]

_RULES: dict[Callable[..., Any], Rule] = {}
_STALE_VIEW = "a view that was taken before its base was written to (take it afterwards)"
_MADE_IN_PLACE = ("AsStrided", "CopySlices", "torch::autograd::CopySlices")


def rule(*functions: Callable[..., Any]) -> Callable[[Rule], Rule]:
    """Register a rule for the functions as a :class:`TorchFunctionMode` sees them."""

    def register(handler: Rule) -> Rule:
        _RULES.update(dict.fromkeys(functions, handler))
        return handler

    return register


@dataclass(frozen=True)
class RecurrentCall:
    """One call of a recurrent layer or cell: its input, (T, N, D), (N, T, D) or (N, D) for a cell.

    The input of a packed sequence, (rows, D), has no batch axis.
    """

    input: Tensor
    batch_axis: int | None


class ExcitationMode(TorchFunctionMode):
    """Bakes Excitation Backprop rules into the autograd graph of the forward pass it is active in.

    Every call of a function, method or operator of torch that touches evidence (a tensor that depends on the
    explained inputs) is answered by its rule: the value is that of the untouched operation, the graph node
    propagates winning probabilities. The backward pass then needs neither the mode nor hooks, and the model
    is never written to.

    Args:
        model (nn.Module): the model, used to name modules in error messages.
        negative (str): ``"support"``: contributions that support the parent's state share its mass;
            ``"clamp"``: children below zero get nothing and all parents count as positive.
        private_inputs (bool): give each weighted layer an input tensor of its own, so that the mass a layer
            sends to its input can be told from what other readers of that tensor send.
        recurrence (str): ``"value"``: the equations of the paper; ``"published"``: those of its code.
        weights (WeightCache, optional): signed parts of weights kept from earlier passes.
        inputs (Sequence[Tensor]): the explained leaves; any other tensor that requires a gradient without
            depending on them is a constant, like a parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        negative: Negative,
        private_inputs: bool = False,
        recurrence: Recurrence = "value",
        weights: WeightCache | None = None,
        inputs: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()
        self._pass = Pass(inputs)
        self.negative = negative
        self.recurrence: Recurrence = recurrence
        self.private_inputs = private_inputs
        self.maps: list[EvidenceMap] = []
        self.recurrent_calls: list[RecurrentCall] = []
        self.layer_inputs: dict[LinearMap, Tensor] = {}
        self._model = model
        self._cache = WeightCache() if weights is None else weights
        # Each weight is looked up, and so compared with what was kept of it, once per pass.
        self._weights: dict[int, tuple[Tensor, SignedWeight]] = {}
        self._notes: dict[type[Any], Any] = {}

    def explain(self, leaf: Tensor) -> None:
        """Count ``leaf`` among the explained inputs from now on."""
        self._pass.add_input(leaf)

    def __enter__(self) -> ExcitationMode:
        self._pass.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._pass.__exit__()

    def release(self) -> None:
        """Break the references between maps and graph, which the garbage collector cannot see through."""
        for behind in self.maps:
            behind.release()
        self.layer_inputs.clear()
        self.recurrent_calls.clear()
        self._weights.clear()
        self._notes.clear()

    def notes(self, kind: type[Notes]) -> Notes:
        """What a family of rules keeps for as long as the pass lasts."""
        if kind not in self._notes:
            self._notes[kind] = kind()
        notes: Notes = self._notes[kind]
        return notes

    @property
    def clamp(self) -> bool:
        """Whether negative children get nothing."""
        return self.negative == "clamp"

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Args = (),
        kwargs: Kwargs | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        args, kwargs = _positional(args, kwargs)
        tensors = [t for t in _tensors((*args, *kwargs.values())) if _has_gradient(t)]
        evidence = [t for t in tensors if _depends_on_inputs(t)] if torch.is_grad_enabled() else []
        if len(evidence) < len(tensors):
            args = _only_evidence(args)
            kwargs = {name: _only_evidence(value) for name, value in kwargs.items()}
        if not evidence:
            return func(*constant(args), **{k: constant(v) for k, v in kwargs.items()})
        handler = _RULES.get(func)
        note_origin(*evidence)
        if handler is None and func.__name__ == "__get__":  # attributes: shape, dtype, T, ...
            result = func(*args, **kwargs)
        elif handler is None:
            result = self.run_without_rule(func, args, kwargs)
        else:
            for tensor in evidence:
                behind = facts_of(tensor).map
                if behind is not None:
                    behind.n_readers += 1
            result = handler(self, func, args, kwargs)
        for output in _tensors(result):
            if not has_facts(output):
                set_facts(output, UNKNOWN)
        return result

    def operand(self, tensor: Tensor) -> Operand:
        """``tensor`` as a child of a linear map."""
        return Operand(tensor, self.negative)

    def weight(self, weight: Tensor) -> SignedWeight:
        """Signed parts of a weight."""
        if id(weight) not in self._weights:
            # The weight is kept beside its parts, so that its id cannot be given to another tensor.
            self._weights[id(weight)] = weight, self._cache(weight)
        return self._weights[id(weight)][1]

    def propagate(
        self,
        linear_map: LinearMap,
        compute: Callable[..., Tensor],
        *operands: Tensor,
        non_negative: bool = False,
        gate: bool = False,
    ) -> Tensor:
        """Run a linear map on its operands and note that it is behind the result."""
        self.maps.append(linear_map)
        output: Tensor = Propagate.apply(linear_map, compute, *operands)
        return set_facts(output, Facts(map=linear_map, non_negative=non_negative, gate=gate))

    def rearrange(
        self,
        output: Tensor,
        operands: Sequence[Tensor],
        rearrange: Callable[..., Tensor],
        facts: Facts,
        with_constants: bool = False,
    ) -> Tensor:
        """Note that ``output`` holds the entries of ``operands`` in another order, maybe beside constants.

        Constants are biases to whatever linear map comes next, so they must be told from the entries.
        """
        if with_constants or any(facts_of(operand).map is not None for operand in operands):
            behind = RearrangedMap([self.operand(operand) for operand in operands], rearrange, with_constants)
            self.maps.append(behind)
            facts = Facts(map=behind, non_negative=facts.non_negative, gate=facts.gate)
        return set_facts(output, facts)

    def run_without_rule(self, func: Callable[..., Any], args: Args, kwargs: Kwargs, why: str = "") -> Any:
        """Run an operation that has no rule and mark what it returns; mass that arrives there is an error.

        The mark is enough: a result that only feeds gates, or that no mass reaches, does no harm.
        """
        before = {t.grad_fn for tensor in evidence_in(args, kwargs) for t in _with_base(tensor)}
        result = func(*constant(args), **{k: constant(v) for k, v in kwargs.items()})
        outputs = [
            t
            for output in _tensors(result)
            for t in _with_base(output)  # what was written to a view is in its base, too
            if t.requires_grad and t.grad_fn not in before
        ]
        if outputs:
            message = f"{resolve_name(func) or getattr(func, '__name__', func)} in {self.module_path()}"
            for output in outputs:
                set_facts(output, Facts(unsupported=f"{message}: {why}" if why else message))
        return result

    @cached_property
    def _paths(self) -> dict[int, str]:
        named = self._model.named_modules()
        return {id(module): path or type(self._model).__name__ for path, module in named}

    def module_path(self) -> str:
        """Path of the innermost module of the model that is running, read off the call stack."""
        frame = sys._getframe(1)
        while frame is not None:
            path = self._paths.get(id(frame.f_locals.get("self")))
            if path is not None:
                return f"module '{path}'"
            frame = frame.f_back  # type: ignore[assignment]
        return "the model"


def _with_base(tensor: Tensor) -> tuple[Tensor, ...]:
    return (tensor,) if tensor._base is None else (tensor, tensor._base)


def note_origin(*tensors: Tensor) -> None:
    """Note which of the tensors come out of operations that the mode did not see.

    Even an operation that only moves mass, such as a view, would break a chain of linear maps there.
    """
    for tensor in tensors:
        node = tensor.grad_fn
        if node is None or has_facts(tensor):
            continue
        # In-place changes give the tensors that share memory new nodes.
        if not node.name().startswith(_MADE_IN_PLACE):
            set_facts(tensor, Facts(foreign=True))
        elif tensor._base is not None and facts_of(tensor._base).map is not None:
            set_facts(tensor, Facts(unsupported=_STALE_VIEW))


def read_as_state(*tensors: Tensor) -> None:
    """Note that a non-linear operation reads the tensors."""
    for tensor in tensors:
        behind = facts_of(tensor).map
        if behind is not None:
            behind.note_sign(tensor)
            behind.read_as_state()


def evidence_in(args: Any, kwargs: Kwargs) -> list[Tensor]:
    """The tensors among the arguments that depend on the explained inputs."""
    tensors = _tensors(args) + _tensors(tuple(kwargs.values())) if kwargs else _tensors(args)
    return [t for t in tensors if _has_gradient(t) and _depends_on_inputs(t)]


def _positional(args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    """The operands first, also where they were given by keyword."""
    rest = dict(kwargs)
    if not args:
        names = [name for name in ("input", "self", "tensors") if name in rest]
        args = tuple(rest.pop(name) for name in names[:1])
    if len(args) == 1 and "other" in rest:
        args = (*args, rest.pop("other"))
    return args, rest


def is_evidence(*values: Any) -> bool:
    """Whether one of the values depends on the explained inputs."""
    return bool(evidence_in(values, {}))


def _has_gradient(tensor: Tensor) -> bool:
    return tensor.requires_grad and not isinstance(tensor, nn.Parameter)


def _depends_on_inputs(tensor: Tensor) -> bool:
    now = current_pass()
    return now is None or now.depends_on_inputs(tensor)


def _only_evidence(value: Any) -> Any:
    """``value`` with those tensors detached that require a gradient for another reason."""
    if isinstance(value, Tensor):
        return value.detach() if _has_gradient(value) and not _depends_on_inputs(value) else value
    if type(value) in (list, tuple):
        return type(value)(_only_evidence(item) for item in value)
    return value


def constant(value: Any) -> Any:
    """Parameters are constants: position embeddings, layer scales and the like must not compete for mass."""
    if isinstance(value, nn.Parameter):
        return value.detach()
    if type(value) in (list, tuple):
        return type(value)(constant(item) for item in value)
    return value


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
