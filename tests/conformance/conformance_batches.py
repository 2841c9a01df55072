"""Checks on batches: row i of everything belongs to example i."""

import torch
from conformance_expect import map_of, require_different, require_same
from conformance_subject import Case, N, Subject, rows


def require_rows_alone(case: Case, extra: object, what: str) -> None:
    """Raise unless each row is the map of its example alone."""
    found = map_of(case.explain(extra=extra))
    for i in range(N):
        alone = map_of(case.explain_alone(i, extra=extra))
        require_same(found[i : i + 1], alone, f"example {i} {what}")


def batch_equals_single(subject: Subject) -> None:
    case = subject.case()
    require_rows_alone(case, case.extra, "in a batch and alone")


def the_order_of_examples_does_not_matter(subject: Subject) -> None:
    case = subject.case()
    order = torch.tensor([2, 0, 1])
    targets = [case.targets[i] for i in order]
    found = map_of(case.explain(case.x[order], target=targets, extra=rows(case.extra, order)))
    require_same(found, map_of(case.explain())[order], "a batch in another order")


def further_arguments_follow_their_examples(subject: Subject) -> None:
    case = subject.case()
    for extra in (case.gains(), (case.gains(), 0.25)):
        require_rows_alone(case, extra, "with further arguments")


def further_arguments_of_any_type_reach_the_model(subject: Subject) -> None:
    case = subject.case()
    plain = map_of(case.explain())
    found = map_of(case.explain(extra=(None, 0.25)))
    require_different(found, plain, "with and without a number as further argument")
    scalar = torch.tensor(0.25, dtype=torch.float64)
    require_same(map_of(case.explain(extra=(None, scalar))), found, "a 0-d tensor as further argument")
    gain = case.gains()
    alone = map_of(case.explain(extra=gain))
    require_different(alone, plain, "with and without a tensor as further argument")
    require_same(map_of(case.explain(extra=(gain,))), alone, "a tuple of one further argument")
    with_grad = gain.clone().requires_grad_()
    require_same(map_of(case.explain(extra=with_grad)), alone, "a further argument with grad")


CHECKS = [
    batch_equals_single,
    the_order_of_examples_does_not_matter,
    further_arguments_follow_their_examples,
    further_arguments_of_any_type_reach_the_model,
]
