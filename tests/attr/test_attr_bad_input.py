"""Every wrong call is one clear error of the right type whose text names what is wrong."""

import re

import pytest
import torch
from attr_toys import N_CLASSES, images, small_cnn, toy_clips, toy_cnn_lstm
from torch import nn

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop


def recurrent():
    return RecurrentExcitationBackprop(toy_cnn_lstm(0), "cnn.relu2")


def everything():
    """One explainer of each class with a good input and target."""
    return {
        "input": (ExcitationBackprop(small_cnn()), images(), 1),
        "layer": (LayerExcitationBackprop(small_cnn(), "1"), images(), 1),
        "recurrent": (recurrent(), toy_clips(), (3, 1)),
    }


@pytest.fixture(params=["input", "layer", "recurrent"])
def case(request):
    return everything()[request.param]


def says(*parts):
    """A pattern that wants all the parts, in any order."""
    return "(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts)


# The input


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_inputs_are_refused(case, value):
    explainer, x, target = case
    x.view(-1)[5] = value
    with pytest.raises(ValueError, match=says("input 0", "NaN or infinity")):
        explainer.attribute(x, target)


def test_an_empty_batch_is_refused(case):
    explainer, x, target = case
    with pytest.raises(ValueError, match=says("input 0", "no example", str(tuple(x[:0].shape)))):
        explainer.attribute(x[:0], target)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_inputs_that_are_not_floating_point_are_refused(case, dtype):
    explainer, x, target = case
    with pytest.raises(TypeError, match=says("input 0", str(dtype))):
        explainer.attribute(x.to(dtype), target)


def test_a_list_of_inputs_is_refused(case):
    explainer, x, target = case
    with pytest.raises((AssertionError, TypeError), match=says("list")):
        explainer.attribute([x], target)


def test_something_that_is_no_tensor_is_refused(case):
    explainer, x, target = case
    with pytest.raises((AssertionError, TypeError), match=says("ndarray")):
        explainer.attribute(x.numpy(), target)


def test_inputs_of_different_batch_sizes_are_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def forward(self, a, b):
            return self.net(a) + self.net(b)

    for explainer in (ExcitationBackprop(Two()), LayerExcitationBackprop(Two(), "net.1")):
        with pytest.raises(ValueError, match=says("input 1", "3 examples", "input 0", "2")):
            explainer.attribute((images(2), images(3)), 1)


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 3, 6, 6), (1, 2, 3, 4, 6, 6)])
def test_clips_of_the_wrong_rank_are_refused_by_the_names_of_the_axes(shape):
    with pytest.raises(ValueError, match=says("5 axes", "N, C, T, H, W", str(shape))):
        recurrent().attribute(torch.rand(shape, dtype=torch.float64), (3, 1))


@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW"])
@pytest.mark.parametrize("n_frames", [5, 16])
def test_swapped_frames_and_channels_are_named(layout, n_frames):
    clips = toy_clips(2, n_frames, layout=layout).transpose(1, 2)
    other = "NTCHW" if layout == "NCTHW" else "NCTHW"
    with pytest.raises(ValueError, match=says("axis C", f"{n_frames} entries", "swapped", other)):
        RecurrentExcitationBackprop(toy_cnn_lstm(0, layout=layout), "cnn.relu2", layout=layout).attribute(
            clips, (0, 1)
        )


def test_several_inputs_are_refused_by_the_recurrent_class():
    with pytest.raises(ValueError, match=says("one tensor", "2 tensors")):
        recurrent().attribute((toy_clips(), toy_clips()), (3, 1))


def test_a_tuple_of_one_clip_gives_a_tuple_of_one_map():
    (found,) = recurrent().attribute((toy_clips(),), (3, 1))
    assert torch.equal(found, recurrent().attribute(toy_clips(), (3, 1)))


# The target


@pytest.mark.parametrize(("index", "recurrent_target"), [(99, (3, 99)), (-99, (3, -99)), (4, (4, 0))])
def test_a_target_out_of_range_is_an_index_error_as_in_captum(case, index, recurrent_target):
    explainer, x, _ = case
    with pytest.raises(IndexError, match=r"out of (range|bounds)"):
        explainer.attribute(x, recurrent_target if x.dim() == 5 else index)


