"""Saliency Tubes: the formula written out, the form of model it needs, and Captum's contract."""

import pytest
import torch
from attr_state import differences, snapshot
from captum.attr import LayerAttribution, NoiseTunnel
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from captum_ext.attr import SaliencyTubes, VideoGradCam

N, C, T, H, W, K = 3, 2, 5, 6, 7, 4


class Tubes(nn.Module):
    """conv3d - batch norm - relu - pool - (dropout) - linear or 1x1x1 convolution."""

    def __init__(self, pool="average", classifier="linear", softmax=False):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(C, 6, 3, stride=2, padding=1)
        self.norm, self.relu = nn.BatchNorm3d(6), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool3d(1) if pool == "average" else nn.AdaptiveMaxPool3d(1)
        self.dropout = nn.Dropout()
        self.head = nn.Linear(6, K) if classifier == "linear" else nn.Conv3d(6, K, 1)
        self.softmax = softmax

    def forward(self, clips, shift=0.0, factor=1.0):
        x = self.dropout(self.pool(self.relu(self.norm(self.conv(clips * factor + shift)))))
        x = x.flatten(1) if isinstance(self.head, nn.Linear) else x
        scores = self.head(x).flatten(1)
        return scores.softmax(1) if self.softmax else scores


def make(**settings):
    return Tubes(**settings).double().eval()


def clips(n=N):
    return torch.randn(n, C, T, H, W, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def linear_weights(n_in, n_out):
    """Linear interpolation with half-pixel centres, one row of weights per output position."""
    rows = torch.zeros(n_out, n_in, dtype=torch.float64)
    for i in range(n_out):
        source = min(max((i + 0.5) * n_in / n_out - 0.5, 0.0), n_in - 1.0)
        low = int(source)
        high = min(low + 1, n_in - 1)
        rows[i, low] += 1 - (source - low)
        rows[i, high] += source - low
    return rows


def textbook(model, clip, k, threshold=-float("inf")):
    """One clip, loops over channels."""
    with torch.no_grad():
        activations = model.relu(model.norm(model.conv(clip[None])))[0]
        weights = model.head.weight.flatten(1)[k].tolist()
    tube = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for channel, weight in enumerate(weights):
        if weight > threshold:
            tube += weight * activations[channel]
    for axis, size in enumerate((T, H, W)):
        rows = linear_weights(tube.shape[axis], size)
        tube = torch.tensordot(rows, tube, dims=([1], [axis])).movedim(0, axis)
    return (tube - tube.min()) / (tube.max() - tube.min())


@pytest.mark.parametrize("threshold", [None, 0.0, -0.2])
@pytest.mark.parametrize("classifier", ["linear", "convolution"])
@pytest.mark.parametrize("pool", ["average", "max"])
def test_the_map_is_that_of_the_formula(pool, classifier, threshold):
    model, x = make(pool=pool, classifier=classifier), clips()
    found = SaliencyTubes(model, "relu").attribute(
        x, [1, 3, 0], threshold=threshold, return_input_shape=False
    )
    bound = -float("inf") if threshold is None else threshold
    expected = torch.stack([textbook(model, x[i], k, bound) for i, k in enumerate([1, 3, 0])])
    assert found.shape == (N, 1, T, H, W)
    torch.testing.assert_close(found[:, 0], expected)


def test_every_map_reaches_from_0_to_1():
    found = SaliencyTubes(make(), "relu").attribute(clips(), 2).flatten(1)
    assert found.amin(1).tolist() == [0.0] * N
    assert found.amax(1).tolist() == [1.0] * N


def test_a_constant_map_is_0():
    model = make()
    nn.init.zeros_(model.norm.weight)
    assert not SaliencyTubes(model, "relu").attribute(clips(), 1).any()


def test_softmax_scores_have_the_same_map():
    found = [SaliencyTubes(make(softmax=softmax), "relu").attribute(clips(), 1) for softmax in (True, False)]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "target", [2, (2,), torch.tensor(2), torch.tensor([2]), [2] * N, torch.tensor([2] * N), [(2,)] * N]
)
def test_every_form_of_target_selects_the_class(target):
    model, x = make(), clips()
    expected = torch.stack([textbook(model, clip, 2) for clip in x])
    found = SaliencyTubes(model, "relu").attribute(x, target, return_input_shape=False)
    torch.testing.assert_close(found[:, 0], expected)


