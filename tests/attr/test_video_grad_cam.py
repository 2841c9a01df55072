"""Grad-CAM for clips: the formula written out, Captum's own where it applies, and the axis of time."""

import pytest
import torch
from attr_state import differences, snapshot
from attr_toys import ToyCNN, toy_clips, toy_cnn_lstm
from captum.attr import LayerGradCam, NoiseTunnel
from captum.metrics import sensitivity_max
from torch import nn

from captum_ext.attr import VideoGradCam

N, T, K = 3, 4, 3


class Conv3dNet(nn.Module):
    """A 3-D CNN: (N, 2, T, H, W) to a layer (N, 5, T', h, w) and scores (N, K)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.relu1 = nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(inplace=True)
        self.conv2, self.relu2 = nn.Conv3d(4, 5, 3, stride=2, padding=1), nn.ReLU(inplace=True)
        self.fc = nn.Linear(5, K)

    def forward(self, clips, factor=1.0):
        x = self.relu2(self.conv2(self.relu1(self.conv1(clips * factor))))
        return self.fc(x.square().mean((2, 3, 4)))


def conv3d_net():
    return Conv3dNet().double().eval()


def clips_3d(n=N):
    return torch.randn(n, 2, 5, 6, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def textbook(activations, gradient, relu=False):
    """Eqs. 1 and 2 of the paper for one row, loops over channels: (C, *) to (*)."""
    found = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for a, g in zip(activations, gradient, strict=True):
        found += g.sum() / g.numel() * a
    return found.clamp(min=0) if relu else found


@pytest.mark.parametrize("relu", [False, True])
def test_a_3d_cnn_has_the_map_of_the_formula_at_its_own_length(relu):
    model, x, targets = conv3d_net(), clips_3d(), [0, 2, 1]
    found = VideoGradCam(model, "conv2").attribute(x, targets, relu_attributions=relu)
    assert found.shape == (N, 1, 3, 3, 4)
    for i, k in enumerate(targets):
        a = model.conv2(model.relu1(model.conv1(x[i : i + 1]))).detach().requires_grad_()
        y = model.fc(a.relu().square().mean((2, 3, 4)))[0, k]
        (gradient,) = torch.autograd.grad(y, a)
        torch.testing.assert_close(found[i, 0], textbook(a[0].detach(), gradient[0], relu))


def frame_gradients(model, clip, target):
    """Activations and gradients (T, C, h, w) of one clip, from a forward pass of plain torch calls."""
    frames = clip.transpose(0, 1)
    a = model.cnn.relu1(model.cnn.conv1(frames)).detach().requires_grad_()
    rest = nn.Sequential(
        model.cnn.pool, model.cnn.conv2, model.cnn.relu2, model.cnn.flatten, model.cnn.fc, model.cnn.out
    )
    features = rest(a)[None]
    hidden = getattr(model, f"run_{model.recurrence}")(features)
    scores = model.classifier(hidden)[0]
    (gradient,) = torch.autograd.grad(scores[target], a)
    return a.detach(), gradient


@pytest.mark.parametrize("folding", ["NT", "TN", "frames"])
@pytest.mark.parametrize("recurrence", ["batch_first", "cell"])
def test_a_cnn_on_frames_has_weights_per_frame_and_gets_its_time_axis_back(folding, recurrence):
    model, x = toy_cnn_lstm(folding=folding, recurrence=recurrence), toy_clips(N, T)
    grad_cam = VideoGradCam(model, "cnn.relu1", frame_order="TN" if folding == "TN" else "NT")
    targets = [(3, 1), (2, 0), (0, 2)]
    found = grad_cam.attribute(x, targets)
    assert found.shape == (N, 1, T, 6, 6)
    for i, target in enumerate(targets):
        a, gradient = frame_gradients(model, x[i], target)
        for t in range(T):
            torch.testing.assert_close(found[i, 0, t], textbook(a[t], gradient[t]))


def test_frames_after_the_step_have_no_map():
    found = VideoGradCam(toy_cnn_lstm(), "cnn.relu1").attribute(toy_clips(N, T), (1, 0))
    assert found[:, :, :2].flatten(1).any(1).all()
    assert not found[:, :, 2:].any()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("to_input", [False, True])
def test_it_equals_captums_where_captum_applies(relu, to_input):
    options = {"relu_attributions": relu, "attribute_to_layer_input": to_input}
    model, x = conv3d_net(), clips_3d()
    expected = LayerGradCam(model, model.conv2).attribute(x, [0, 1, 2], **options)
    found = VideoGradCam(model, "conv2").attribute(x, [0, 1, 2], **options)
    torch.testing.assert_close(found, expected.detach())

    model, x = toy_cnn_lstm(), toy_clips(N, T)
    rows = LayerGradCam(model, model.cnn.conv2).attribute(x, (3, 1), **options)
    found = VideoGradCam(model, "cnn.conv2").attribute(x, (3, 1), **options)
    torch.testing.assert_close(found, rows.detach().view(N, T, 1, *rows.shape[2:]).transpose(1, 2))


def test_captum_itself_keeps_only_the_last_of_several_calls():
    # Why the class does not call LayerGradCam.
    model, x = toy_cnn_lstm(folding="frames"), toy_clips(N, T)
    last = LayerGradCam(model, model.cnn.conv2).attribute(x, (3, 1))
    found = VideoGradCam(model, "cnn.conv2").attribute(x, (3, 1))
    torch.testing.assert_close(found[:, :, -1], last.detach())


@pytest.mark.parametrize("folding", ["NT", "TN"])
@pytest.mark.parametrize("target", [(0, 1), (3, 1), (2, 0)])
def test_a_wrong_order_of_frames_is_refused(folding, target):
    wrong = "TN" if folding == "NT" else "NT"
    grad_cam = VideoGradCam(toy_cnn_lstm(folding=folding), "cnn.relu1", frame_order=wrong)
    with pytest.raises(ValueError, match=f"pass frame_order='{folding}'"):
        grad_cam.attribute(toy_clips(N, T), target)


def test_the_order_is_checked_behind_a_softmax_too():
    model = toy_cnn_lstm(folding="TN").float()
    model.classifier = nn.Sequential(model.classifier, nn.Softmax(-1))
    with pytest.raises(ValueError, match="pass frame_order='TN'"):
        VideoGradCam(model, "cnn.relu1").attribute(toy_clips(N, T).float(), (2, 1))
    found = VideoGradCam(model, "cnn.relu1", frame_order="TN").attribute(toy_clips(N, T).float(), (2, 1))
    assert found.shape == (N, 1, T, 6, 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_order_of_many_examples_is_read_right_in_low_precision(dtype):
    grad_cam = VideoGradCam(toy_cnn_lstm().to(dtype), "cnn.relu1")
    found = grad_cam.attribute(toy_clips(40, 3).to(dtype), (2, 1))
    assert found.shape == (40, 1, 3, 6, 6)
    assert found.dtype == dtype


def test_clips_of_one_frame_and_batches_of_one_have_a_time_axis():
    grad_cam = VideoGradCam(toy_cnn_lstm(), "cnn.relu1")
    assert grad_cam.attribute(toy_clips(3, 1), (0, 1)).shape == (3, 1, 1, 6, 6)
    assert grad_cam.attribute(toy_clips(1, 4), (3, 1)).shape == (1, 1, 4, 6, 6)


def test_either_layout():
    x = toy_clips(N, T)
    expected = VideoGradCam(toy_cnn_lstm(layout="NTCHW"), "cnn.relu1", "NTCHW").attribute(
        x.transpose(1, 2), (3, 1)
    )
    found = VideoGradCam(toy_cnn_lstm(layout="NCTHW"), "cnn.relu1", "NCTHW").attribute(x, (3, 1))
    assert torch.equal(found, expected)


def test_tuples_extra_arguments_and_examples_alone():
    model, x = conv3d_net(), clips_3d()
    grad_cam = VideoGradCam(model, model.relu2)
    factor = torch.linspace(1, 2, N, dtype=torch.float64).view(N, 1, 1, 1, 1)
    found = grad_cam.attribute((x,), [0, 1, 2], factor)
    assert isinstance(found, tuple)
    for i in range(N):
        torch.testing.assert_close(found[0][i : i + 1], grad_cam.attribute(x[i : i + 1] * factor[i], i))


@pytest.mark.parametrize("target", [1, (1,), torch.tensor(1), [1] * N, torch.tensor([1] * N), [(1,)] * N])
def test_every_form_of_target(target):
    grad_cam = VideoGradCam(conv3d_net(), "conv2")
    assert torch.equal(grad_cam.attribute(clips_3d(), target), grad_cam.attribute(clips_3d(), 1))


def test_captums_tools_accept_it():
    grad_cam, x = VideoGradCam(toy_cnn_lstm(), "cnn.relu1"), toy_clips(N, T)
    assert grad_cam.get_name() == "Video Grad Cam"
    assert not grad_cam.has_convergence_delta()
    assert not grad_cam.multiplies_by_inputs
    targets = [(3, 1), (2, 0), (1, 2)]
    expected = grad_cam.attribute(x, targets)
    found = NoiseTunnel(grad_cam).attribute(x, nt_samples=2, stdevs=0.0, target=targets)
    torch.testing.assert_close(found, expected)
    assert sensitivity_max(grad_cam.attribute, x, target=(3, 1), n_perturb_samples=2).isfinite().all()
    with pytest.raises(NotImplementedError, match="Video Grad Cam"):
        grad_cam.attribute_future()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_of_the_users_changes(mode):
    model, x = conv3d_net(), clips_3d().requires_grad_()
    model.fc.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(K, dtype=torch.float64)
    expected = VideoGradCam(model, "conv2").attribute(x, 1)
    with mode():
        before = snapshot(model, x)
        found = VideoGradCam(model, "conv2").attribute(x, 1)
        assert differences(before, snapshot(model, x)) == []
        with pytest.raises(IndexError):
            VideoGradCam(model, "conv2").attribute(x, K)
        assert differences(before, snapshot(model, x)) == []
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert found.is_contiguous()


@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_nothing_changes_when_the_model_fails(when, failure):
    class Fault(nn.Module):
        def forward(self, x):
            if when == "forward":
                raise failure
            x.register_hook(self.fail)
            return x

        def fail(self, _):
            raise failure

    model, x = conv3d_net(), clips_3d()
    model.relu2 = nn.Sequential(model.relu2, Fault())
    before = snapshot(model, x)
    with pytest.raises(failure):
        VideoGradCam(model, "conv2").attribute(x, 1)
    assert differences(before, snapshot(model, x)) == []


# What it refuses


def test_a_layer_without_space_or_time_is_refused():
    with pytest.raises(ValueError, match=r"ran 1 times with the shape \(12, 6\) on 3 clips of 4 frames"):
        VideoGradCam(toy_cnn_lstm(), "cnn.fc").attribute(toy_clips(N, T), (3, 1))

    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, K)

        def forward(self, x):
            return self.fc(self.conv(x.mean(2)).mean((2, 3)))

    with pytest.raises(ValueError, match=r"once per frame \(N, C, h, w\)"):
        VideoGradCam(Fused().double(), "conv").attribute(toy_clips(N, T), 1)


def test_a_layer_that_runs_twice_per_frame_is_refused():
    class Twice(ToyCNN):
        def forward(self, x):
            return super().forward(self.relu1(x))

    model = toy_cnn_lstm(folding="frames")
    model.cnn = Twice().double()
    with pytest.raises(ValueError, match="ran 8 times"):
        VideoGradCam(model, "cnn.relu1").attribute(toy_clips(N, T), (3, 1))


def test_a_layer_with_time_in_front_of_channels_is_refused():
    class TimeDistributed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 9, 3)

        def forward(self, x):
            return self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.frames, self.fc = TimeDistributed(), nn.Linear(9, K)

        def forward(self, x):
            return self.fc(self.frames(x.transpose(1, 2)).mean((1, 3, 4)))

    model = Net().double()
    with pytest.raises(ValueError, match="look like time and channels"):
        VideoGradCam(model, "frames").attribute(toy_clips(N, T), 1)
    assert VideoGradCam(model, "frames.conv").attribute(toy_clips(N, T), 1).shape == (N, 1, T, 4, 4)


def test_a_layer_the_score_does_not_depend_on_is_refused():
    model = conv3d_net()
    model.forward = lambda x: type(model).forward(model, x) + 0 * model.aside(x).detach().sum()
    model.aside = nn.Conv3d(2, 2, 1).double()
    with pytest.raises(ValueError, match="no gradient reaches the layer"):
        VideoGradCam(model, "aside").attribute(clips_3d(), 1)


def test_other_wrong_arguments_are_refused():
    grad_cam = VideoGradCam(conv3d_net(), "conv2")
    with pytest.raises(ValueError, match="5 axes N, C, T, H, W"):
        grad_cam.attribute(clips_3d()[0], 1)
    with pytest.raises(ValueError, match="contains NaN"):
        grad_cam.attribute(clips_3d() * float("nan"), 1)
    with pytest.raises(AssertionError, match="Target not provided"):
        grad_cam.attribute(clips_3d())
    with pytest.raises(ValueError, match="frame_order must be"):
        VideoGradCam(conv3d_net(), "conv2", frame_order="T")
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        VideoGradCam(lambda x: x, "conv2")
