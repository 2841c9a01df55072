"""The reference models: their shapes, their recurrence by hand, and that they are ready to be explained."""

import pytest
import torch
from torch import nn

from captum_ext.attr import RecurrentExcitationBackprop
from captum_ext.models import CNN2, VGGLSTM, FrameCNN, FrameCNNLSTM, ReLULSTM


def step_by_step(lstm, x, h, c, phi):
    """The equations of an LSTM, unit by unit of the text book: gates i, f, g, o."""
    outputs = []
    for t in range(x.shape[1]):
        z = x[:, t] @ lstm.weight_ih.T + h @ lstm.weight_hh.T + lstm.bias
        i, f, g, o = z.split(lstm.hidden_size, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * phi(g)
        h = torch.sigmoid(o) * phi(c)
        outputs.append(h)
    return torch.stack(outputs, 1), h, c


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(("n", "t"), [(1, 1), (2, 5), (3, 2)])
def test_relu_lstm_is_the_lstm_equations_with_relu(n, t, with_state):
    torch.manual_seed(0)
    lstm = ReLULSTM(3, 4).double()
    x = torch.randn(n, t, 3, dtype=torch.float64)
    state = tuple(torch.rand(2, n, 4, dtype=torch.float64)) if with_state else None
    outputs, (h, c) = lstm(x, state)
    zeros = torch.zeros(n, 4, dtype=torch.float64)
    expected = step_by_step(lstm, x, *(state or (zeros, zeros)), torch.relu)
    for found, wanted in zip((outputs, h, c), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)
    assert (outputs >= 0).all()


def test_with_tanh_in_place_of_relu_the_same_weights_are_torchs_lstm():
    torch.manual_seed(0)
    ours, theirs = ReLULSTM(3, 4).double(), nn.LSTM(3, 4, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.weight_ih)
        theirs.weight_hh_l0.copy_(ours.weight_hh)
        theirs.bias_ih_l0.copy_(ours.bias)
        theirs.bias_hh_l0.zero_()
    x, zeros = torch.randn(2, 5, 3).double(), torch.zeros(2, 4).double()
    assert torch.allclose(step_by_step(ours, x, zeros, zeros, torch.tanh)[0], theirs(x)[0], atol=1e-12)


def test_forget_gates_start_open():
    assert torch.equal(ReLULSTM(3, 4).bias[4:8], torch.ones(4))


def test_relu_lstm_trains_and_its_weights_can_be_saved_and_loaded():
    torch.manual_seed(0)
    lstm, x = ReLULSTM(3, 4), torch.randn(2, 5, 3)
    lstm(x)[0].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in lstm.parameters())
    twin = ReLULSTM(3, 4)
    twin.load_state_dict(lstm.state_dict())
    assert torch.equal(twin(x)[0], lstm(x)[0])


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("n", "t"), [(1, 1), (2, 3)])
def test_frame_cnn_lstm_has_the_shapes_it_promises(activation, n, t):
    torch.manual_seed(0)
    model = FrameCNNLSTM(4, activation=activation, output="steps").eval()
    clips = torch.randn(n, 3, t, 64, 64)
    with torch.no_grad():
        steps = model(clips)
        model.output = "average"
        average = model(clips)
        features = model.features(clips[:, :, 0])
    assert steps.shape == (n, t, 4)
    assert torch.allclose(average, steps.mean(1), atol=1e-6)
    assert features.shape == (n, 48, 16, 16)


def test_frames_do_not_see_later_frames_and_examples_do_not_see_each_other():
    torch.manual_seed(0)
    model = FrameCNNLSTM(4, output="steps").eval()
    clips = torch.randn(2, 3, 4, 64, 64)
    with torch.no_grad():
        before = model(clips)
        clips[1, :, 2:] += 1
        after = model(clips)
    assert torch.allclose(before[0], after[0], atol=1e-6)
    assert torch.allclose(before[1, :2], after[1, :2], atol=1e-6)
    assert not torch.allclose(before[1, 2:], after[1, 2:], atol=1e-4)


def test_frame_cnn_is_the_same_cnn():
    torch.manual_seed(0)
    image, clip = FrameCNN(4), FrameCNNLSTM(4)
    shared = {k: v for k, v in image.state_dict().items() if not k.startswith("classifier")}
    assert clip.load_state_dict(shared, strict=False).unexpected_keys == []
    assert image(torch.rand(2, 3, 64, 64)).shape == (2, 4)


@pytest.mark.parametrize("build", [FrameCNNLSTM, VGGLSTM])
def test_wrong_settings_are_value_errors(build):
    with torch.device("meta"), pytest.raises(ValueError, match=r"activation(?s:.*)'relu'(?s:.*)'gelu'"):
        build(4, activation="gelu")
    with torch.device("meta"):
        model = build(4, output="last")
        with pytest.raises(ValueError, match=r"output(?s:.*)'steps'(?s:.*)'last'"):
            model(torch.rand(1, 3, 1, 64, 64))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_vgg_lstm_has_the_papers_layers(activation):
    with torch.device("meta"):
        model = VGGLSTM(7, activation=activation, output="steps")
        assert model(torch.rand(2, 3, 4, 224, 224)).shape == (2, 4, 7)
        model.output = "average"
        assert model(torch.rand(2, 3, 4, 224, 224)).shape == (2, 7)
    assert sum(isinstance(m, nn.Conv2d) for m in model.features) == 13
    assert [m.out_features for m in model.fc if isinstance(m, nn.Linear)] == [4096, 4096]
    assert isinstance(model.lstm, ReLULSTM if activation == "relu" else nn.LSTM)
    assert isinstance(model.fc[-2], nn.ReLU)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_small_model_is_explained_out_of_the_box(activation):
    torch.manual_seed(0)
    model = FrameCNNLSTM(4, activation=activation, dropout=0.5)
    clips = torch.randn(1, 3, 3, 64, 64)
    method = RecurrentExcitationBackprop(model, "features")
    with pytest.raises(ValueError, match=r"'dropout'(?s:.*)eval"):
        method.attribute(clips, 1)
    model.eval()
    found = method.attribute(clips, 1, contrastive=True)
    assert found.shape == (1, 48, 3, 16, 16)
    assert found.sum().abs() < 1e-4


@pytest.mark.parametrize(("image_size", "side"), [(32, 3), (64, 7), (15, 1)])
def test_cnn2_is_three_convolutions_and_two_hidden_layers_with_dropout_between(image_size, side):
    model = CNN2(num_classes=5, image_size=image_size, hidden_size=7).eval()
    images = torch.rand(2, 3, image_size, image_size)
    assert model.features(images).shape == (2, 256, side, side)
    assert model(images).shape == (2, 5)
    assert (model.dropout1.p, model.dropout2.p) == (0.5, 0.0)
    assert not any("dropout" in name for name in model.state_dict())
    with pytest.raises(ValueError, match="image_size"):
        CNN2(num_classes=5, image_size=14)
