"""The layer, the class and the step that are explained when the user says little."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_ext.data import IMAGENET, ClipTransform
from captum_ext.explanation import explain, layer_shapes, window_seconds
from captum_ext.explanation.choices import choose_layer, choose_step, choose_target
from captum_ext.models import FrameCNNLSTM
from captum_ext.models.loading import LoadedModel, load_model


def loaded(model: nn.Module, reads: str) -> LoadedModel:
    return LoadedModel(model.eval(), "model", reads, ClipTransform(32, *IMAGENET), (), "random")  # type: ignore[arg-type]


def layer_of(shapes: dict[str, tuple[int, ...]]) -> str:
    return choose_layer("model", shapes, None)


def test_the_layer_is_the_last_one_of_about_14_pixels():
    assert layer_of({"a": (8, 28, 28), "b": (8, 14, 14), "c": (8, 14, 14), "d": (8, 7, 7)}) == "c"
    assert layer_of({"a": (8, 14, 14), "b": (8, 13, 13), "c": (8, 12, 12)}) == "b"


def test_failing_that_the_last_one_of_7_pixels():
    assert layer_of({"a": (8, 12, 12), "b": (8, 4, 7, 9), "c": (8, 6, 6)}) == "b"


def test_failing_that_the_last_one_of_the_finest():
    assert layer_of({"a": (8, 5, 5), "b": (8, 5, 6), "c": (8, 4, 4)}) == "b"


def test_a_block_is_preferred_to_the_branches_in_the_next_one():
    assert (
        layer_of({"a.branch": (8, 17, 17), "a": (8, 17, 17), "b.branch": (8, 17, 17), "b": (8, 8, 8)}) == "a"
    )


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer3"),
        ("squeezenet1_1", "features"),
        ("densenet121", "features.denseblock3"),
        ("regnet_y_400mf", "trunk_output.block3"),
        ("efficientnet_b0", "features.5"),
    ],
)
def test_the_layers_of_known_networks(name, layer):
    assert layer_of(layer_shapes(load_model(name), torch.rand(3, 1, 224, 224))) == layer


def test_layers_of_clips_keep_their_time_axis():
    shapes = layer_shapes(load_model("r3d_18"), torch.rand(3, 4, 56, 56))
    assert shapes["layer2"] == (128, 2, 14, 14)
    assert layer_of(shapes) == "layer2"


def test_channels_last_maps_and_vectors_are_no_maps():
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = (
                nn.Conv3d(3, 12, 3, padding=1),
                nn.LayerNorm(12),
                nn.Linear(12, 2),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.conv(x).permute(0, 2, 3, 4, 1)).mean((1, 2, 3)))

    assert list(layer_shapes(loaded(ChannelsLast(), "clips"), torch.rand(3, 4, 16, 16))) == ["conv"]


def test_a_cnn_called_once_per_frame_has_maps_over_time():
    class PerFrame(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lstm = nn.Conv2d(3, 4, 3, padding=1), nn.LSTM(4, 5, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            features = [self.conv(frame).relu().mean((2, 3)) for frame in x.unbind(2)]
            return self.head(self.lstm(torch.stack(features, 1))[0])

    model = loaded(PerFrame(), "clips")
    clip = torch.rand(3, 6, 16, 16)
    assert layer_shapes(model, clip) == {"conv": (4, 6, 16, 16)}
    explanation = explain(model, clip, ["ceb-r", "eb"], target="1", step=-2)
    assert explanation.step == 4
    assert explanation.results["ceb-r"].maps.shape == (6, 16, 16)
    # Nothing of the last frame has been seen at the step before it.
    assert not explanation.results["eb"].maps[5].any()


def test_labels_are_found_in_any_case_and_before_numbers():
    probabilities = torch.tensor([0.2, 0.5, 0.3])
    assert choose_target("JUMP", probabilities, ["run", "jump", "0"]) == 1
    assert choose_target("0", probabilities, ["run", "jump", "0"]) == 2
    assert choose_target("0", probabilities, []) == 0
    assert choose_target("auto", probabilities, []) == 1


def test_a_label_that_names_two_classes_is_an_error():
    with pytest.raises(ValueError, match="classes 0, 2; give a number"):
        choose_target("crane", torch.ones(3), ["crane", "dog", "crane"])


def test_negative_steps_count_from_the_end():
    assert choose_step(None, 6) == 5
    assert choose_step(-2, 6) == 4
    assert choose_step(None, None) is None


def test_explaining_leaves_the_model_as_it_was():
    model = FrameCNNLSTM(num_classes=3, hidden_size=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explain(loaded(model, "clips"), torch.rand(3, 3, 64, 64), ["eb", "ceb-r"])
    assert model.output == "average"
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_probabilities_are_taken_as_they_are():
    logits = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    clip = torch.rand(3, 2, 8, 8)
    expected = explain(loaded(logits, "frames"), clip, ["eb"]).probability
    softmax = loaded(nn.Sequential(*logits, nn.Softmax(1)), "frames")
    assert explain(softmax, clip, ["eb"]).probability == pytest.approx(expected)


def test_scores_with_nan_are_an_error():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    nn.init.constant_(model[0].bias, float("nan"))
    with pytest.raises(ValueError, match="NaN or infinity"):
        explain(loaded(model, "frames"), torch.rand(3, 2, 8, 8), ["eb"])


def test_an_unknown_method_is_an_error():
    with pytest.raises(ValueError, match="one of eb, ceb, eb-r, ceb-r"):
        explain(loaded(nn.Identity(), "frames"), torch.rand(3, 2, 8, 8), ["cam"])  # type: ignore[list-item]


def test_a_window_lasts_until_the_next_sampled_frame(clip):
    from captum_ext.data import read_video

    video = read_video(
        clip, n_frames=4
    )  # 2 s: sampled at 1/4, 3/4, ... s, where frames 1, 4, 7, 10 are shown
    assert window_seconds((1, 3), video) == pytest.approx((4 / 6, 10 / 6))
    assert window_seconds((3, 4), video) == pytest.approx((10 / 6, 13 / 6))
