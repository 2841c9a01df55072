"""Checks on wrong inputs: one clear error that names what is wrong."""

import torch
from conformance_expect import must_raise
from conformance_subject import Subject


def inputs_that_are_not_finite_are_refused_by_name(subject: Subject) -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        case = subject.case()
        case.x.view(-1)[5] = value
        with must_raise(ValueError, saying=("input", "NaN|inf|finite"), when=f"{value} in the input"):
            case.explain()


def an_empty_batch_is_refused_by_name(subject: Subject) -> None:
    case = subject.case()
    with must_raise(ValueError, saying=("input", "no example|empty"), when="an empty batch"):
        case.explain(case.x[:0], target=case.target)


def inputs_of_a_wrong_type_are_refused_by_name(subject: Subject) -> None:
    case = subject.case()
    for dtype in (torch.int64, torch.uint8, torch.bool):
        with must_raise(TypeError, saying=("input", str(dtype)), when=f"inputs of {dtype}"):
            case.explain(case.x.to(dtype))
    with must_raise(AssertionError, TypeError, saying=("list",), when="a list of inputs"):
        case.explain([case.x])
    with must_raise(AssertionError, TypeError, saying=("ndarray",), when="an array"):
        case.explain(case.x.numpy())
    with must_raise(AssertionError, TypeError, saying=("str",), when="a tuple of a word"):
        case.explain(("clip.mp4",))


CHECKS = [
    inputs_that_are_not_finite_are_refused_by_name,
    an_empty_batch_is_refused_by_name,
    inputs_of_a_wrong_type_are_refused_by_name,
]
