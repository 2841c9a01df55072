"""One forward pass and about one backward pass, counted operation by operation."""

from collections import Counter

import pytest
import torch
from attr_toys import images, small_cnn, toy_clips, toy_cnn_lstm
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop

aten = torch.ops.aten


class Calls(TorchDispatchMode):
    """Counts forward and backward convolutions by the shape of their weight, whoever asked for them."""

    def __init__(self):
        super().__init__()
        self.forward, self.backward, self.with_weight_gradient = Counter(), Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is aten.convolution.default:
            self.forward[tuple(args[1].shape)] += 1
        elif func is aten.convolution_backward.default:
            self.backward[tuple(args[2].shape)] += 1
            mask = args[-1] if args else kwargs["output_mask"]
            self.with_weight_gradient += any(mask[1:])
        return func(*args, **(kwargs or {}))


def count(explainer, x, target, **settings):
    runs = Counter()
    handles = [
        module.register_forward_hook(lambda m, *_, name=name: runs.update([name]))
        for name, module in explainer.model.named_modules()
    ]
    try:
        with Calls() as calls:
            explainer.attribute(x, target, **settings)
    finally:
        for handle in handles:
            handle.remove()
    return calls, runs


def weights(model):
    return [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]


@pytest.fixture(params=[False, True], ids=["plain", "contrastive"])
def contrastive(request):
    return request.param


def test_every_module_runs_once(contrastive):
    model = small_cnn()
    for explainer in (ExcitationBackprop(model), LayerExcitationBackprop(model, "1")):
        _, runs = count(explainer, images(), 1, contrastive=contrastive)
        assert set(runs.values()) == {1}
        assert len(runs) == len(list(model.modules()))
    model = toy_cnn_lstm(0)
    _, runs = count(
        RecurrentExcitationBackprop(model, "cnn.relu2"), toy_clips(), (3, 1), contrastive=contrastive
    )
    assert set(runs.values()) == {1}


def test_each_convolution_is_applied_twice_and_transposed_once_on_non_negative_inputs(contrastive):
    model = small_cnn()
    calls, _ = count(ExcitationBackprop(model, negative="clamp"), images().abs(), 1, contrastive=contrastive)
    for shape in weights(model):
        assert calls.forward[shape] <= 2
        assert calls.backward[shape] == 1
    assert calls.with_weight_gradient == 0
    second = weights(model)[1]
    calls, _ = count(ExcitationBackprop(model), images(), 1, contrastive=contrastive)
    assert (calls.forward[second], calls.backward[second]) == (2, 1)


def test_both_signs_of_the_inputs_go_through_the_first_layer_together(contrastive):
    model = small_cnn()
    calls, _ = count(ExcitationBackprop(model), images(), 1, contrastive=contrastive)
    first = weights(model)[0]
    stacked = (first[0], 2 * first[1], *first[2:])
    assert (calls.forward[first], calls.backward[first]) == (1, 0)
    assert (calls.forward[stacked], calls.backward[stacked]) == (1, 1)


def test_layers_below_the_chosen_one_cost_a_plain_forward_pass(contrastive):
    model = small_cnn()
    calls, _ = count(LayerExcitationBackprop(model, "2"), images(), 1, contrastive=contrastive)
    first, second = weights(model)
    assert (calls.forward[first], calls.backward[first]) == (1, 0)
    assert (calls.forward[second], calls.backward[second]) == (2, 1)


@pytest.mark.parametrize("folding", ["NT", "TN", "frames"])
@pytest.mark.parametrize("recurrence", ["batch_first", "cell", "relu"])
def test_the_cnn_of_a_recurrent_model_is_run_back_once(recurrence, folding, contrastive):
    model, clips = toy_cnn_lstm(0, recurrence=recurrence, folding=folding), toy_clips(2, 4)
    explainer = RecurrentExcitationBackprop(model, "cnn.relu1", frame_order="TN" if folding == "TN" else "NT")
    calls, _ = count(explainer, clips, (3, 1), contrastive=contrastive)
    per_layer = 4 if folding == "frames" else 1
    first, second = weights(model)
    assert (calls.forward[first], calls.backward[first]) == (per_layer, 0)
    assert (calls.forward[second], calls.backward[second]) == (2 * per_layer, per_layer)


def test_residual_networks_with_batch_norm_stay_within_two_and_one(contrastive):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU())
            self.conv1, self.bn1 = nn.Conv2d(5, 7, 3, padding=1, bias=False), nn.BatchNorm2d(7)
            self.conv2, self.bn2 = nn.Conv2d(7, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
            self.fc = nn.Linear(5, 3)

        def forward(self, x):
            x = self.stem(x)
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return self.fc((x + y).relu().mean((2, 3)))

    torch.manual_seed(0)
    model = Block().eval()
    for bn in (model.bn1, model.bn2):
        nn.init.normal_(bn.weight)  # both signs of gamma
        nn.init.uniform_(bn.running_var, 0.5, 2)
    calls, _ = count(ExcitationBackprop(model), images(), 1, contrastive=contrastive)
    for shape in weights(model)[1:]:
        assert calls.forward[shape] <= 2
        assert calls.backward[shape] == 1


def test_the_same_weight_is_split_into_its_signs_once():
    # A layer that is called once per frame shares W^+.
    model, clips = toy_cnn_lstm(0, folding="frames"), toy_clips(1, 4)
    explainer = RecurrentExcitationBackprop(model, "cnn.relu1")
    target = tuple(model.cnn.conv2.weight.shape)
    clamps = 0

    class Clamps(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal clamps
            if "clamp" in str(func) and tuple(args[0].shape) == target:
                clamps += 1
            return func(*args, **(kwargs or {}))

    with Clamps():
        explainer.attribute(clips, (3, 1))
    assert clamps <= 1


# Negative controls


class Twice(ExcitationBackprop):
    """Runs the whole of both passes for the contrast."""

    def attribute(self, inputs, target=None, **settings):
        super().attribute(inputs, target)
        return super().attribute(inputs, target, **settings)


def test_two_passes_are_noticed():
    model = small_cnn()
    calls, runs = count(Twice(model), images(), 1)
    assert set(runs.values()) == {2}
    assert calls.backward[weights(model)[1]] == 2


def test_gradients_of_weights_would_be_noticed():
    model, x = small_cnn(), images().requires_grad_()
    with Calls() as calls:
        model(x)[:, 1].sum().backward()
    assert calls.with_weight_gradient == 2
