"""Mass is conserved on real architectures with random weights and signed inputs; the forward is untouched."""

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import video

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.models import VGGLSTM, FrameCNN, FrameCNNLSTM, ReLULSTM

K = 5


def signed(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def he(model):
    """Random weights that keep activations alive, quicker than torchvision's own initialisation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                bound = (6 / parameter[0].numel()) ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
            elif "bn" not in name:
                parameter.uniform_(-0.05, 0.05, generator=generator)
    return model.eval()


def on_meta(build, *args, **kwargs):
    """Build without torchvision's slow initialisation, then draw our own weights."""
    with torch.device("meta"):
        model = build(*args, **kwargs)
    model = model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.reset_running_stats()
            module.reset_parameters()
    return he(model)


@pytest.fixture(scope="module")
def vgg_lstm():
    return on_meta(VGGLSTM, K, hidden_size=12)


CASES = {
    "vgg16": (lambda: on_meta(models.vgg16, num_classes=K), (1, 3, 32, 32), "features.28"),
    "resnet18": (lambda: on_meta(models.resnet18, num_classes=K), (2, 3, 64, 64), "layer3"),
    "r3d_18": (lambda: on_meta(video.r3d_18, num_classes=K), (1, 3, 4, 56, 56), "layer2"),
    "r2plus1d_18": (lambda: on_meta(video.r2plus1d_18, num_classes=K), (1, 3, 4, 40, 40), "layer2"),
    "mc3_18": (lambda: on_meta(video.mc3_18, num_classes=K), (1, 3, 4, 56, 56), "layer2"),
    "FrameCNN": (lambda: he(FrameCNN(K)), (2, 3, 64, 64), "features.3"),
}


def check_mass(found, delta, dtype_tolerance=1e-4):
    total = found.flatten(1).sum(1)
    assert (total + delta - 1).abs().max() <= dtype_tolerance
    assert total.min() >= 0.999
    assert found.min() >= 0


def check_contrast(found, delta):
    total, strength = found.flatten(1).sum(1), found.abs().flatten(1).sum(1)
    assert total.abs().max() <= 1e-4
    # Cancellation must be exact beside what is left, and something must be left.
    assert (total.abs() <= 1e-2 * strength).all()
    assert (total + delta).abs().max() <= 1e-6
    assert strength.min() > 1e-5


@pytest.mark.parametrize("name", CASES)
def test_mass_is_conserved_down_to_the_input(name):
    build, shape, layer = CASES[name]
    torch.manual_seed(0)
    model, x = build(), signed(*shape)
    seen = []
    handle = model.register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        expected = model(x)
    check_mass(*ExcitationBackprop(model).attribute(x, 1, return_convergence_delta=True))
    method = LayerExcitationBackprop(model, layer)
    found = method.attribute(x, 1, contrastive=True, return_convergence_delta=True)
    handle.remove()
    check_contrast(*found)
    # The forward pass is bit for bit that of the plain model.
    assert len(seen) == 3
    assert all(torch.equal(output, expected) for output in seen)


def test_batch_norm_with_negative_gamma_and_shifted_statistics_conserves_mass():
    torch.manual_seed(0)
    model = on_meta(models.resnet18, num_classes=K)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.3)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    found, delta = ExcitationBackprop(model).attribute(signed(1, 3, 64, 64), 1, return_convergence_delta=True)
    total = found.sum((1, 2, 3))
    assert (total + delta - 1).abs().max() <= 1e-4
    assert 0.9 < total <= 1 + 1e-5


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_vgg_lstm_conserves_mass_and_its_contrast_sums_to_zero(vgg_lstm, activation):
    if activation == "relu":
        vgg_lstm.lstm = ReLULSTM(4096, 12)
        nn.init.uniform_(vgg_lstm.lstm.weight_hh, -0.3, 0.3)
        vgg_lstm.lstm.eval()
    clips = signed(1, 3, 3, 64, 64)
    vgg_lstm.output = "average"
    with torch.no_grad():
        expected = vgg_lstm(clips)
    seen = []
    handle = vgg_lstm.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    # An earlier layer of the CNN, so that every convolution block takes part.
    method = RecurrentExcitationBackprop(vgg_lstm, "features.4")
    found, delta = method.attribute(clips, 1, return_convergence_delta=True)
    handle.remove()
    assert torch.equal(seen[0], expected)
    assert found.shape == (1, 64, 3, 32, 32)
    check_mass(found, delta)
    vgg_lstm.output = "steps"
    method = RecurrentExcitationBackprop(vgg_lstm, "features.29")
    found, delta = method.attribute(clips, (2, 1), contrastive=True, return_convergence_delta=True)
    assert found.shape == (1, 512, 3, 4, 4)
    check_contrast(found, delta)
    scores = found.sum((1, 3, 4))
    assert scores.min() < 0 < scores.max()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_small_reference_model_conserves_mass(activation, seed):
    torch.manual_seed(seed)
    model = FrameCNNLSTM(K, activation=activation).eval()
    clips = signed(2, 3, 4, 64, 64, seed=seed)
    for layer in ("features", "features.1", "embedding"):
        method = RecurrentExcitationBackprop(model, layer)
        check_mass(*method.attribute(clips, [0, 3], return_convergence_delta=True))
        check_contrast(*method.attribute(clips, [0, 3], contrastive=True, return_convergence_delta=True))
    found, delta = ExcitationBackprop(model).attribute(clips, [0, 3], return_convergence_delta=True)
    check_mass(found, delta)


def test_contrast_sums_to_zero_at_every_contrast_layer():
    torch.manual_seed(0)
    model, x = he(FrameCNN(K)), signed(2, 3, 64, 64)
    for layer in ("features.1", "features.3", "features.4", "embedding", "embedding.1"):
        method = LayerExcitationBackprop(model, layer, contrast_layer=layer)
        check_contrast(*method.attribute(x, 1, contrastive=True, return_convergence_delta=True))


# Negative controls


def test_lost_mass_and_doubled_mass_are_rejected():
    torch.manual_seed(0)
    model, x = he(FrameCNN(K)), signed(1, 3, 64, 64)
    found, delta = ExcitationBackprop(model).attribute(x, 1, return_convergence_delta=True)
    check_mass(found, delta)
    for broken in ((2 * found, delta), (0.99 * found, delta), (0.99 * found, delta + 0.01)):
        with pytest.raises(AssertionError):
            check_mass(*broken)
    plain = found
    with pytest.raises(AssertionError):
        check_contrast(plain, delta)
    with pytest.raises(AssertionError):
        check_contrast(torch.zeros_like(plain), torch.zeros(1))


def test_gradient_times_input_is_rejected():
    torch.manual_seed(0)
    model, x = he(FrameCNN(K)), signed(1, 3, 64, 64).requires_grad_()
    score = model(x)[:, 1]
    (gradient,) = torch.autograd.grad(score.sum(), x)
    with pytest.raises(AssertionError):
        check_mass((x * gradient).detach() / score.detach().view(-1, 1, 1, 1), torch.zeros(1))
