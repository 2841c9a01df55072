"""Checks on what comes back: its form, its dtype, whose it is."""

import torch
from conformance_expect import (
    map_of,
    require,
    require_different,
    require_equal,
    require_finite_and_alive,
    require_same,
)
from conformance_subject import N, Subject
from torch import Tensor


def tensor_in_tensor_out_and_tuple_in_tuple_out(subject: Subject) -> None:
    case = subject.case()
    alone, in_tuple = case.explain(), case.explain((case.x,))
    require(isinstance(alone, Tensor), f"tensor in, {type(alone).__name__} out")
    wanted = tuple if subject.tuple_rule == "inputs" else Tensor
    require(isinstance(in_tuple, wanted), f"tuple of one in, {type(in_tuple).__name__} out")
    require_equal(map_of(in_tuple), alone, "the map of a tuple of one")


def two_inputs_are_explained_together(subject: Subject) -> None:
    case = subject.case(n_inputs=2)
    inputs = case.x, subject.family.inputs(N, seed=2)
    found = case.explain(inputs)
    if subject.tuple_rule == "layer":
        require(isinstance(found, Tensor), f"two inputs, {type(found).__name__} out")
        require_different(found, case.explain((case.x, 2 * inputs[1])), "another second input")
        return
    require(isinstance(found, tuple) and len(found) == 2, "two inputs, but not two maps")
    for i, (attribution, x) in enumerate(zip(found, inputs, strict=True)):
        require(attribution.shape == x.shape, f"map {i} has shape {tuple(attribution.shape)}")
        require_finite_and_alive(attribution, f"map {i}")
    require_different(found[0], found[1], "the maps of two inputs")
    for i in range(N):
        for whole, part in zip(found, case.explain_alone(i, inputs), strict=True):
            require_same(whole[i : i + 1], part, f"example {i} of two inputs")


def maps_are_finite_and_of_the_promised_shape(subject: Subject) -> None:
    shape = subject.map_shape or subject.family.shape
    for n in (1, N):
        found = map_of(subject.case(n).explain())
        require(found.shape == (n, *shape), f"shape {tuple(found.shape)} instead of {(n, *shape)}")
        for i in range(n):
            require_finite_and_alive(found[i], f"example {i}")


def results_are_detached_and_contiguous(subject: Subject) -> None:
    case = subject.case()
    inputs = {"a leaf": case.x, "an input with grad": case.x.clone().requires_grad_()}
    for name, x in inputs.items():
        found = map_of(case.explain(x))
        require(found.grad_fn is None and not found.requires_grad, f"{name}: the map is not detached")
        require(found.is_contiguous(), f"{name}: the map is not contiguous")
        require(type(found) is Tensor, f"{name}: the map is a {type(found).__name__}")


def results_have_the_inputs_dtype_and_device(subject: Subject) -> None:
    exact = map_of(subject.case().explain())
    # A share of the largest entry; where mass is shared winners can swap, and contrast cancels.
    for dtype, tolerance in ((torch.float64, 0.0), (torch.float32, 1e-3), (torch.bfloat16, 0.5)):
        case = subject.case(dtype=dtype)
        found = map_of(case.explain())
        require(found.dtype == dtype, f"{found.dtype} for inputs of {dtype}")
        require_same(found, exact, f"the map in {dtype}", tolerance)
        require(found.device == case.x.device, f"{found.device} for inputs on {case.x.device}")


def results_belong_to_the_caller(subject: Subject) -> None:
    case = subject.case()
    x = case.x.clone()
    first = map_of(case.explain())
    kept = first.clone()
    first.zero_()
    require_equal(case.x, x, "the input, after the map was overwritten")
    second = map_of(case.explain())
    require_equal(second, kept, "the next map, after this one was overwritten")
    require((first == 0).all(), "the next call wrote into the map of this one")


def two_calls_agree_to_the_bit(subject: Subject) -> None:
    case = subject.case()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = map_of(case.explain())
        torch.manual_seed(2)
        case.explain(case.x.flip(0))
        require_equal(map_of(case.explain()), first, "the map of a second call")
        require_equal(map_of(subject.case().explain()), first, "the map of another explainer")


def channels_last_inputs_give_the_same_map(subject: Subject) -> None:
    case = subject.case()
    expected = map_of(case.explain())
    form = torch.channels_last_3d if case.x.dim() == 5 else torch.channels_last
    x = case.x.contiguous(memory_format=form)
    found = map_of(case.explain(x))
    require_same(found, expected, "the map of a channels-last input")
    require(found.is_contiguous(), "the map of a channels-last input is not contiguous")


def in_place_models_get_the_map_of_their_plain_twins(subject: Subject) -> None:
    plain, in_place = subject.case(), subject.case(in_place=True)
    x = in_place.x.clone()
    require_same(map_of(in_place.explain()), map_of(plain.explain()), "the map of an in-place model")
    require_equal(in_place.x, x, "the input of a model that writes to it")


CHECKS = [
    tensor_in_tensor_out_and_tuple_in_tuple_out,
    two_inputs_are_explained_together,
    maps_are_finite_and_of_the_promised_shape,
    results_are_detached_and_contiguous,
    results_have_the_inputs_dtype_and_device,
    results_belong_to_the_caller,
    two_calls_agree_to_the_bit,
    channels_last_inputs_give_the_same_map,
    in_place_models_get_the_map_of_their_plain_twins,
]
