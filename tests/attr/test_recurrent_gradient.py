"""BP-R: the gradient against finite differences and backpropagation through time by hand."""

import pytest
import torch
from attr_state import differences, snapshot
from attr_toys import toy_clips, toy_cnn_lstm
from captum.attr import NoiseTunnel, Saliency
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from captum_ext.attr import RecurrentGradient

N, T, K = 3, 4, 3


class Recurrent(nn.Module):
    """Frames (N, 2, T, 3, 5), flattened, through any recurrent layer; scores (N, T, K)."""

    def __init__(self, layer):
        super().__init__()
        self.rnn, self.head = layer, nn.Linear(4 * (2 if layer.bidirectional else 1), K)

    def forward(self, clips, factor=1.0):
        return self.head(self.rnn((clips * factor).transpose(1, 2).flatten(2))[0])


def recurrent(kind=nn.LSTM, device="cpu", **settings):
    torch.manual_seed(0)
    return Recurrent(kind(30, 4, batch_first=True, **settings)).double().eval().to(device)


def clips(n=N):
    return torch.randn(n, 2, T, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_it_is_the_limit_of_finite_differences(kind):
    model, x = recurrent(kind), clips(1)
    found = RecurrentGradient(model).attribute(x, (2, 1))
    step = 1e-5
    expected = torch.zeros_like(x)
    for index in torch.cartesian_prod(*map(torch.arange, x.shape)).tolist():
        moved = torch.zeros_like(x)
        moved[tuple(index)] = step
        with torch.no_grad():
            expected[tuple(index)] = (model(x + moved) - model(x - moved))[0, 2, 1] / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def test_it_is_backpropagation_through_time():
    # h_t = tanh(W x_t + U h_{t-1} + b), y = v h_s:  dy/dx_t = W' D_t U' D_{t+1} ... U' D_s v
    model, x = recurrent(nn.RNN), clips(1)
    w, u = model.rnn.weight_ih_l0.detach(), model.rnn.weight_hh_l0.detach()
    hidden = model.rnn(x.transpose(1, 2).flatten(2))[0][0].detach()
    step, k = 2, 1
    signal, expected = model.head.weight[k].detach(), torch.zeros(T, 30, dtype=torch.float64)
    for t in range(step, -1, -1):
        signal = (1 - hidden[t] ** 2) * signal
        expected[t] = w.T @ signal
        signal = u.T @ signal
    found = RecurrentGradient(model).attribute(x, (step, k))
    torch.testing.assert_close(found[0].transpose(0, 1).flatten(1), expected)


@pytest.mark.parametrize(
    "target",
    [(2, 1), [(0, 1), (3, 2), (1, 0)], [(2, 1)] * N],
)
def test_it_equals_captums_saliency(target):
    model, x = toy_cnn_lstm(), toy_clips(N, T)
    expected = Saliency(model).attribute(x.clone().requires_grad_(), target, abs=False)
    torch.testing.assert_close(RecurrentGradient(model).attribute(x, target), expected)


def test_the_map_over_channels_is_the_largest_magnitude_in_either_layout():
    x = toy_clips(N, T)
    found = RecurrentGradient(toy_cnn_lstm()).attribute(x, (3, 1), max_channels=True)
    gradient = RecurrentGradient(toy_cnn_lstm()).attribute(x, (3, 1))
    expected = torch.stack([gradient[:, c].abs() for c in range(3)]).max(0).values
    assert torch.equal(found, expected[:, None])
    swapped = RecurrentGradient(toy_cnn_lstm(layout="NTCHW"), layout="NTCHW")
    assert torch.equal(swapped.attribute(x.transpose(1, 2), (3, 1)), gradient.transpose(1, 2))
    assert torch.equal(swapped.attribute(x.transpose(1, 2), (3, 1), max_channels=True), found)


@pytest.mark.parametrize("form", [1, (1,), torch.tensor(1), [1] * N, torch.tensor([1] * N), [(1,)] * N])
def test_every_form_of_target(form):
    gradient = RecurrentGradient(toy_cnn_lstm(output="average"))
    x = toy_clips(N, T)
    assert torch.equal(gradient.attribute(x, form), gradient.attribute(x, 1))


def test_tuples_extra_arguments_and_examples_alone():
    gradient, x = RecurrentGradient(recurrent()), clips()
    factor = torch.linspace(1, 2, N, dtype=torch.float64).view(N, 1, 1, 1, 1)
    found = gradient.attribute((x,), [(0, 1), (2, 0), (3, 2)], factor)
    assert isinstance(found, tuple)
    for i, target in enumerate([(0, 1), (2, 0), (3, 2)]):
        alone = gradient.attribute(x[i : i + 1], target, float(factor[i]))
        torch.testing.assert_close(found[0][i : i + 1], alone)


def test_captums_tools_accept_it():
    model, x, targets = recurrent(), clips(), [(0, 1), (2, 0), (3, 2)]
    gradient = RecurrentGradient(model)
    assert gradient.get_name() == "Recurrent Gradient"
    assert not gradient.has_convergence_delta()
    assert not gradient.multiplies_by_inputs
    expected = gradient.attribute(x, targets)
    found = NoiseTunnel(gradient).attribute(x, nt_samples=2, stdevs=0.0, target=targets)
    torch.testing.assert_close(found, expected)
    assert infidelity(model, lambda v: (v * 0.1, v * 0.9), x, expected, target=targets).isfinite().all()
    assert sensitivity_max(gradient.attribute, x, target=(3, 1), n_perturb_samples=2).isfinite().all()
    with pytest.raises(NotImplementedError, match="Recurrent Gradient"):
        gradient.attribute_future()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_of_the_users_changes(mode):
    model, x = recurrent(), clips().requires_grad_()
    x.grad = torch.ones_like(x)
    model.head.weight.requires_grad_(False)
    expected = RecurrentGradient(model).attribute(x, (2, 1))
    with mode():
        before = snapshot(model, x)
        found = RecurrentGradient(model).attribute(x, (2, 1))
        assert differences(before, snapshot(model, x)) == []
        with pytest.raises(IndexError):
            RecurrentGradient(model).attribute(x, (2, K))
        assert differences(before, snapshot(model, x)) == []
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert not found.is_inference()
    assert found.is_contiguous()


def test_inputs_made_in_inference_mode():
    with torch.inference_mode():
        x = clips()
    assert torch.equal(
        RecurrentGradient(recurrent()).attribute(x, (2, 1)),
        RecurrentGradient(recurrent()).attribute(clips(), (2, 1)),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_map_has_the_dtype_of_the_clip(dtype):
    found = RecurrentGradient(recurrent().to(dtype)).attribute(clips().to(dtype), (2, 1))
    expected = RecurrentGradient(recurrent()).attribute(clips(), (2, 1))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0.1, atol=0.01)


# cuDNN


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("enabled", [True, False])
def test_only_recurrent_layers_run_without_cudnn_and_the_flag_comes_back(monkeypatch, kind, fails, enabled):
    seen = {}

    class Watched(Recurrent):
        def forward(self, clips):
            seen["before"] = torch.backends.cudnn.enabled
            try:
                return super().forward(clips if not fails else clips[..., :-1])
            finally:
                seen["after"] = torch.backends.cudnn.enabled

    class Spy(torch.overrides.TorchFunctionMode):
        """Below the mode of the class, so that it sees what reaches torch."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.lstm, torch.gru, torch.rnn_tanh):
                seen["inside"] = torch.backends.cudnn.enabled
            return func(*args, **(kwargs or {}))

    model = Watched(kind(30, 4, batch_first=True)).double().eval()
    monkeypatch.setattr(torch.backends.cudnn, "enabled", enabled)
    with Spy():
        if fails:
            with pytest.raises(RuntimeError):
                RecurrentGradient(model).attribute(clips(), (2, 1))
        else:
            RecurrentGradient(model).attribute(clips(), (2, 1))
            assert seen["inside"] is False
    assert seen["before"] is enabled
    assert seen["after"] is enabled
    assert torch.backends.cudnn.enabled is enabled


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: cuDNN refuses what is tested here")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "deep"])
def test_recurrent_layers_on_a_gpu_in_evaluation_mode(kind, settings):
    model, x = recurrent(kind, "cuda", **settings), clips().cuda()
    with pytest.raises(RuntimeError, match="cudnn RNN backward"):
        Saliency(model).attribute(x.clone(), (2, 1))
    found = RecurrentGradient(model).attribute(x, (2, 1))
    assert found.device == x.device
    assert torch.backends.cudnn.enabled
    torch.testing.assert_close(
        found.cpu(), RecurrentGradient(recurrent(kind, **settings)).attribute(clips(), (2, 1))
    )


# What it refuses


def test_wrong_arguments_are_refused():
    gradient = RecurrentGradient(recurrent())
    with pytest.raises(ValueError, match="5 axes N, C, T, H, W"):
        gradient.attribute(clips()[0], (2, 1))
    with pytest.raises(ValueError, match="frames and channels look swapped"):
        gradient.attribute(torch.rand(2, 16, 3, 4, 5), (2, 1))
    with pytest.raises(ValueError, match="input 0 contains NaN"):
        gradient.attribute(clips() * float("nan"), (2, 1))
    with pytest.raises(ValueError, match="holds no example"):
        gradient.attribute(clips()[:0], (2, 1))
    with pytest.raises(AssertionError, match="Target not provided"):
        gradient.attribute(clips(), 1)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        RecurrentGradient(lambda x: x)
    with pytest.raises(ValueError, match="layout must be"):
        RecurrentGradient(recurrent(), layout="NHWTC")


def test_a_score_that_does_not_depend_on_the_clip_is_refused():
    model = recurrent()
    model.rnn.register_forward_hook(lambda _, __, output: (output[0].detach(), output[1]))
    model.head.requires_grad_(False)
    with pytest.raises(ValueError, match="does not depend on its inputs"):
        RecurrentGradient(model).attribute(clips(), (2, 1))
    model.head.requires_grad_(True)
    with pytest.raises(ValueError, match="no gradient reaches the clips"):
        RecurrentGradient(model).attribute(clips(), (2, 1))


def test_a_model_that_draws_random_numbers_is_refused():
    model = nn.Sequential(recurrent(), nn.Dropout()).train()
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="draws random numbers"):
        RecurrentGradient(model).attribute(clips(), (2, 1))
    assert torch.equal(torch.get_rng_state(), before)
