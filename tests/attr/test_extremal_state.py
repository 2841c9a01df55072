"""Extremal perturbation: whatever happens, nothing of the user's changes; and in which precision it works."""

import pytest
import torch
from attr_state import differences, snapshot
from extremal_toys import CLASSES, CLIP, FEW, C, H, K, N, T, W, classifier, data, masks_of
from torch import nn

import captum_ext.attr._extremal_problem as problem
from captum_ext.attr import SpatioTemporalExtremalPerturbation


def used_model():
    """A model as users have them: frozen weights, gradients, hooks, a module in training mode."""
    model = classifier(*CLIP)
    model[1].weight.requires_grad_(False)
    model[3].bias.grad = torch.ones(K)
    model[2].register_forward_hook(lambda *_: None)
    model[2].train()
    model.eval()
    return model


MODES = [torch.no_grad, torch.inference_mode, torch.enable_grad]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cls", CLASSES)
def test_nothing_of_the_users_changes(cls, mode):
    model, x = used_model(), data(*CLIP).requires_grad_()
    expected = cls(model).attribute(x, target=1, **FEW)
    with mode():
        before = snapshot(model, x)
        found = cls(model).attribute(x, target=1, **FEW)
        minimum = cls(model).minimum_area(x, target=1, tolerance=0.3, settings=FEW["settings"])
        assert differences(before, snapshot(model, x)) == []
        with pytest.raises(IndexError):
            cls(model).attribute(x, target=K, **FEW)
        assert differences(before, snapshot(model, x)) == []
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not found.is_inference()
    assert not minimum.masks.requires_grad
    assert not minimum.masks.is_inference()


@pytest.mark.parametrize("failure", [KeyboardInterrupt("planted"), MemoryError("planted")])
@pytest.mark.parametrize("at_call", [1, 2, 5, 7, 11])
@pytest.mark.parametrize("mode", MODES)
def test_an_interrupt_of_the_model_leaves_no_trace(failure, at_call, mode):
    model, x, calls = used_model(), data(*CLIP), []

    def scores(v):
        calls.append(1)
        if len(calls) == at_call:
            raise failure
        return model(v)

    explainer = SpatioTemporalExtremalPerturbation(scores)
    with mode():
        before = snapshot(model, x)
        with pytest.raises(type(failure), match="planted"):
            explainer.attribute(x, target=1, **FEW)
        assert differences(before, snapshot(model, x)) == []
    calls.clear()
    calls.extend([1] * 100)
    expected = SpatioTemporalExtremalPerturbation(model).attribute(x, target=1, **FEW)
    assert torch.equal(explainer.attribute(x, target=1, **FEW), expected)


@pytest.mark.parametrize("at_update", [1, 6])
@pytest.mark.parametrize("method", ["attribute", "minimum_area"])
def test_an_interrupt_at_the_progress_bar_leaves_no_trace(monkeypatch, at_update, method):
    updates = []

    class Interrupted(problem.tqdm):
        def update(self, n=1):
            updates.append(n)
            if len(updates) == at_update:
                raise KeyboardInterrupt("planted")
            return super().update(n)

    monkeypatch.setattr(problem, "tqdm", Interrupted)
    model, x = used_model(), data(*CLIP)
    explainer = SpatioTemporalExtremalPerturbation(model)
    options = FEW if method == "attribute" else {"settings": FEW["settings"]}
    before = snapshot(model, x)
    with pytest.raises(KeyboardInterrupt, match="planted"):
        getattr(explainer, method)(x, target=1, **options)
    assert differences(before, snapshot(model, x)) == []
    assert len(updates) == at_update


@pytest.mark.parametrize("show", [False, True])
def test_progress_shows_the_kept_probability_on_demand(capsys, show):
    explainer = SpatioTemporalExtremalPerturbation(classifier(*CLIP))
    explainer.attribute(data(*CLIP), target=1, show_progress=show, **FEW)
    shown = capsys.readouterr().err
    assert ("8/8" in shown and "kept probability 0." in shown and "area 0.6" in shown) if show else not shown


