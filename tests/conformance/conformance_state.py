"""Checks on state: nothing of the user's changes, on success and on every kind of failure."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from attr_state import differences, snapshot
from conformance_expect import (
    BrokenContractError,
    map_of,
    must_raise,
    require,
    require_equal,
    require_same,
)
from conformance_subject import Case, Subject
from torch import Tensor


def tensors_in(value: object) -> list[Tensor]:
    """The tensors of inputs or further arguments."""
    if isinstance(value, tuple):
        return [tensor for item in value for tensor in tensors_in(item)]
    return [value] if isinstance(value, Tensor) else []


@contextmanager
def untouched(case: Case, when: str, *tensors: Tensor) -> Iterator[None]:
    """Raise if the block changed the model, the tensors or the process."""
    watched = (case.x, *tensors, *tensors_in(case.extra))
    before = snapshot(case.model, *watched)
    yield
    changed = differences(before, snapshot(case.model, *watched))
    require(not changed, f"{when} changed {', '.join(changed)}")


def used_case(subject: Subject, **variant: object) -> Case:
    """A model as users have them: one module in training mode, frozen parameters, gradients, hooks."""
    case = subject.case(**variant)
    case.fault.train()
    parameters = list(case.model.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    parameters[-1].register_hook(forbid_gradients)
    parameters[-1].register_post_accumulate_grad_hook(forbid_gradients)
    case.fault.register_forward_hook(do_nothing)
    case.fault.register_forward_pre_hook(do_nothing)
    case.fault.register_forward_hook(do_nothing, with_kwargs=True, always_call=True)
    case.model.register_state_dict_pre_hook(do_nothing)
    case.model.register_load_state_dict_post_hook(do_nothing)
    case.fault.label = {"set by": "the user"}
    return case


def do_nothing(*_: object) -> None:
    """A hook."""


def forbid_gradients(*_: object) -> None:
    """A hook of a parameter."""
    raise BrokenContractError("a gradient of the model's parameters was computed")


def nothing_changes_on_success(subject: Subject) -> None:
    case = used_case(subject)
    with untouched(case, "a call"):
        case.explain()


def nothing_changes_after_a_bad_target(subject: Subject) -> None:
    case = used_case(subject)
    for bad in (99, (0, 99), None, "cat", [case.target] * 7):
        with (
            untouched(case, f"the target {bad!r}"),
            must_raise(AssertionError, IndexError, TypeError, when=f"the target {bad!r}"),
        ):
            case.explain(target=bad)


def nothing_changes_after_a_bad_input(subject: Subject) -> None:
    case = used_case(subject)
    holed = case.x.clone()
    holed[0, 0, 0] = torch.inf
    for name, bad in {"infinity": holed, "an empty batch": case.x[:0], "integers": case.x.long()}.items():
        with untouched(case, name, bad), must_raise(ValueError, TypeError, when=name):
            case.explain(bad)


def n_forward_passes(case: Case) -> int:
    """How often one call of ``attribute`` runs the model's faulty part."""
    calls = []
    handle = case.fault.register_forward_pre_hook(lambda *_: calls.append(1))
    case.explain()
    handle.remove()
    return len(calls)


def require_untouched_by(case: Case, failure: BaseException, in_backward: bool = False) -> None:
    """Raise unless a failure of the model gets through, leaves no trace, and the next call works."""
    kind, text = type(failure), str(failure)
    expected = map_of(case.explain())
    passes = 1 if in_backward else n_forward_passes(case)
    for after_calls in sorted({0, passes - 1}):
        when = f"{kind.__name__} after {after_calls} calls"
        case.fault.plan(failure, after_calls, in_backward)
        # The module counts its calls, which is a change of its own.
        with untouched_but_for_the_plan(case, when), must_raise(kind, saying=(text,), when=when):
            case.explain()
        case.fault.failure = None
        require_equal(map_of(case.explain()), expected, f"the map after {when}")


@contextmanager
def untouched_but_for_the_plan(case: Case, when: str) -> Iterator[None]:
    with untouched(case, when):
        planned = case.fault.after_calls
        yield
        case.fault.after_calls = planned


def nothing_changes_when_the_forward_pass_fails(subject: Subject) -> None:
    require_untouched_by(used_case(subject), RuntimeError("planted in the forward pass"))
    require_untouched_by(used_case(subject), MemoryError("planted in the forward pass"))


def nothing_changes_when_the_backward_pass_fails(subject: Subject) -> None:
    require_untouched_by(used_case(subject), RuntimeError("planted in the backward pass"), in_backward=True)


def nothing_changes_when_a_custom_function_fails(subject: Subject) -> None:
    case = used_case(subject, faulty_function=True)
    with (
        untouched(case, "a failing autograd function"),
        must_raise(RuntimeError, TypeError, ValueError, saying=("planted|custom|FaultyFunction",)),
    ):
        case.explain()


def an_interrupt_gets_through_and_changes_nothing(subject: Subject) -> None:
    require_untouched_by(used_case(subject), KeyboardInterrupt("planted"))


