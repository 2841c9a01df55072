"""Nothing of the user's is changed by the metrics that run a model, whatever happens in it."""

import pickle

import pytest
import torch
from attr_state import differences, snapshot
from faithfulness_toys import N_CLASSES, GradientTimesInput, H, T, Toy, W, clips, random_maps
from torch import nn

from captum_ext.metrics import (
    OrderSensitivity,
    ParameterRandomization,
    SpatioTemporalDeletion,
    TemporalDeletion,
)
from captum_ext.metrics.functional import (
    deletion_curve,
    insertion_curve,
    order_sensitivity,
    parameter_randomization,
    random_target,
)

X, M = clips(0, 2), random_maps(0, 2, T, H, W)


class Failing:
    """Calls a function until its turn comes to fail."""

    def __init__(self, function, calls, error):
        self.function, self.calls, self.error = function, calls, error

    def __call__(self, *args):
        if self.calls == 0:
            raise self.error
        self.calls -= 1
        torch.rand(3)  # draws, which must not show
        result = self.function(*args)
        args[0].detach().zero_()  # writes into what it was given
        return result


def draw_free(failing):
    """The model itself may not draw."""

    def run(x):
        if failing.calls == 0:
            raise failing.error
        failing.calls -= 1
        result = failing.function(x)
        x.zero_()
        return result

    return run


def runs(model, x, maps, calls, error):
    explain = Failing(GradientTimesInput(model), calls, error)
    forward = draw_free(Failing(model, calls, error))
    return {
        "deletion": lambda: deletion_curve(forward, x, maps, 1, steps=3),
        "insertion": lambda: insertion_curve(forward, x, maps, 1, unit="frame", baseline="freeze"),
        "order, forward": lambda: order_sensitivity(forward, GradientTimesInput(model), x, 1),
        "order, explain": lambda: order_sensitivity(model, explain, x, 1),
        "randomization": lambda: parameter_randomization(model, explain, x, 1),
        "independent": lambda: parameter_randomization(model, explain, x, 1, mode="independent"),
        "random target": lambda: random_target(explain, x, 1, N_CLASSES, others="all"),
    }


NAMES = list(runs(None, None, None, 0, None))
MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}


def without_versions(state):
    """Made random and restored, a parameter's version moves on; its bits do not."""
    for tensors in (state["parameters"], state["buffers"]):
        for tensor in tensors.values():
            tensor.pop("version")
    return state


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_changed_by_success(name, mode):
    model, x, maps = Toy(), X.clone(), M.clone()
    before = without_versions(snapshot(model, x, maps))
    with MODES[mode]():
        inside = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        runs(model, x, maps, -1, None)[name]()
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == inside
    assert differences(before, without_versions(snapshot(model, x, maps))) == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
@pytest.mark.parametrize("calls", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_changed_by_an_exception(name, calls, error):
    model, x, maps = Toy(), X.clone(), M.clone()
    before = without_versions(snapshot(model, x, maps))
    with pytest.raises(type(error)):
        runs(model, x, maps, calls, error)[name]()
    assert differences(before, without_versions(snapshot(model, x, maps))) == []


@pytest.mark.parametrize("calls", [2, 3, 4])
@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_parameters_are_given_back_at_whatever_layer_it_fails(calls, mode):
    model = Toy()
    with torch.no_grad():
        model.scale.fill_(-0.0)  # comes back with its sign
    model.norm.running_mean.fill_(torch.nan)
    before = {name: value.view(torch.uint8).clone() for name, value in bits(model)}
    explain = Failing(lambda x, target: x.sum(1), calls, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        parameter_randomization(model, explain, X, 0, mode=mode)
    assert all(torch.equal(before[name], value.view(torch.uint8)) for name, value in bits(model))


def bits(model):
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [(name, tensor.detach().reshape(-1)) for name, tensor in tensors]


class Replacing(nn.Module):
    """Puts new tensors in place of its own, as some modules do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(2))
        self.register_buffer("shared", torch.ones(1).expand(3))
        self.reset_parameters()

    def reset_parameters(self):
        self.weight = nn.Parameter(torch.rand(3))
        self.state = torch.rand(2)


def test_parameters_that_were_replaced_are_put_back_themselves():
    model = Replacing().eval()
    weight, state, values = model.weight, model.state, model.weight.detach().clone()
    seen = []

    def explain(x, target):
        seen.append(model.weight.detach().clone())
        return x.sum(1)

    parameter_randomization(model, explain, X)
    assert not torch.equal(seen[0], seen[1])
    assert model.weight is weight
    assert model.state is state
    assert torch.equal(weight, values)


@pytest.mark.parametrize(
    "wrap", [lambda model: model, lambda model: lambda x: model(x), lambda model: model.forward]
)
def test_training_mode_is_refused_before_it_does_anything(wrap):
    model = Toy()
    model.norm.train()
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"BatchNorm3d.*training mode.*call eval\(\)"):
        deletion_curve(wrap(model), X, M, 1)
    assert differences(before, snapshot(model)) == []


def test_a_model_that_draws_random_numbers_is_refused_and_the_caller_loses_none():
    model = Toy()
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="draws random numbers"):
        deletion_curve(lambda x: model(nn.functional.dropout(x)), X, M, 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_of_torch_stays_the_callers():
    torch.manual_seed(1234)
    parameter_randomization(Toy(), lambda x, target: x.sum(1), X)
    assert torch.initial_seed() == 1234


def test_compiled_functions_run():
    model = Toy()
    compiled = torch.compile(lambda x: model(x), backend="eager", fullgraph=True)
    expected = deletion_curve(model, X, M, 1, steps=3)
    assert torch.allclose(deletion_curve(compiled, X, M, 1, steps=3), expected)


def test_the_model_is_no_part_of_the_metric():
    model = Toy()
    metric = SpatioTemporalDeletion(model, steps=2)
    metric.persistent(True)
    assert list(metric.children()) == []
    assert not any("conv" in key for key in metric.state_dict())
    metric.train()
    metric.to(torch.float64)
    assert not model.training
    assert model.head.weight.dtype == torch.float32


def test_a_clone_follows_the_model_in_training_and_a_pickle_holds_its_own():
    model = Toy()
    metric = TemporalDeletion(model)
    clone, stored = metric.clone(), pickle.dumps(metric)
    metric.update(X, M, 1)
    with torch.no_grad():
        model.head.weight.neg_()
    clone.update(X, M, 1)
    assert clone.compute() == TemporalDeletion(model)(X, M, 1)
    assert clone.compute() != metric.compute()
    loaded = pickle.loads(stored)  # noqa: S301
    assert loaded(X, M, 1) == metric.compute()


def test_a_pickled_metric_keeps_model_and_explanation_together():
    model = Toy()
    metric = pickle.loads(  # noqa: S301
        pickle.dumps(ParameterRandomization(model, GradientTimesInput(model)))
    )
    metric.update(X, 1)
    assert metric.compute() < 1


@pytest.mark.parametrize("mode", MODES)
def test_explanations_have_gradients_inside_a_metric(mode):
    metric = OrderSensitivity(model := Toy(), GradientTimesInput(model))
    with MODES[mode]():
        metric.update(X, 1)
    assert metric.compute() > 0


def test_metrics_print_what_they_depend_on():
    assert repr(TemporalDeletion(Toy(), steps=3)) == (
        "TemporalDeletion(unit='frame', baseline='freeze', steps=3, score='probability')"
    )
    own = SpatioTemporalDeletion(Toy(), baseline=torch.zeros(2, 1, 1, 1), score="logit")
    assert "tensor (2, 1, 1, 1)" in repr(own)