class Gaps(nn.Module):
    """Drops inputs, also in evaluation mode."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


@pytest.mark.parametrize("cls", CLASSES)
def test_models_that_are_random_or_write_to_themselves_are_refused(cls):
    x, refused = (
        data(*CLIP),
        {
            "draws random numbers": [
                nn.Sequential(nn.Dropout(), classifier(*CLIP)),
                nn.Sequential(Gaps(), classifier(*CLIP)).eval(),
            ],
            r"module '0' \(BatchNorm3d\) is in training mode": [
                nn.Sequential(nn.BatchNorm3d(C), classifier(*CLIP))
            ],
        },
    )
    for match, models in refused.items():
        for model in models:
            before = snapshot(model, x)
            with pytest.raises(ValueError, match=match):
                masks_of(cls(model), x, 1)
            assert differences(before, snapshot(model, x)) == []


def test_a_model_may_write_into_what_it_gets():
    model, x = classifier(*CLIP), data(*CLIP)
    kept = x.clone()

    def writes(v, gain):
        return model(v.mul_(2).add_(1)) * gain.mul_(2)

    gain = torch.ones(N, 1)
    found = masks_of(SpatioTemporalExtremalPerturbation(writes), x, 1, additional_forward_args=gain)
    expected = masks_of(SpatioTemporalExtremalPerturbation(lambda v: 2 * model(v * 2 + 1)), x, 1)
    torch.testing.assert_close(found.masks, expected.masks, rtol=0, atol=1e-6)
    assert torch.equal(x, kept)
    assert torch.equal(gain, torch.ones(N, 1))


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("cls", CLASSES)
def test_half_precision_inputs_have_masks_in_float32(cls, dtype):
    dtypes, model = set(), classifier(*CLIP).to(dtype)

    def scores(v):
        dtypes.add(v.dtype)
        return model(v)

    x = data(*CLIP).to(dtype)
    maps, found = cls(scores).attribute(x, target=1, return_masks=True, **FEW)
    assert dtypes == {dtype}
    assert maps.dtype == dtype
    floats = (value for value in vars(found).values() if isinstance(value, torch.Tensor))
    assert {value.dtype for value in floats} == {torch.float32}
    # The model sees rounded clips, of which our own part is a float32 computation.
    expected = masks_of(cls(lambda v: model(v.to(dtype))), x.float(), 1)
    torch.testing.assert_close(found.masks, expected.masks, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("variant", ["preserve", "dual"])
def test_autocast_is_for_the_model_alone(cls, variant):
    dtypes, model, x = [], classifier(*CLIP), data(*CLIP)
    model[1].register_forward_hook(lambda _, args, output: dtypes.append((args[0].dtype, output.dtype)))

    def in_bf16(v):
        with torch.autocast("cpu", torch.bfloat16):
            return model(v)

    expected = masks_of(cls(in_bf16), x, 1, variant=variant)
    n_calls = len(dtypes)
    with torch.autocast("cpu", torch.bfloat16):
        found = masks_of(cls(model), x, 1, variant=variant)
        assert torch.is_autocast_enabled("cpu")
    assert len(dtypes) == 2 * n_calls
    assert set(dtypes) == {(torch.float32, torch.bfloat16)}
    assert found.masks.dtype == torch.float32
    for name in ("masks", "seeds", "losses", "probabilities"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    plain = masks_of(cls(model), x, 1, variant=variant)
    assert not torch.equal(found.probabilities, plain.probabilities)
    torch.testing.assert_close(
        found.original_probabilities, plain.original_probabilities, rtol=0.05, atol=0.01
    )


def test_baselines_and_seeds_of_another_precision_are_taken():
    explainer, x = SpatioTemporalExtremalPerturbation(classifier(*CLIP)), data(*CLIP)
    baseline = data(*CLIP, seed=2)
    expected = masks_of(explainer, x, 1, baselines=baseline)
    found = masks_of(explainer, x, 1, baselines=baseline.double().requires_grad_())
    assert torch.equal(found.masks, expected.masks)
    zeros = masks_of(explainer, x, 1, baselines=torch.zeros(N, C, T, H, W, dtype=torch.long))
    assert torch.equal(zeros.masks, masks_of(explainer, x, 1, perturbation="fade").masks)
