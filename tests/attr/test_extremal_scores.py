"""Extremal perturbation: what scores may be, how targets select them, and scores that go wrong."""

import warnings

import pytest
import torch
from extremal_toys import CLASSES, CLIP, FEW, IMAGE, C, H, K, N, T, W, classifier, data, masks_of

from captum_ext.attr import ExtremalPerturbation, SpatioTemporalExtremalPerturbation
from captum_ext.perturbation import StepSettings


@pytest.mark.parametrize(
    "target", [2, (2,), torch.tensor(2), torch.tensor([2]), [2, 2], torch.tensor([2, 2]), [(2,), (2,)]]
)
def test_every_form_of_a_class_gives_the_same_masks(target):
    explainer = SpatioTemporalExtremalPerturbation(classifier(*CLIP))
    expected = masks_of(explainer, data(*CLIP), 2)
    assert torch.equal(masks_of(explainer, data(*CLIP), target).masks, expected.masks)


@pytest.mark.parametrize("targets", [[(0, 1), (2, 3)], [(2, 3), (0, 1)]])
def test_scores_with_steps_take_a_step_and_a_class_for_each_example(targets):
    model, x = classifier(*CLIP, dtype=torch.float64, n_scores=3 * K), data(*CLIP, dtype=torch.float64)
    found = masks_of(SpatioTemporalExtremalPerturbation(lambda v: model(v).view(-1, 3, K)), x, targets)
    for i, (step, k) in enumerate(targets):
        alone = masks_of(
            SpatioTemporalExtremalPerturbation(lambda v, step=step: model(v).view(-1, 3, K)[:, step]),
            x[i : i + 1],
            k,
        )
        torch.testing.assert_close(found.masks[i], alone.masks[0])
        torch.testing.assert_close(found.original_probabilities[i], alone.original_probabilities[0])


def test_targets_of_a_wrong_form_are_refused_as_by_captum():
    explainer = SpatioTemporalExtremalPerturbation(classifier(*CLIP))
    with pytest.raises(AssertionError, match="Target not provided"):
        masks_of(explainer, data(*CLIP))
    with pytest.raises(IndexError, match="out of"):
        masks_of(explainer, data(*CLIP), K)
    with pytest.raises(AssertionError, match="Target list length"):
        masks_of(explainer, data(*CLIP), [1] * (N + 1))


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_probabilities_give_the_masks_of_their_logits(cls, variant):
    model, x = classifier(*CLIP, dtype=torch.float64), data(*CLIP, dtype=torch.float64)
    logits = masks_of(cls(model), x, [1, 3], variant=variant)
    declared = {"variant": variant, "scores": "probabilities"}
    probabilities = masks_of(cls(lambda v: model(v).softmax(1)), x, [1, 3], **declared)
    torch.testing.assert_close(probabilities.masks, logits.masks, rtol=0, atol=1e-5)
    torch.testing.assert_close(probabilities.probabilities, logits.probabilities)
    torch.testing.assert_close(logits.original_probabilities, model(x).softmax(1)[[0, 1], [1, 3]])


