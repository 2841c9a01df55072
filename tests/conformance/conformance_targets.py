"""Checks on targets: every format of Captum's selects the unit it names."""

import torch
from conformance_expect import map_of, must_raise, require_different, require_equal, require_same
from conformance_models import CLASSES
from conformance_subject import N, Subject


def every_format_of_a_class_selects_the_same_unit(subject: Subject) -> None:
    case = subject.case(scores="classes")
    for k in (1, CLASSES - 1):
        expected = map_of(case.explain(target=k))
        formats = {
            "tuple": (k,),
            "0-d tensor": torch.tensor(k),
            "1-d tensor of one": torch.tensor([k]),
            "2-d tensor of one": torch.tensor([[k]]),
            "1-d tensor": torch.tensor([k] * N),
            "list of ints": [k] * N,
            "list of tuples": [(k,)] * N,
        }
        for name, target in formats.items():
            require_same(map_of(case.explain(target=target)), expected, f"target as {name}")


def every_example_gets_its_own_target(subject: Subject) -> None:
    case = subject.case(scores="classes")
    expected = torch.stack([map_of(case.explain(target=k))[i] for i, k in enumerate(case.targets)])
    formats = {
        "list of ints": case.targets,
        "1-d tensor": torch.tensor(case.targets),
        "list of tuples": [(k,) for k in case.targets],
    }
    for name, target in formats.items():
        require_same(map_of(case.explain(target=target)), expected, f"targets as {name}")


def scores_with_steps_take_tuples(subject: Subject) -> None:
    case = subject.case(scores="steps")
    maps = [map_of(case.explain(target=target)) for target in case.targets]
    require_different(maps[0], maps[1], "two tuples (step, class)")
    same_class_other_step = (0, case.targets[0][1])
    require_different(maps[0], map_of(case.explain(target=same_class_other_step)), "two steps")
    expected = torch.stack([found[i] for i, found in enumerate(maps)])
    require_same(map_of(case.explain(target=list(case.targets))), expected, "targets as list of tuples")


def a_class_without_a_step_is_refused(subject: Subject) -> None:
    case = subject.case(scores="steps")
    for name, target in {
        "a class": 1,
        "a class per example": [1] * N,
        "a tensor": torch.ones(N).long(),
    }.items():
        with must_raise(AssertionError, saying=("target",), when=f"{name} for scores with steps"):
            case.explain(target=target)


def one_score_needs_no_target(subject: Subject) -> None:
    column, single = subject.case(scores="column"), subject.case(scores="single")
    expected = map_of(column.explain(target=0))
    require_equal(map_of(column.explain(target=None)), expected, "no target for scores (N, 1)")
    require_same(map_of(single.explain(target=None)), expected, "no target for scores (N,)")
    require_same(map_of(single.explainer.attribute(single.x, **subject.options)), expected, "nothing passed")


def the_target_matters(subject: Subject) -> None:
    case = subject.case()
    maps = [map_of(case.explain(target=target)) for target in case.targets]
    for i in range(1, N):
        require_different(maps[i], maps[0], f"targets {case.targets[0]} and {case.targets[i]}")


def bad_targets_raise_the_errors_of_captum(subject: Subject) -> None:
    case = subject.case()
    with must_raise(IndexError, saying=("out of (range|bounds)",), when="a class out of range"):
        case.explain(target=(0, 99) if isinstance(case.target, tuple) else 99)
    bad = {
        "no target for several scores": None,
        "a word": "cat",
        "a number with a fraction": 1.0,
        "a tensor with a fraction": torch.tensor(1.5),
        "a tensor (N, 1)": torch.ones(N, 1, dtype=torch.long),
        "a list of the wrong length": [case.target] * (N + 1),
        "a list of words": ["cat"] * N,
    }
    for name, target in bad.items():
        with must_raise(AssertionError, TypeError, saying=("target",), when=name):
            case.explain(target=target)


CHECKS = [
    every_format_of_a_class_selects_the_same_unit,
    every_example_gets_its_own_target,
    scores_with_steps_take_tuples,
    a_class_without_a_step_is_refused,
    one_score_needs_no_target,
    the_target_matters,
    bad_targets_raise_the_errors_of_captum,
]
