"""Every attribution class keeps Captum's contract (and ours): one test per class, use and part of it."""

import inspect

import captum.attr
import pytest
import torch
from captum.attr import Attribution
from conformance_checks import CHECKS, hold
from conformance_expect import BrokenContractError, map_of
from conformance_subjects import SUBJECTS

import captum_ext.attr


def cases():
    for subject in SUBJECTS:
        for name in CHECKS:
            if name in subject.inapplicable:
                continue
            marks = []
            if name in subject.violations:
                reason = subject.violations[name]
                marks = [pytest.mark.xfail(strict=True, raises=BrokenContractError, reason=reason)]
            yield pytest.param(subject, name, id=f"{subject}-{name}", marks=marks)


@pytest.mark.parametrize(("subject", "check"), list(cases()))
def test_the_contract_holds(subject, check):
    hold(subject, check)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: maps on a GPU are not compared")
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_maps_on_a_gpu_stay_there_and_are_those_of_the_cpu(subject):
    case = subject.case()
    expected = map_of(case.explain())
    case.model.cuda()
    extra = None if case.extra is None else case.extra.cuda()
    found = map_of(case.explain(case.x.cuda(), extra=extra))
    assert found.device.type == "cuda"
    assert torch.allclose(found.cpu(), expected, rtol=1e-6, atol=1e-9)


def public_classes():
    """What a user finds in captum_ext.attr, whether it is listed in __all__ or not."""
    names = set(captum_ext.attr.__all__) | {name for name in vars(captum_ext.attr) if name[0] != "_"}
    found = {getattr(captum_ext.attr, name) for name in names}
    return {thing for thing in found if inspect.isclass(thing) and issubclass(thing, Attribution)}


def unheld(classes, subjects):
    return sorted(cls.__name__ for cls in classes - {subject.cls for subject in subjects})


def test_every_public_class_is_held_to_the_contract():
    assert unheld(public_classes(), SUBJECTS) == [], (
        "add a Subject to tests/conformance/conformance_subjects.py"
    )


def test_a_class_that_is_missing_in_the_registry_is_noticed():
    some = SUBJECTS[0].cls
    assert unheld(public_classes(), [s for s in SUBJECTS if s.cls is not some]) == [some.__name__]
    assert unheld(public_classes() | {captum.attr.Saliency}, SUBJECTS) == ["Saliency"]


def test_exceptions_name_a_check_and_give_a_reason():
    for subject in SUBJECTS:
        excepted = {**subject.inapplicable, **subject.violations}
        assert set(excepted) <= set(CHECKS), f"{subject} excepts a check that does not exist"
        assert all(reason.strip() for reason in excepted.values())
        assert not set(subject.inapplicable) & set(subject.violations)


def test_subjects_can_be_told_apart():
    names = [str(subject) for subject in SUBJECTS]
    assert len(names) == len(set(names))
