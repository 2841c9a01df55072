"""What Excitation Backprop must equal where other methods coincide with it; all of them written out here."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from dense_reference import dense, eb, numbers, randomize
from torch import Tensor, nn
from torchvision.models import resnet18

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop

C, H, W, N_CLASSES = 2, 5, 4, 3


def cnn(bias: bool = True, seed: int = 0) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(C, 3, 3, padding=1, stride=(2, 1), bias=bias),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2, bias=bias),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 2 * 3, 5, bias=bias),
        nn.ReLU(),
        nn.Linear(5, N_CLASSES, bias=bias),
    )
    return randomize(net, seed)


@torch.no_grad()
def alpha_1_beta_0(net: nn.Sequential, x: Tensor, target: int) -> Tensor:
    """Layer-wise relevance propagation of one example with alpha 1, beta 0, unit by unit.

    R_i = sum_j (a_i w_ij)^+ / sum_k (a_k w_kj)^+ R_j, starting with the score (Bach et al. 2015, eq. 60).
    """
    activations, layers = [x], []
    for layer in net:
        activations.append(layer(activations[-1]).detach())
        layers.append(layer)
    relevance = torch.zeros_like(activations[-1]).reshape(-1)
    relevance[target] = activations[-1][0, target]
    for layer, a in zip(reversed(layers), reversed(activations[:-1]), strict=True):
        if isinstance(layer, nn.ReLU | nn.Flatten):
            continue
        (weight,) = dense(layer, a)
        a = a.reshape(-1)
        below = torch.zeros_like(a)
        for j in range(len(relevance)):
            shares = [max(float(a[i] * weight[j, i]), 0.0) for i in range(len(a))]
            if sum(shares) > 0:
                below += torch.tensor(shares, dtype=torch.float64) / sum(shares) * relevance[j]
        relevance = below
    return relevance.reshape(x.shape)


def case(seed: int, bias: bool = True, signed: bool = False) -> tuple[nn.Sequential, Tensor, int]:
    """A network, an input and a target whose score is above zero, since relevance starts with the score."""
    for attempt in range(20 * seed, 20 * seed + 20):
        net, x = cnn(bias, attempt), numbers(1, C, H, W, signed=signed, seed=attempt)
        if net(x).max() > 0.1:
            return net, x, int(net(x).argmax())
    raise AssertionError("no such network among these seeds")


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_on_non_negative_activations_it_is_alpha_1_beta_0_relevance_over_the_score(seed, bias, negative):
    net, x, target = case(seed, bias)
    relevance = alpha_1_beta_0(net, x, target)
    found = eb(net, x, target, negative)
    assert found.sum() > 0.1
    torch.testing.assert_close(found, relevance / net(x)[0, target].detach(), rtol=1e-9, atol=1e-12)


def test_on_signed_inputs_alpha_1_beta_0_is_the_same_contest_and_clamp_is_not():
    """(a w)^+ admits a negative child with a negative weight, which "clamp" gives nothing."""
    net, x, target = case(3, signed=True)
    relevance = alpha_1_beta_0(net, x, target) / net(x)[0, target].detach()
    torch.testing.assert_close(eb(net, x, target), relevance, rtol=1e-9, atol=1e-12)
    assert (eb(net, x, target, "clamp") - relevance).abs().max() > 1e-2


class Positive(nn.Module):
    """A bias-free residual network whose weights are all positive."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(C, 3, 2, bias=False), nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.pool, self.mix = nn.MaxPool2d((2, 1)), nn.Conv2d(6, 2, 1, groups=2, bias=False)
        self.recur = nn.Linear(2, 2, bias=False)
        self.head = nn.Linear(2 * 2 * 3, N_CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x).relu()
        a = self.pool(a + F.leaky_relu(self.branch(a)))
        a = self.mix(torch.cat([a, F.avg_pool2d(a, 3, 1, 1, count_include_pad=False)], 1)).relu()
        for _ in range(3):  # a module that is called several times
            a = self.recur(a.movedim(1, -1)).movedim(-1, 1) + a
        return self.head(a.flatten(1))


def gradient_times_input(net: nn.Module, x: Tensor, target: int) -> Tensor:
    """Divided by the score, which it sums to where there are no biases (Euler)."""
    leaf = x.clone().requires_grad_()
    score = net(leaf)[:, target]
    (gradient,) = torch.autograd.grad(score.sum(), leaf)
    return gradient * x / score.detach().view(-1, 1, 1, 1)


@pytest.mark.parametrize("negative", ["support", "clamp"])
def test_on_a_positive_network_without_biases_it_is_gradient_times_input_normalised(negative):
    net, x = randomize(Positive(), 3), numbers(2, C, H, W, signed=False)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    expected = gradient_times_input(net, x, 1)
    torch.testing.assert_close(eb(net, x, negative=negative), expected, rtol=1e-9, atol=1e-12)


def test_with_negative_weights_it_is_not_gradient_times_input():
    net, x, target = case(0, bias=False)
    expected = gradient_times_input(net, x, target)
    assert abs(float(expected.sum()) - 1) < 1e-9
    assert (eb(net, x, target) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("negative", ["support", "clamp"])
def test_a_cnn_is_the_fully_connected_network_of_its_dense_matrices(negative, contrastive):
    net, x = cnn(seed=1), numbers(2, C, H, W, seed=1)
    layers, a = [], x[:1]
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Conv2d):
                (matrix,) = dense(layer, a)
                full = nn.Linear(matrix.shape[1], matrix.shape[0]).double()
                full.weight.copy_(matrix)
                full.bias.copy_(layer(torch.zeros_like(a)).reshape(-1))
                layers.append(full)
            elif not isinstance(layer, nn.Flatten):
                layers.append(layer)
            a = layer(a)
    twin = nn.Sequential(nn.Flatten(), *layers).eval()
    torch.testing.assert_close(twin(x), net(x))
    found, expected = (
        ExcitationBackprop(model, negative).attribute(x, target=[0, 2], contrastive=contrastive)
        for model in (net, twin)
    )
    assert expected.abs().sum() > 0.5
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_contrast_of_a_resnet_is_the_difference_of_two_independent_runs():
    """At the classifier's input, and handed on from there; the second run explains a negated copy."""
    torch.manual_seed(0)
    net = resnet18(num_classes=7).double().eval()
    dual = copy.deepcopy(net)
    with torch.no_grad():
        dual.fc.weight.neg_()
    x, maps = numbers(2, 3, 40, 33), []
    for model in (net, dual):
        at_classifier = LayerExcitationBackprop(model, "avgpool").attribute(x, target=[1, 5])
        total = at_classifier.sum((1, 2, 3), keepdim=True)
        assert (total > 0.99).all()
        maps.append(ExcitationBackprop(model).attribute(x, target=[1, 5]) / total)
    found = ExcitationBackprop(net).attribute(x, target=[1, 5], contrastive=True)
    assert found.abs().sum() > 1e-3  # untrained layers spread mass evenly, so the two maps are much alike
    torch.testing.assert_close(found, maps[0] - maps[1], rtol=1e-6, atol=1e-12)