def test_a_missing_target_is_an_assertion_error_as_in_captum(case):
    explainer, x, _ = case
    with pytest.raises(AssertionError, match="Target not provided when necessary"):
        explainer.attribute(x)


@pytest.mark.parametrize("contrastive", [False, True])
def test_a_list_of_targets_of_the_wrong_length_is_an_assertion_error(case, contrastive):
    explainer, x, _ = case
    target = [(3, 1)] * 3 if x.dim() == 5 else [1] * 3
    with pytest.raises(AssertionError, match=r"(?i)target"):
        explainer.attribute(x, target, contrastive=contrastive)


@pytest.mark.parametrize("target", ["cat", 1.0, torch.tensor(1.0), {"class": 1}])
def test_a_target_of_a_wrong_type_is_refused(case, target):
    explainer, x, _ = case
    with pytest.raises((AssertionError, TypeError), match=r"(?i)target"):
        explainer.attribute(x, target)


def test_a_class_without_a_step_is_refused_where_scores_have_steps():
    with pytest.raises(AssertionError, match=r"(?i)target"):
        recurrent().attribute(toy_clips(), 1)


def test_models_with_one_score_per_example_need_no_target():
    class One(nn.Module):
        def __init__(self, squeeze):
            super().__init__()
            self.net, self.squeeze = small_cnn(n_classes=1), squeeze

        def forward(self, x):
            return self.net(x)[:, 0] if self.squeeze else self.net(x)

    expected = ExcitationBackprop(One(False)).attribute(images(), 0)
    for squeeze in (False, True):
        assert torch.equal(ExcitationBackprop(One(squeeze)).attribute(images()), expected)


# The layer


@pytest.mark.parametrize("method", [LayerExcitationBackprop, RecurrentExcitationBackprop])
def test_an_unknown_layer_gets_a_suggestion(method):
    with pytest.raises(ValueError, match=says("layer", "'cnn.relu_2'", "did you mean", "'cnn.relu2'")):
        method(toy_cnn_lstm(), "cnn.relu_2")


def test_an_unknown_boundary_or_contrast_layer_gets_a_suggestion():
    with pytest.raises(ValueError, match=says("boundary", "'cn'", "'cnn'")):
        RecurrentExcitationBackprop(toy_cnn_lstm(), "cnn.relu2", boundary="cn")
    for method in (
        lambda: ExcitationBackprop(toy_cnn_lstm(), contrast_layer="cnn.rel"),
        lambda: LayerExcitationBackprop(toy_cnn_lstm(), "cnn", contrast_layer="cnn.rel"),
    ):
        with pytest.raises(ValueError, match=says("contrast layer", "'cnn.rel'", "'cnn.relu1'")):
            method()


@pytest.mark.parametrize("method", [LayerExcitationBackprop, RecurrentExcitationBackprop])
def test_a_layer_of_another_model_is_refused(method):
    with pytest.raises(ValueError, match=says("layer", "Conv2d", "not part of the model")):
        method(toy_cnn_lstm(), toy_cnn_lstm().cnn.conv1)


@pytest.mark.parametrize("layer", [3, None, ["cnn.relu2"]])
def test_a_layer_of_a_wrong_type_is_refused(layer):
    with pytest.raises(TypeError, match=says("layer", "module", type(layer).__name__)):
        LayerExcitationBackprop(toy_cnn_lstm(), layer)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.unused, self.aside = toy_cnn_lstm(0), nn.ReLU(), nn.Linear(3, 3).double()

    def forward(self, x):
        self.aside(x.mean((2, 3, 4)))
        return self.body(x)


def test_a_layer_that_does_not_run_is_refused():
    for method in (LayerExcitationBackprop, RecurrentExcitationBackprop):
        with pytest.raises(ValueError, match=says("layer", "ReLU", "did not run")):
            method(Unused(), "unused").attribute(toy_clips(), (3, 1))
    with pytest.raises(ValueError, match=says("boundary", "ReLU", "did not run")):
        RecurrentExcitationBackprop(Unused(), "body.cnn.relu2", boundary="unused").attribute(
            toy_clips(), (3, 1)
        )


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("boundary", [None, "cnn"])
def test_a_layer_above_the_boundary_is_refused(contrastive, boundary):
    # As the docstring of attribute promises; a map of zeros would be silently wrong.
    method = RecurrentExcitationBackprop(toy_cnn_lstm(), "classifier", boundary=boundary)
    with pytest.raises(ValueError, match=says("layer", "boundary")):
        method.attribute(toy_clips(), (3, 1), contrastive=contrastive)