def test_one_output_needs_no_target():
    model = make()
    model.head = nn.Linear(6, 1).double()
    tubes = SaliencyTubes(model, "relu")
    assert torch.equal(tubes.attribute(clips()), tubes.attribute(clips(), 0))


def test_the_map_has_the_shape_of_the_clip_in_either_layout():
    x = clips()
    found = SaliencyTubes(make(), "relu").attribute(x, 1)
    assert found.shape == x.shape
    assert found.is_contiguous()

    class TimeFirst(Tubes):
        def forward(self, frames):
            return super().forward(frames.transpose(1, 2))

    model = TimeFirst().double().eval()
    swapped = SaliencyTubes(model, "relu", layout="NTCHW").attribute(x.transpose(1, 2), 1)
    assert torch.equal(swapped, found.transpose(1, 2))
    alone = SaliencyTubes(model, "relu", layout="NTCHW").attribute(
        x.transpose(1, 2), 1, return_input_shape=False
    )
    assert torch.equal(alone, found[:, :1])


def test_tuples_and_extra_arguments_and_examples_alone():
    tubes, x = SaliencyTubes(make(), "relu"), clips()
    shift = torch.linspace(0, 1, N, dtype=torch.float64).view(N, 1, 1, 1, 1)
    found = tubes.attribute((x,), [0, 1, 2], (shift, 2.0))
    assert isinstance(found, tuple)
    assert len(found) == 1
    for i in range(N):
        alone = tubes.attribute(x[i : i + 1] * 2 + shift[i], i)
        torch.testing.assert_close(found[0][i : i + 1], alone)


def test_the_classifier_is_found_or_named():
    model = make()
    by_module = SaliencyTubes(model, model.relu, model.head)
    assert by_module.classifier is SaliencyTubes(model, "relu").classifier
    assert torch.equal(
        by_module.attribute(clips(), 1), SaliencyTubes(model, "relu", "head").attribute(clips(), 1)
    )


def test_a_classifier_at_every_position_whose_scores_are_averaged_is_accepted():
    class PoolLast(Tubes):
        def forward(self, x):
            return self.head(self.relu(self.conv(x))).mean((2, 3, 4))

    model = PoolLast(classifier="convolution").double().eval()
    found = SaliencyTubes(model, "relu").attribute(clips(), 1, return_input_shape=False)
    model.norm = nn.Identity()
    torch.testing.assert_close(found[:, 0], torch.stack([textbook(model, clip, 1) for clip in clips()]))


def test_behind_an_average_pool_it_is_grad_cam_up_to_scale():
    model, x = make(), clips()
    grad_cam = VideoGradCam(model, "relu").attribute(x, [0, 1, 2])
    enlarged = LayerAttribution.interpolate(grad_cam, (T, H, W), "trilinear")
    low, high = enlarged.amin((2, 3, 4), keepdim=True), enlarged.amax((2, 3, 4), keepdim=True)
    found = SaliencyTubes(model, "relu").attribute(x, [0, 1, 2], return_input_shape=False)
    torch.testing.assert_close(found, (enlarged - low) / (high - low))


