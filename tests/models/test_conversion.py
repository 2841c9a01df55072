"""to_relu_lstm: the same weights with ReLU in place of both tanh."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from captum_ext.attr import ExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.models import FrameCNNLSTM, ReLULSTM, StackedReLULSTM, to_relu_lstm
from captum_ext.models.loading import is_recurrent

D, H, N, T = 3, 4, 2, 5


def relu_lstm_loop(lstm: nn.LSTM, x: torch.Tensor, states=None):
    """The layers of an nn.LSTM with ReLU, step by step; x (T, N, D)."""
    rows = lstm.num_layers * (1 + lstm.bidirectional)
    h_0, c_0 = states or (x.new_zeros(rows, x.shape[1], H),) * 2
    sequence, last = x, ([], [])
    for layer in range(lstm.num_layers):
        directions = []
        for direction in range(1 + lstm.bidirectional):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            w, u = (getattr(lstm, name + suffix) for name in ("weight_ih", "weight_hh"))
            b = sum(getattr(lstm, name + suffix) for name in ("bias_ih", "bias_hh")) if lstm.bias else 0
            k = layer * (1 + lstm.bidirectional) + direction
            h, c, hidden = h_0[k], c_0[k], []
            for x_t in sequence.flip(0) if direction else sequence:
                i, f, g, o = (x_t @ w.T + h @ u.T + b).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.relu()
                h = o.sigmoid() * c.relu()
                hidden.append(h)
            last[0].append(h), last[1].append(c)
            directions.append(torch.stack(hidden).flip(0) if direction else torch.stack(hidden))
        sequence = torch.cat(directions, -1)
    return sequence, (torch.stack(last[0]), torch.stack(last[1]))


LSTMS = {
    "one layer": {},
    "no bias": {"bias": False},
    "two layers": {"num_layers": 2, "dropout": 0.3},
    "bidirectional": {"bidirectional": True},
    "two bidirectional layers": {"num_layers": 2, "bidirectional": True},
}


@pytest.mark.parametrize("given", [False, True], ids=["zero states", "given states"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("name", LSTMS)
def test_the_converted_layer_is_the_same_cell_with_relu(name, batch_first, given):
    torch.manual_seed(0)
    lstm = nn.LSTM(D, H, batch_first=batch_first, **LSTMS[name]).double().eval()
    converted = to_relu_lstm(lstm)
    x, rows = torch.randn(T, N, D).double(), lstm.num_layers * (1 + lstm.bidirectional)
    states = tuple(torch.rand(2, rows, N, H).double()) if given else None
    wanted, (h, c) = relu_lstm_loop(lstm, x, states)
    wanted = wanted.transpose(0, 1) if batch_first else wanted
    found, (h_n, c_n) = converted(x.transpose(0, 1) if batch_first else x, states)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(h_n, h)
    torch.testing.assert_close(c_n, c)
    shapes = [value.shape for value in (*lstm(x if not batch_first else x.transpose(0, 1))[1],)]
    assert [h_n.shape, c_n.shape] == shapes


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence_without_a_batch_axis_is_taken_as_nn_lstm_takes_it(batch_first):
    lstm = nn.LSTM(D, H, 2, bidirectional=True, batch_first=batch_first).double()
    converted, x = to_relu_lstm(lstm), torch.randn(T, D).double()
    states = tuple(torch.rand(2, 4, H).double())
    outputs, (h, c) = converted(x, states)
    assert [v.shape for v in (outputs, h, c)] == [v.shape for v in (lstm(x)[0], *lstm(x)[1])]
    wanted, _ = relu_lstm_loop(lstm, x[:, None], tuple(s[:, None] for s in states))
    torch.testing.assert_close(outputs, wanted[:, 0])


def test_the_model_runs_as_before_and_the_original_is_untouched():
    model = FrameCNNLSTM(num_classes=3).train()
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    converted = to_relu_lstm(model)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert type(model.lstm) is nn.LSTM
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert isinstance(converted.lstm, StackedReLULSTM)
    assert converted.training
    assert converted.lstm.training
    assert converted(torch.rand(2, 3, 4, 64, 64)).shape == (2, 3)
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in converted.parameters()}
    assert not shared
    assert is_recurrent(converted)
    weight_ih, bias = model.lstm.weight_ih_l0, model.lstm.bias_ih_l0 + model.lstm.bias_hh_l0
    torch.testing.assert_close(converted.lstm.layers[0].weight_ih, weight_ih)
    torch.testing.assert_close(converted.lstm.layers[0].bias, bias)


def test_the_converted_model_trains_and_conserves_mass():
    torch.manual_seed(1)
    model = to_relu_lstm(FrameCNNLSTM(num_classes=3, output="steps")).double()
    clips = torch.rand(2, 3, 4, 64, 64).double()
    model(clips)[:, -1, 0].sum().backward()
    assert all(p.grad is not None for p in model.lstm.parameters())
    maps, delta = RecurrentExcitationBackprop(model.eval(), "features").attribute(
        clips, (3, 1), return_convergence_delta=True
    )
    torch.testing.assert_close(maps.sum((1, 2, 3, 4)) + delta, torch.ones(2).double())
    assert (delta < 1e-6).all()


def test_frozen_parameters_dtype_and_shared_layers_are_kept():
    shared = nn.LSTM(D, D).to(torch.bfloat16)
    shared.weight_ih_l0.requires_grad_(False)
    model = nn.ModuleDict({"a": shared, "list": nn.ModuleList([shared, nn.LSTM(D, H)])}).eval()
    converted = to_relu_lstm(model)
    assert converted["a"] is converted["list"][0]
    assert not converted["a"].layers[0].weight_ih.requires_grad
    assert converted["a"].layers[0].weight_hh.requires_grad
    assert converted["a"].layers[0].bias.dtype == torch.bfloat16
    assert not converted["list"][1].training
    assert not to_relu_lstm(nn.LSTM(D, H, bias=False)).layers[0].bias.requires_grad


class Own(nn.LSTM):
    pass


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (lambda: nn.LSTM(D, H, proj_size=2), r"module 'lstm' cannot be converted: .*proj_size"),
        (lambda: nn.LSTMCell(D, H), r"module 'lstm' .*nn.LSTMCell.*ReLULSTM"),
        (lambda: Own(D, H), r"module 'lstm' .*Own is a class of its own"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.LSTM(D, H), "weight_hh_l0"), "parametrized|own"),
        (lambda: nn.GRU(D, H), r"the model \(ModuleDict\) has no nn.LSTM"),
        (lambda: ReLULSTM(D, H), r"the model \(ModuleDict\) has no nn.LSTM"),
    ],
    ids=["projection", "cell", "own class", "weight norm", "GRU", "ReLU already"],
)
def test_what_cannot_be_converted_is_refused_by_name(module, says):
    with pytest.raises(ValueError, match=says):
        to_relu_lstm(nn.ModuleDict({"lstm": module()}))


def test_a_layer_with_hooks_is_refused():
    lstm = nn.LSTM(D, H)
    lstm.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="it has hooks"):
        to_relu_lstm(nn.Sequential(lstm))


def test_packed_sequences_are_refused_with_what_to_do():
    packed = nn.utils.rnn.pack_sequence([torch.rand(3, D)])
    with pytest.raises(TypeError, match="PackedSequence; pad the sequences"):
        to_relu_lstm(nn.LSTM(D, H))(packed)


def test_two_converted_layers_are_explained():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(D, H, 2, batch_first=True, bidirectional=True), nn.Linear(2 * H, 2)

        def forward(self, x):
            self.lstm.flatten_parameters()
            return self.head(self.lstm(x)[0][:, 0])

    torch.manual_seed(2)
    net = to_relu_lstm(Net()).double().eval()
    maps, delta = ExcitationBackprop(net).attribute(
        torch.rand(3, T, D).double(), target=0, return_convergence_delta=True
    )
    torch.testing.assert_close(maps.sum((1, 2)) + delta, torch.ones(3).double())
    assert float(maps.sum()) > 0.5