def every_grad_mode_gives_the_same_map(subject: Subject) -> None:
    case = subject.case()
    expected = map_of(case.explain())
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode(), untouched(case, mode.__name__):
            found = map_of(case.explain())
        require_equal(found, expected, f"the map under {mode.__name__}")
        require(not found.requires_grad, f"the map under {mode.__name__} requires grad")
        require(not found.is_inference(), f"the map under {mode.__name__} is an inference tensor")


def tensors_made_in_inference_mode_can_be_explained(subject: Subject) -> None:
    case = subject.case()
    extra = case.gains() if case.extra is None else case.extra
    expected = map_of(case.explain(extra=extra))
    with torch.inference_mode():
        x, made_there = case.x.clone(), extra.clone()
    require_equal(map_of(case.explain(x, extra=extra)), expected, "the map of an inference tensor")
    found = map_of(case.explain(x, extra=made_there))
    require_equal(found, expected, "the map with an inference tensor as further argument")


def inputs_of_every_kind_stay_as_they_are(subject: Subject) -> None:
    case = subject.case()
    expected = map_of(case.explain())
    leaf = case.x.clone().requires_grad_()
    leaf.grad = torch.ones_like(leaf)
    watched = case.x.clone().requires_grad_()
    watched.register_hook(forbid_gradients)
    kinds = {
        "a leaf with a gradient": leaf,
        "a tensor with history": case.x.clone().requires_grad_() * 1,
        "a leaf with a hook": watched,
        "a strided view": torch.stack([case.x, case.x + 1], dim=-1)[..., 0],
    }
    for name, x in kinds.items():
        with untouched(case, name, x):
            found = map_of(case.explain(x))
        require_same(found, expected, f"the map of {name}")
    repeated = case.x[:1].expand_as(case.x)
    with untouched(case, "an expanded tensor", repeated):
        found = map_of(case.explain(repeated))
    require_same(found, map_of(case.explain(repeated.contiguous())), "the map of an expanded tensor")


@contextmanager
def unusual_process(cudnn_enabled: bool, default_dtype: torch.dtype) -> Iterator[None]:
    """Settings that are not the defaults, so that resetting them to the defaults shows."""
    with ExitStack() as stack:
        for setter, old, new in (
            (torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled(), True),
            (torch.set_default_dtype, torch.get_default_dtype(), default_dtype),
            (torch.set_float32_matmul_precision, torch.get_float32_matmul_precision(), "high"),
        ):
            stack.callback(setter, old)
            setter(new)
        cudnn = {"enabled": cudnn_enabled, "benchmark": True, "deterministic": True}
        stack.enter_context(torch.backends.cudnn.flags(**cudnn))
        stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False))
        stack.enter_context(torch.overrides.BaseTorchFunctionMode())
        yield


def an_unusual_process_stays_and_does_not_matter(subject: Subject) -> None:
    case = subject.case()
    expected = map_of(case.explain())
    for settings in ((True, torch.bfloat16), (False, torch.float64)):
        with unusual_process(*settings), untouched(case, "a call in an unusual process"):
            found = map_of(case.explain())
        # Autocast leaves float64 alone.
        require_same(found, expected, "the map in an unusual process")
        require(found.dtype == expected.dtype, f"{found.dtype} in an unusual process")


def the_model_can_be_copied_and_pickled_afterwards(subject: Subject) -> None:
    case = subject.case()
    expected = map_of(case.explain())
    for when in ("a call", "a failed call"):
        if when == "a failed call":
            case.fault.plan(RuntimeError("planted"))
            with must_raise(RuntimeError, saying=("planted",), when=when):
                case.explain()
            case.fault.failure = None
        try:
            copies = copy.deepcopy(case.model), pickle.loads(pickle.dumps(case.model))  # noqa: S301
        except (AttributeError, TypeError, RuntimeError, pickle.PicklingError) as error:
            raise BrokenContractError(f"the model cannot be copied after {when}: {error}") from error
        for model in copies:
            found = map_of(replace(case, model=model, explainer=subject.build(model)).explain())
            require_equal(found, expected, f"the map of a copy of the model made after {when}")


def no_activation_is_kept_alive(subject: Subject) -> None:
    case = subject.case()
    seen = []
    handle = case.fault.register_forward_hook(lambda _, args, __: seen.append(weakref.ref(args[0])))
    found = case.explain()
    handle.remove()
    alive = sum(reference() is not None for reference in seen)
    if alive:  # maybe in a cycle only
        gc.collect()
        alive = sum(reference() is not None for reference in seen)
    require(seen and not alive, f"{alive} of {len(seen)} activations live on after the call")
    del found


CHECKS = [
    nothing_changes_on_success,
    nothing_changes_after_a_bad_target,
    nothing_changes_after_a_bad_input,
    nothing_changes_when_the_forward_pass_fails,
    nothing_changes_when_the_backward_pass_fails,
    nothing_changes_when_a_custom_function_fails,
    an_interrupt_gets_through_and_changes_nothing,
    every_grad_mode_gives_the_same_map,
    tensors_made_in_inference_mode_can_be_explained,
    inputs_of_every_kind_stay_as_they_are,
    an_unusual_process_stays_and_does_not_matter,
    the_model_can_be_copied_and_pickled_afterwards,
    no_activation_is_kept_alive,
]