def test_scores_of_another_kind_than_declared_are_refused():
    model, x = classifier(*CLIP), data(*CLIP)
    with pytest.raises(ValueError, match="which are probabilities and not logits; pass scores="):
        masks_of(SpatioTemporalExtremalPerturbation(lambda v: model(v).softmax(1)), x, 1)
    with pytest.raises(ValueError, match="scores='probabilities', but the model returns values from -"):
        masks_of(SpatioTemporalExtremalPerturbation(model), x, 1, scores="probabilities")
    with pytest.raises(ValueError, match="scores must be one of 'logits', 'probabilities', got 'odds'"):
        masks_of(SpatioTemporalExtremalPerturbation(model), x, 1, scores="odds")


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_a_single_logit_stands_for_its_sigmoid(variant):
    model, x = classifier(*CLIP, dtype=torch.float64, n_scores=1), data(*CLIP, dtype=torch.float64)

    def found(forward_func, target=None, **options):
        explainer = SpatioTemporalExtremalPerturbation(forward_func)
        return masks_of(explainer, x, target, variant=variant, **options)

    column = found(model)
    torch.testing.assert_close(column.original_probabilities, model(x)[:, 0].sigmoid())
    others = {
        "target 0": found(model, 0),
        "(N,)": found(lambda v: model(v)[:, 0]),
        "two logits": found(lambda v: torch.cat([model(v), torch.zeros(len(v), 1)], 1), 0),
        "declared": found(lambda v: model(v).sigmoid(), scores="probabilities"),
    }
    for name, other in others.items():
        torch.testing.assert_close(other.masks, column.masks, rtol=0, atol=1e-5, msg=name)
        torch.testing.assert_close(other.probabilities, column.probabilities, msg=name)


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
@pytest.mark.parametrize("lead", [-200.0, 200.0, -5000.0, 5000.0])
def test_hopeless_and_certain_classes_stay_finite(variant, lead):
    model, x = classifier(*CLIP), data(*CLIP)
    shift = torch.tensor([0.0, lead, 0.0, 0.0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the score of example")
        found = masks_of(
            SpatioTemporalExtremalPerturbation(lambda v: model(v) + shift), x, 1, variant=variant
        )
    assert found.losses.isfinite().all()
    assert found.seeds.isfinite().all()
    assert found.masks.isfinite().all()
    torch.testing.assert_close(found.probabilities, torch.full((N, 2), float(lead > 0)))


def test_a_hopeless_class_is_explained_by_what_makes_it_less_hopeless():
    model, x = classifier(*CLIP, dtype=torch.float64), data(*CLIP, dtype=torch.float64)
    shift = torch.tensor([0.0, -200.0, 0.0, 0.0], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = masks_of(SpatioTemporalExtremalPerturbation(lambda v: model(v) + shift), x, 1)
        no_evidence = masks_of(SpatioTemporalExtremalPerturbation(lambda v: 0 * model(v) + shift), x, 1)
    assert (found.masks - no_evidence.masks).abs().max() > 0.01


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_probabilities_of_exactly_0_and_1_stay_finite(variant):
    for p in (0.0, 1.0):
        explainer = SpatioTemporalExtremalPerturbation(lambda v, p=p: p + 0 * v.flatten(1).sum(1))
        with pytest.warns(UserWarning, match="the score of example 0 stayed the same"):
            found = masks_of(explainer, data(*CLIP), scores="probabilities", variant=variant)
        assert found.losses.isfinite().all()
        assert found.masks.isfinite().all()


@pytest.mark.parametrize(("cls", "shape"), [(CLASSES[0], IMAGE), (CLASSES[0], CLIP), (CLASSES[1], CLIP)])
def test_a_constant_model_is_told_apart_from_evidence_by_a_warning(cls, shape):
    def constant(v):
        return 0 * v.flatten(1)[:, :2] + torch.tensor([1.0, -1.0])

    with pytest.warns(UserWarning, match=r"example 0 stayed the same whatever the mask showed"):
        masks_of(cls(constant), data(*shape), 0)


MODEL = classifier(*CLIP)
UNFOLLOWED = {
    "a constant": lambda v: torch.ones(len(v), K),
    "no_grad": torch.no_grad()(MODEL.forward),
    "NumPy": lambda v: torch.from_numpy(v.detach().numpy()).flatten(1)[:, :K],
    # The scores require gradients, for the weights are trainable, but none gets to the input.
    "a detached input": lambda v: MODEL(v.detach()),
    "NumPy before the model": lambda v: MODEL(torch.from_numpy(v.detach().numpy())),
}


@pytest.mark.parametrize("name", UNFOLLOWED)
def test_models_that_torch_cannot_follow_are_refused(name):
    with pytest.raises(ValueError, match="in a way torch can follow"):
        masks_of(SpatioTemporalExtremalPerturbation(UNFOLLOWED[name]), data(*CLIP), 1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_break_midway_name_example_iteration_and_area(value):
    model, calls = classifier(*CLIP), []

    def breaks(v):
        calls.append(1)
        scores = model(v)
        # One look at the whole clip, four iterations and the last masks of the first area, three iterations.
        if len(calls) == 1 + 5 + 3:
            scores = scores * torch.tensor([[1.0], [value]])
        return scores

    with pytest.raises(ValueError, match=r"score of example 1, .* at iteration 2 with the area 0\.6; check"):
        masks_of(SpatioTemporalExtremalPerturbation(breaks), data(*CLIP), 1)
    assert len(calls) == 1 + 5 + 3


def test_a_model_that_cannot_take_blur_is_named_as_such():
    model = classifier(*CLIP)

    def breaks(v):
        return model(v) / (v.std((1, 2, 3, 4), keepdim=True).view(-1, 1) > 0.9)

    with pytest.raises(ValueError, match=r"score of example \d, .* at iteration [1-3] with the area"):
        masks_of(SpatioTemporalExtremalPerturbation(breaks), data(*CLIP), 1)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_gradient_of_nan_behind_a_finite_score_is_noticed(cls):
    model = classifier(*CLIP)

    def breaks(v):
        # The infinite slope of the root at 0, times 0.
        return model(v) + (0 * v).abs().sqrt().flatten(1).sum(1, keepdim=True)

    assert breaks(data(*CLIP)).isfinite().all()
    with pytest.raises(
        ValueError, match=r"example 0, or its gradient, became NaN .* at iteration 0 with the area 0.4"
    ):
        masks_of(cls(breaks), data(*CLIP), 1)


def test_scores_that_are_wrong_from_the_start_are_refused():
    x = data(*CLIP)
    with pytest.raises(ValueError, match="output for the target contains NaN"):
        masks_of(SpatioTemporalExtremalPerturbation(lambda v: v.flatten(1).sum(1) * torch.nan), x)
    with pytest.raises(TypeError, match="returned a tuple, not a tensor of scores"):
        masks_of(SpatioTemporalExtremalPerturbation(lambda v: (v.flatten(1), v)), x, 1)
    with pytest.raises(TypeError, match="forward_func must be callable, got int"):
        SpatioTemporalExtremalPerturbation(3)


def test_any_callable_will_do():
    model, x = classifier(*CLIP, dtype=torch.float64), data(*CLIP, dtype=torch.float64)
    scaled = (x * 60 + 127) / 255
    found = masks_of(
        SpatioTemporalExtremalPerturbation(lambda clips: model((clips * 255 - 127) / 60)),
        scaled,
        1,
        perturbation="mean",
    )
    expected = masks_of(SpatioTemporalExtremalPerturbation(model), x, 1, perturbation="mean")
    torch.testing.assert_close(found.masks, expected.masks, rtol=0, atol=1e-6)


def test_further_arguments_follow_their_examples_and_areas():
    model, x = classifier(*CLIP, dtype=torch.float64), data(*CLIP, dtype=torch.float64)
    gain = torch.tensor([[0.5], [2.0]], dtype=torch.float64)

    def scores(clips, gain, options, offset):
        return model(clips) * gain * options["factor"] + offset

    for some in (1, 2):
        found = masks_of(
            SpatioTemporalExtremalPerturbation(scores),
            x,
            [1, 3],
            additional_forward_args=(gain, {"factor": 3.0}, 0.25),
            perturbations_per_eval=some,
        )
        for i in range(N):
            expected = masks_of(
                SpatioTemporalExtremalPerturbation(lambda v, g=gain[i]: model(v) * g * 3.0 + 0.25),
                x[i : i + 1],
                [1, 3][i],
            )
            torch.testing.assert_close(found.masks[i], expected.masks[0], rtol=0, atol=1e-6)


def test_a_dictionary_alone_reaches_the_model_as_it_is():
    seen = []

    def scores(clips, options):
        seen.append(options)
        return clips.flatten(1)[:, :K] * options["factor"]

    masks_of(
        SpatioTemporalExtremalPerturbation(scores), data(*CLIP), 1, additional_forward_args={"factor": 2.0}
    )
    assert len(seen) == 1 + 2 * 4 + 2
    assert all(options == {"factor": 2.0} for options in seen)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_probabilities_are_those_of_what_the_masks_keep(cls):
    model, x = classifier(*CLIP, dtype=torch.float64), data(*CLIP, dtype=torch.float64)
    for variant in ("preserve", "delete", "dual"):
        found = masks_of(cls(model), x, [1, 3], perturbation="fade", variant=variant)
        kept = 1 - found.masks if variant == "delete" else found.masks
        for a in range(2):
            with torch.no_grad():
                p = model(x * kept[:, a].unsqueeze(1)).softmax(1)[[0, 1], [1, 3]]
            torch.testing.assert_close(found.probabilities[:, a], p, msg=variant)


def test_images_are_given_to_the_model_as_images_and_clips_in_their_layout():
    shapes = set()

    def scores(v):
        shapes.add(tuple(v.shape))
        return v.flatten(1)[:, :K]

    ExtremalPerturbation(scores).attribute(data(*IMAGE), target=1, perturbations_per_eval=2, **FEW)
    assert shapes == {(N, C, H, W), (2 * N, C, H, W)}
    shapes.clear()
    explainer = SpatioTemporalExtremalPerturbation(scores, layout="NTCHW")
    explainer.attribute(data(T, C, H, W), target=1, **FEW)
    assert shapes == {(N, T, C, H, W)}


def test_settings_choose_what_is_maximised():
    model, x = classifier(*CLIP), data(*CLIP)
    found = [
        masks_of(
            SpatioTemporalExtremalPerturbation(model),
            x,
            1,
            settings=StepSettings(n_iter=4, learning_rate=0.2, reward=reward),
        ).losses[..., 0]
        for reward in ("log", "probability")
    ]
    p = masks_of(SpatioTemporalExtremalPerturbation(model), x, 1).rewards[..., 0].exp()
    torch.testing.assert_close(found[0] - found[1], p - p.log(), rtol=1e-4, atol=1e-5)