def test_a_layer_above_the_contrast_layer_is_refused():
    method = LayerExcitationBackprop(small_cnn(), "4", contrast_layer="1")
    with pytest.raises(ValueError, match=says("layer", "contrast layer")):
        method.attribute(images(), 1, contrastive=True)


def test_a_layer_that_has_no_part_in_the_output_is_refused():
    for method in (LayerExcitationBackprop, RecurrentExcitationBackprop):
        with pytest.raises(ValueError, match=says("layer")):
            method(Unused(), "aside").attribute(toy_clips(), (3, 1))


def test_a_layer_that_returns_no_tensor_is_refused():
    for method in (LayerExcitationBackprop, RecurrentExcitationBackprop):
        with pytest.raises(TypeError, match=says("output", "LSTM", "tuple")):
            method(toy_cnn_lstm(), "lstm").attribute(toy_clips(), (3, 1))


def test_the_input_of_a_layer_that_gets_none_is_refused():
    class Constant(nn.Module):
        def forward(self):
            return torch.ones(())

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.scale = small_cnn(), Constant()

        def forward(self, x):
            return self.net(x) * self.scale()

    with pytest.raises(TypeError, match=says("input", "Constant")):
        LayerExcitationBackprop(Scaled(), "scale").attribute(images(), 1, attribute_to_layer_input=True)


# The model and the settings


@pytest.mark.parametrize("model", [lambda x: x, None, "resnet18"])
def test_a_model_that_is_no_module_is_refused(model):
    for method in (
        ExcitationBackprop,
        lambda m: LayerExcitationBackprop(m, "1"),
        lambda m: RecurrentExcitationBackprop(m, "1"),
    ):
        with pytest.raises(TypeError, match=says("model", "torch.nn.Module", type(model).__name__)):
            method(model)


def test_a_model_without_a_recurrent_layer_gets_told_what_to_do():
    class Averaged(nn.Module):
        def __init__(self):
            super().__init__()
            self.cnn, self.classifier = toy_cnn_lstm().cnn, nn.Linear(6, 3).double()

        def forward(self, x):
            frames = x.transpose(1, 2)
            features = self.cnn(frames.flatten(0, 1)).view(*frames.shape[:2], -1)
            return self.classifier(features.mean(1))

    method = RecurrentExcitationBackprop(Averaged(), "cnn.relu2")
    wanted = says("no recurrent layer", "boundary=", "LayerExcitationBackprop")
    with pytest.raises(ValueError, match=wanted):
        method.attribute(toy_clips(), 1)


@pytest.mark.parametrize("value", ["Support", "drop", None, 1])
def test_a_wrong_negative_is_refused(value):
    model = toy_cnn_lstm()
    for method in (
        lambda: ExcitationBackprop(model, negative=value),
        lambda: LayerExcitationBackprop(model, "cnn.relu2", negative=value),
        lambda: RecurrentExcitationBackprop(model, "cnn.relu2", negative=value),
    ):
        with pytest.raises(ValueError, match=says("negative", "'support'", "'clamp'", repr(value))):
            method()


@pytest.mark.parametrize("value", ["NCHWT", "ncthw", None])
def test_a_wrong_layout_is_refused(value):
    with pytest.raises(ValueError, match=says("layout", "NCTHW", "NTCHW", repr(value))):
        RecurrentExcitationBackprop(toy_cnn_lstm(), "cnn.relu2", layout=value)


@pytest.mark.parametrize("value", ["nt", "T", None])
def test_a_wrong_frame_order_value_is_refused(value):
    for method in (LayerExcitationBackprop, RecurrentExcitationBackprop):
        with pytest.raises(ValueError, match=says("frame_order", "'NT'", "'TN'", repr(value))):
            method(toy_cnn_lstm(), "cnn.relu2", frame_order=value)


