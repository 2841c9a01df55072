"""Nothing of the user's changes: on success, on every kind of failure, in every grad mode."""

import random

import numpy as np
import pytest
import torch
from attr_state import differences, snapshot
from attr_toys import images, small_cnn, toy_clips, toy_cnn_lstm
from torch import nn

import captum_ext.attr._base
from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop


class Fault(nn.Module):
    """The identity, until it is told to fail."""

    def __init__(self):
        super().__init__()
        self.failure, self.backward = None, False

    def forward(self, x):
        if self.failure is not None:
            if not self.backward:
                raise self.failure
            x = x.clone()
            x.grad_fn.register_prehook(self.fail)
        return x

    def fail(self, _):
        raise self.failure


class Image(nn.Module):
    """Batch norm, in-place activations and dropout around a faulty module; scribbles into its input."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.fault = Fault()
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(96, 4))
        self.head[2].weight.requires_grad_(False)
        self.features[0].bias.grad = torch.ones(6)

    def forward(self, x):
        x[:, 0].mul_(0.5)
        x += 1
        return self.head(self.fault(self.features(x)))


def image_case(method):
    model = Image().eval()
    explainer = (
        ExcitationBackprop(model) if method == "input" else LayerExcitationBackprop(model, "features.2")
    )
    return model, explainer, images(), 1


def clip_case():
    model = toy_cnn_lstm(0)
    model.cnn.pool = nn.Sequential(model.cnn.pool, Fault())
    model.fault = model.cnn.pool[1]
    return model, RecurrentExcitationBackprop(model, "cnn.relu1"), toy_clips(), (3, 1)


CASES = {
    "input": lambda: image_case("input"),
    "layer": lambda: image_case("layer"),
    "recurrent": clip_case,
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


@pytest.fixture(params=[False, True], ids=["plain", "contrastive"])
def contrastive(request):
    return request.param


def mixed_flags(model):
    """Flags as a user may have left them: a module in training mode, a frozen parameter, hooks."""
    model.fault.train()
    next(iter(model.parameters())).requires_grad_(False)
    model.fault.register_forward_hook(lambda *_: None)
    model.fault.register_forward_pre_hook(lambda *_: None)
    model.register_state_dict_pre_hook(lambda *_: None)


def test_nothing_changes_on_success(case, contrastive):
    model, explainer, x, target = case
    mixed_flags(model)
    before = snapshot(model, x)
    explainer.attribute(x, target, contrastive=contrastive)
    assert differences(before, snapshot(model, x)) == []


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_every_grad_mode_gives_the_same_map_and_stays(case, contrastive, mode):
    model, explainer, x, target = case
    expected = explainer.attribute(x, target, contrastive=contrastive)
    with mode():
        before = snapshot(model, x)
        found = explainer.attribute(x, target, contrastive=contrastive)
        assert differences(before, snapshot(model, x)) == []
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not found.is_inference()


def test_inputs_made_in_inference_mode_can_be_explained(case):
    _model, explainer, x, target = case
    expected = explainer.attribute(x, target)
    with torch.inference_mode():
        inference = x.clone()
    assert inference.is_inference()
    assert torch.equal(explainer.attribute(inference, target), expected)


def test_models_made_in_inference_mode_can_be_explained():
    expected = ExcitationBackprop(small_cnn()).attribute(images(), 1)
    with torch.inference_mode():
        model = small_cnn()
        assert torch.equal(ExcitationBackprop(model).attribute(images(), 1), expected)
    assert torch.equal(ExcitationBackprop(model).attribute(images(), 1), expected)


@pytest.mark.parametrize("kind", ["leaf with grad", "non-leaf", "expanded", "strided", "with hook"])
def test_inputs_of_every_kind_are_left_as_they_were(case, kind):
    model, explainer, x, target = case
    expected = explainer.attribute(x, target)
    if kind == "leaf with grad":
        x.requires_grad_()
        x.grad = torch.ones_like(x)
    elif kind == "non-leaf":
        x = x.clone().requires_grad_() * 1
    elif kind == "expanded":
        x = x[:1].expand_as(x)
        expected = explainer.attribute(x.contiguous(), target)
    elif kind == "strided":
        x = torch.stack([x, x + 1], dim=-1)[..., 0]
    else:
        x.requires_grad_()
        x.register_hook(lambda _: pytest.fail("the gradient of the caller's tensor was computed"))
    before = snapshot(model, x)
    found = explainer.attribute(x, target)
    assert differences(before, snapshot(model, x)) == []
    assert torch.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, MemoryError, SystemExit])
@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
def test_nothing_changes_when_the_model_fails(case, contrastive, failure, in_backward):
    model, explainer, x, target = case
    expected = explainer.attribute(x, target, contrastive=contrastive)
    mixed_flags(model)
    model.fault.failure, model.fault.backward = failure("planted"), in_backward
    before = snapshot(model, x)
    with pytest.raises(failure, match="planted"):
        explainer.attribute(x, target, contrastive=contrastive)
    assert differences(before, snapshot(model, x)) == []
    model.fault.failure = None
    assert torch.equal(explainer.attribute(x, target, contrastive=contrastive), expected)


def test_nothing_changes_when_a_users_hook_fails(case):
    model, explainer, x, target = case

    def hook(*_):
        raise OSError("planted")

    model.fault.register_forward_hook(hook)
    before = snapshot(model, x)
    with pytest.raises(OSError, match="planted"):
        explainer.attribute(x, target)
    assert differences(before, snapshot(model, x)) == []


@pytest.mark.parametrize("bad", [99, "one", None, (0, 0, 0, 0, 0, 0), [0] * 7])
def test_nothing_changes_after_a_bad_target(case, bad):
    model, explainer, x, _ = case
    before = snapshot(model, x)
    with pytest.raises((AssertionError, IndexError, TypeError)):
        explainer.attribute(x, bad)
    assert differences(before, snapshot(model, x)) == []


def test_nothing_changes_when_our_own_code_fails(case, monkeypatch):
    model, explainer, x, target = case
    before = snapshot(model, x)

    def broken(*_):
        raise ArithmeticError("planted")

    for module in ("excitation_backprop", "layer_excitation_backprop", "recurrent_excitation_backprop"):
        monkeypatch.setattr(f"captum_ext.attr.{module}.check_map", broken)
    with pytest.raises(ArithmeticError):
        explainer.attribute(x, target)
    assert differences(before, snapshot(model, x)) == []


def test_no_random_number_is_drawn(case):
    _model, explainer, x, target = case
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    explainer.attribute(x, target)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected  # noqa: NPY002


def test_the_users_forward_hooks_fire_once_and_what_they_return_counts(case):
    model, explainer, x, target = case
    calls = []
    layer = explainer.layer if hasattr(explainer, "layer") else model.features
    for module in {model, layer, model.fault}:
        module.register_forward_pre_hook(lambda m, _: calls.append((m, "before")))
        module.register_forward_hook(lambda m, *_: calls.append((m, "after")))
    explainer.attribute(x, target)
    assert sorted(str((id(m), when)) for m, when in calls) == sorted(
        str((id(m), when)) for m in {model, layer, model.fault} for when in ("before", "after")
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_default_dtype_of_the_users_stays_and_does_not_matter(case, dtype):
    model, explainer, x, target = case
    expected = explainer.attribute(x, target)
    old = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        before = snapshot(model, x)
        found = explainer.attribute(x, target)
        after = snapshot(model, x)
    finally:
        torch.set_default_dtype(old)
    assert differences(before, after) == []
    assert found.dtype == expected.dtype
    assert torch.allclose(found, expected, atol=1e-7)


def test_autocast_of_the_users_stays(case):
    model, explainer, x, target = case
    if x.dtype == torch.float64:
        model, x = model.float(), x.float()
    expected = explainer.attribute(x, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = snapshot(model, x)
        found = explainer.attribute(x, target)
        assert differences(before, snapshot(model, x)) == []
    assert found.dtype == x.dtype
    assert torch.allclose(found.sum(), expected.sum(), rtol=0.02)
    assert (found - expected).abs().sum() < 0.1 * expected.abs().sum()


def test_running_statistics_survive_the_error_in_training_mode(contrastive):
    model, explainer, x, target = image_case("input")
    model.train()
    before = snapshot(model, x)
    with pytest.raises(ValueError, match="eval"):
        explainer.attribute(x, target, contrastive=contrastive)
    assert differences(before, snapshot(model, x)) == []


def test_the_explainer_itself_stays_as_it_was(case, contrastive):
    _, explainer, x, target = case
    before = dict(vars(explainer))
    explainer.attribute(x, target, contrastive=contrastive)
    assert vars(explainer) == before


def test_no_graph_is_kept_alive_after_the_call(case):
    import gc
    import weakref

    model, explainer, x, target = case
    seen = []
    handle = model.fault.register_forward_hook(lambda _, args, __: seen.append(weakref.ref(args[0])))
    result = explainer.attribute(x, target, contrastive=True)
    handle.remove()
    gc.collect()
    assert [ref() for ref in seen] == [None]
    assert result.grad_fn is None


@pytest.mark.parametrize("in_place", ["relu", "input", "residual"])
def test_in_place_models_get_the_map_of_their_plain_twins(in_place):
    class Twin(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.mid = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.fc, self.in_place = nn.Linear(4 * 64, 3), in_place

        def forward(self, x):
            if self.in_place == "input":
                x.clamp_(min=0)
            else:
                x = x.clamp(min=0)
            y = self.conv(x)
            a = torch.relu_(y) if self.in_place == "relu" else torch.relu(y)
            if self.in_place == "residual":
                z = self.mid(a)
                z += a
            else:
                z = self.mid(a) + a
            return self.fc(z.relu().flatten(1))

    x = images()
    for contrast in (False, True):
        expected = ExcitationBackprop(Twin(None)).attribute(x, 1, contrastive=contrast)
        found = ExcitationBackprop(Twin(in_place)).attribute(x, 1, contrastive=contrast)
        assert torch.allclose(found, expected, atol=1e-7)


# Negative controls: the snapshot must see each of these.


def leave_a_hook(model, x):
    model.fault.register_forward_hook(lambda *_: None)


def leave_an_attribute(model, x):
    model.fault.saved = None


def flip_training(model, x):
    model.features[1].train()


def touch_a_weight_and_put_it_back(model, x):
    with torch.no_grad():
        model.features[0].weight.neg_().neg_()


def drop_a_gradient(model, x):
    model.features[0].bias.grad = None


def require_grad(model, x):
    x.requires_grad_()


def write_to_the_input(model, x):
    x.add_(0)


def draw_a_number(model, x):
    torch.rand(1)


def run_in_training_mode(model, x):
    model.train()
    model(x.clone())
    model.eval()


def leave_a_mode(model, x):
    torch.overrides.BaseTorchFunctionMode().__enter__()


@pytest.mark.parametrize(
    "mischief",
    [
        leave_a_hook, leave_an_attribute, flip_training, touch_a_weight_and_put_it_back, drop_a_gradient,
        require_grad, write_to_the_input, draw_a_number, run_in_training_mode, leave_a_mode,
    ],
)  # fmt: skip
def test_the_snapshot_sees(mischief):
    model, _, x, _ = image_case("input")
    before = snapshot(model, x)
    try:
        mischief(model, x)
        assert differences(before, snapshot(model, x)) != []
    finally:
        if mischief is leave_a_mode:
            torch.overrides._pop_mode()


def test_the_checks_module_is_the_one_that_is_patched():
    # Guards the monkeypatch above against a rename.
    assert callable(captum_ext.attr._base.check_map)
