"""The random target test against a loop over classes, and methods that must pass or fail it."""

import math

import pytest
import torch
from faithfulness_toys import N_CLASSES, GradientTimesInput, Toy, brightness, clips

from captum_ext.metrics import RandomTarget
from captum_ext.metrics.functional import map_correlation, random_target

X = clips(0, 3)


def test_all_is_the_mean_over_every_other_class():
    explain = GradientTimesInput(Toy())
    target = [0, 5, 2]
    found = random_target(explain, X, target, N_CLASSES, others="all", similarity="pearson")
    for n, k in enumerate(target):
        x = X[n : n + 1]
        maps = [explain(x.clone(), torch.tensor([other])) for other in range(N_CLASSES)]
        others = [other for other in range(N_CLASSES) if other != k]
        assert len(others) == N_CLASSES - 1
        mean = sum(map_correlation(maps[k], maps[other], "pearson").item() for other in others) / len(others)
        assert found[n].item() == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3, 11])
def test_the_other_class_is_never_the_target_and_the_seed_draws_it(n_classes):
    drawn = {}
    for seed in range(5):
        seen = []

        def explain(x, target, seen=seen):
            seen.append(target.tolist())
            return x.sum(1)

        classes = list(range(n_classes))
        random_target(explain, clips(0, n_classes), classes, n_classes, seed=seed)
        first, second = seen
        assert first == classes
        assert all(a != b and 0 <= b < n_classes for a, b in zip(first, second, strict=True))
        drawn[seed] = tuple(second)
    assert (len(set(drawn.values())) > 1) == (n_classes > 2)


def test_the_figure_does_not_depend_on_how_clips_are_batched():
    explain = GradientTimesInput(Toy(torch.float64))
    x, target = clips(1, 4, dtype=torch.float64), torch.tensor([0, 5, 0, 3])
    together = random_target(explain, x, target, N_CLASSES)
    alone = [random_target(explain, x[n : n + 1], target[n : n + 1], N_CLASSES) for n in range(4)]
    assert torch.allclose(together, torch.cat(alone), rtol=0, atol=1e-12)


def test_a_method_that_looks_at_no_class_fails_and_one_that_does_passes():
    blind, seeing = RandomTarget(brightness, N_CLASSES), RandomTarget(GradientTimesInput(Toy()), N_CLASSES)
    for metric in (blind, seeing):
        metric.update(X, [0, 5, 2])
    assert blind.compute() == 1
    assert seeing.compute() < 0.9


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"target": None}, ValueError, "target is missing"),
        ({"target": N_CLASSES}, ValueError, f"n_classes = {N_CLASSES}"),
        ({"n_classes": 1}, ValueError, "at least 2"),
        ({"others": "worst"}, ValueError, "'worst'"),
        ({"similarity": "ssim"}, ValueError, "'ssim'"),
        ({"clips": X[0]}, ValueError, r"\(N, C, T, H, W\)"),
        ({"explanation_func": lambda x, k: x.sum(1)[:1]}, ValueError, "one map per clip"),
        ({"explanation_func": lambda x, k: x.sum((1, 2, 3, 4))}, ValueError, "one map per clip"),
        ({"explanation_func": lambda x, k: x.sum(1) * math.nan}, ValueError, "map of clip 0"),
        ({"explanation_func": lambda x, k: None}, TypeError, "NoneType"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, error, message):
    arguments = {"explanation_func": brightness, "clips": X, "target": 0, "n_classes": N_CLASSES, **change}
    with pytest.raises(error, match=message):
        random_target(**arguments)


def test_what_is_not_a_function_is_refused_at_once():
    with pytest.raises(TypeError, match="Tensor"):
        RandomTarget(X, N_CLASSES)
