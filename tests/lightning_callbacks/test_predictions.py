"""What is said of a sample, and which unit is explained."""

import pytest
import torch

from lightning_callbacks._predictions import check_target, predict

SCORES = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
P = SCORES.softmax(1)[0]
LABEL = torch.tensor(2)


@pytest.mark.parametrize(
    ("target", "unit", "caption"),
    [
        ("predicted", 1, "true: c; predicted: b, p = 0.66"),
        ("label", 2, "true: c; predicted: b, p = 0.66; explained: c, p = 0.24"),
        (0, 0, "true: c; predicted: b, p = 0.66; explained: a, p = 0.09"),
        (lambda scores, label: (1, int(label)), (1, 2), "true: c; predicted: b, p = 0.66; explained: (1, 2)"),
    ],
)
def test_unit_and_caption(target, unit, caption):
    found = predict(SCORES, LABEL, target, "abcd")
    assert (found.target, found.caption) == (unit, caption)


def test_numbers_stand_for_classes_without_names():
    assert predict(SCORES, LABEL, 3, ["a", "b"]).caption.startswith("true: 2; predicted: b")


def test_of_time_steps_the_last_counts():
    steps = torch.stack([SCORES.flip(1), SCORES], dim=1)
    assert predict(steps, LABEL, "predicted").target == (1, 1)
    assert predict(steps, LABEL, "label").target == (1, 2)
    assert predict(steps.flip(1), LABEL, "predicted").target == (1, 2)


@pytest.mark.parametrize(
    ("label", "true"),
    [
        (None, ""),
        (torch.tensor(-100), "true: none; "),
        (torch.tensor([0.1, 0.2, 0.7, 0.0]), "true: c; "),
        (torch.tensor([1, 0, 0, 1]), "true: a + d; "),
        (torch.tensor([0, 0, 0, 0]), "true: none; "),
        (torch.full((4,), -100), "true: none; "),
        (torch.tensor([3]), "true: d; "),
        (torch.tensor(2.0), "true: c; "),
        (torch.tensor(0.3), "true: none; "),
    ],
)
def test_labels_of_many_kinds(label, true):
    assert predict(SCORES, label, "predicted", "abcd").caption == f"{true}predicted: b, p = 0.66"


@pytest.mark.parametrize(
    ("score", "caption"), [(1.0, "predicted: 1, p = 0.73"), (-1.0, "predicted: 0, p = 0.73")]
)
@pytest.mark.parametrize(("shape", "unit"), [((1, 1), 0), ((1,), None)])
def test_a_single_score_is_that_of_class_1(score, caption, shape, unit):
    found = predict(torch.full(shape, score), None, 0)
    assert (found.target, found.caption) == (unit, caption)
    with pytest.raises(ValueError, match=r"single score.*target=0"):
        predict(torch.full(shape, score), None, "predicted")


def test_scores_that_are_probabilities_are_left_alone():
    assert predict(P[None], None, "predicted").caption == "predicted: 1, p = 0.66"


def test_probabilities_can_be_computed_otherwise():
    caption = predict(SCORES, None, "predicted", probability_fn=torch.sigmoid).caption
    assert caption == f"predicted: 1, p = {SCORES.sigmoid()[0, 1]:.2f}"
    assert caption != "predicted: 1, p = 0.66"


@pytest.mark.parametrize(
    ("scores", "label", "target", "error", "words"),
    [
        ({"logits": SCORES}, None, 0, TypeError, r"returned a dict.*module\(x\)\.logits"),
        (SCORES.repeat(2, 1), None, 0, ValueError, r"\(2, 4\) for one example"),
        (SCORES[..., None, None], None, 0, ValueError, r"\(1, 4, 1, 1\)"),
        (torch.zeros(1, 0), None, 0, ValueError, r"\(1, 0\)"),
        (SCORES * float("nan"), None, 0, ValueError, "NaN"),
        (SCORES, None, 4, ValueError, "class 4 is to be explained, but the model has 4 classes"),
        (SCORES, torch.tensor(7), "label", ValueError, "class 7"),
        (SCORES, None, "label", ValueError, r"one class as its label, and this has \[\]"),
        (SCORES, torch.tensor([1, 0, 0, 1]), "label", ValueError, r"\[0, 3\]"),
        (SCORES, torch.tensor(-100), "label", ValueError, r"\[\]"),
    ],
)
def test_what_cannot_be_explained_is_an_error(scores, label, target, error, words):
    with pytest.raises(error, match=words):
        predict(scores, label, target)


@pytest.mark.parametrize("target", ["true", -1, 1.5, None, True, (1, 2)])
def test_unknown_targets_are_refused(target):
    with pytest.raises(ValueError, match="target must be 'predicted', 'label'"):
        check_target(target)