@pytest.mark.parametrize("folding", ["NT", "TN"])
@pytest.mark.parametrize("contrastive", [False, True], ids=["EB-R", "cEB-R"])
@pytest.mark.parametrize("recurrence", ["batch_first", "time_first", "relu", "cell", "by_hand"])
def test_a_frame_order_that_the_masses_contradict_is_detected(recurrence, contrastive, folding):
    # The class promises: "It is checked against the masses".
    model = toy_cnn_lstm(0, recurrence=recurrence, folding=folding)
    other = "TN" if folding == "NT" else "NT"
    boundary = "cnn" if recurrence == "by_hand" else None
    method = RecurrentExcitationBackprop(model, "cnn.relu2", boundary=boundary, frame_order=other)
    with pytest.raises(ValueError, match=says("frame_order", repr(folding))):
        method.attribute(toy_clips(3), [(3, 1), (1, 0), (2, 2)], contrastive=contrastive)


@pytest.mark.parametrize("output", [tuple, list, dict], ids=["tuple", "list", "dict"])
def test_a_model_that_returns_no_tensor_is_refused(output):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = toy_cnn_lstm()

        def forward(self, x):
            y = self.body(x)
            return {"scores": y} if output is dict else output([y, y])

    for method in (
        ExcitationBackprop(Wrapped()),
        LayerExcitationBackprop(Wrapped(), "body.cnn"),
        RecurrentExcitationBackprop(Wrapped(), "body.cnn.relu2"),
    ):
        with pytest.raises(TypeError, match=says("model", output.__name__, "not a tensor", "wrap")):
            method.attribute(toy_clips(), (3, 1))


def nan_at(parameter):
    with torch.no_grad():
        parameter.view(-1)[0] = float("nan")


@pytest.mark.parametrize("contrastive", [False, True])
def test_nan_weights_are_reported(contrastive):
    for name in ("cnn.conv1.weight", "cnn.fc.bias", "lstm.weight_hh_l0", "classifier.weight"):
        model = toy_cnn_lstm()
        nan_at(model.get_parameter(name))
        for method in (
            ExcitationBackprop(model),
            LayerExcitationBackprop(model, "cnn.relu2"),
            RecurrentExcitationBackprop(model, "cnn.relu2"),
        ):
            with pytest.raises(ValueError, match=says("NaN or infinity")):
                method.attribute(toy_clips(), (3, 0), contrastive=contrastive)


def test_a_weightless_model_has_no_dual():
    with pytest.raises(ValueError, match=says("dual", "contrastive=False")):
        ExcitationBackprop(nn.Flatten()).attribute(torch.rand(2, 3), 1, contrastive=True)


def test_one_clip_one_frame_one_class():
    model = toy_cnn_lstm(0)
    for contrastive in (False, True):
        found = RecurrentExcitationBackprop(model, "cnn.relu2").attribute(
            toy_clips(1, 2), (0, N_CLASSES - 1), contrastive=contrastive
        )
        assert found.shape == (1, 3, 2, 3, 3)


@pytest.mark.parametrize("folding", ["NT", "TN", "frames"])
@pytest.mark.parametrize("n", [1, 3])
def test_clips_of_one_frame_keep_their_time_axis(folding, n):
    model = toy_cnn_lstm(0, folding=folding)
    method = RecurrentExcitationBackprop(model, "cnn.relu2", frame_order="TN" if folding == "TN" else "NT")
    assert method.attribute(toy_clips(n, 1), (0, 1)).shape == (n, 3, 1, 3, 3)
    summed = method.attribute(toy_clips(n, 1), (0, 1), sum_channels=True)
    assert summed.shape == (n, 1, 1, 3, 3)


@pytest.mark.parametrize("contrastive", [False, True])
def test_a_dead_network_gives_zeros_and_says_so_in_the_delta(contrastive):
    model = small_cnn()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1.0)
    found, delta = ExcitationBackprop(model).attribute(
        images(), 1, contrastive=contrastive, return_convergence_delta=True
    )
    assert torch.equal(found, torch.zeros_like(found))
    assert torch.equal(delta, torch.full((2,), float(not contrastive)))