def test_captums_tools_accept_it():
    model, x = make(), clips()
    tubes = SaliencyTubes(model, "relu")
    assert tubes.get_name() == "Saliency Tubes"
    assert not tubes.has_convergence_delta()
    assert not tubes.multiplies_by_inputs
    expected = tubes.attribute(x, [0, 1, 2])
    torch.testing.assert_close(
        NoiseTunnel(tubes).attribute(x, nt_samples=2, stdevs=0.0, target=[0, 1, 2]), expected
    )
    assert infidelity(model, lambda v: (v * 0.1, v * 0.9), x, expected, target=[0, 1, 2]).isfinite().all()
    assert sensitivity_max(tubes.attribute, x, target=1, n_perturb_samples=2).isfinite().all()
    with pytest.raises(NotImplementedError, match="Saliency Tubes"):
        tubes.attribute_future()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_of_the_users_changes(mode):
    model, x = make(), clips()
    with mode():
        before = snapshot(model, x)
        found = SaliencyTubes(model, "relu").attribute(x, 1)
        assert differences(before, snapshot(model, x)) == []
        with pytest.raises(IndexError):
            SaliencyTubes(model, "relu").attribute(x, K)
        assert differences(before, snapshot(model, x)) == []
    assert not found.requires_grad
    assert not found.is_inference()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_map_has_the_dtype_of_the_clip(dtype):
    model = make().to(dtype)
    found = SaliencyTubes(model, "relu").attribute(clips().to(dtype), 1)
    assert found.dtype == dtype
    assert found.float().sub(SaliencyTubes(make(), "relu").attribute(clips(), 1).float()).abs().max() < 0.1


# What it refuses


def refuse(match, model, layer="relu", x=None, target=1, error=ValueError, classifier=None, **settings):
    with pytest.raises(error, match=match):
        SaliencyTubes(model, layer, classifier).attribute(clips() if x is None else x, target, **settings)


def test_a_layer_with_something_between_it_and_the_pool_is_refused():
    refuse(r"neither the mean nor the maximum of the layer \(Conv3d\)", make(), "conv")


def test_a_layer_with_other_channels_is_refused():
    model = make()
    model.relu = nn.Sequential(nn.ReLU(), nn.Conv3d(6, 5, 1, padding=1), nn.Conv3d(5, 6, 1))
    model.double()
    refuse("has 5 channels, the classifier .Linear. takes 6", model, "relu.1")


def test_a_hidden_layer_in_front_of_the_classifier_is_refused():
    model = make()
    model.head = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, K)).double()
    model.forward = lambda x: model.head(model.pool(model.relu(model.conv(x))).flatten(1))
    refuse("something else lies between them", model)
    refuse("makes 6 scores", model, classifier="head.0", target=1)


def test_a_layer_on_frames_is_refused():
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(C, 6, 3), nn.Linear(6, K)

        def forward(self, x):
            found = self.conv(x.transpose(1, 2).flatten(0, 1)).mean((2, 3))
            return self.head(found.view(len(x), -1, 6).mean(1))

    refuse(r"layer \(Conv2d\) returns the shape \(15, 6, 4, 5\) for 3 clips", Frames().double(), "conv")


def test_a_model_without_a_classifier_is_refused():
    with pytest.raises(ValueError, match=r"no nn\.Linear and no 1x1x1 nn\.Conv3d"):
        SaliencyTubes(nn.Sequential(nn.Conv3d(C, 6, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten()), "0")
    with pytest.raises(ValueError, match="classifier is a ReLU"):
        SaliencyTubes(make(), "relu", "relu")


def test_other_wrong_arguments_are_refused():
    refuse("no weight of the target class is above threshold=9", make(), threshold=9.0)
    refuse("5 axes N, C, T, H, W", make(), x=clips()[0])
    refuse("one tensor of clips, got 2", make(), x=(clips(), clips()))
    refuse("contains NaN", make(), x=clips() * float("nan"))
    refuse("holds no example", make(), x=clips()[:0])
    refuse("Target not provided", make(), target=None, error=AssertionError)
    refuse("frames and channels look swapped", make(), x=torch.rand(2, 16, 3, 6, 7))
    refuse("training mode", make().train())
    refuse("did you mean", make(), layer="rel")
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        SaliencyTubes(lambda x: x, "relu")
    with pytest.raises(ValueError, match="layout must be"):
        SaliencyTubes(make(), "relu", layout="NHWCT")
