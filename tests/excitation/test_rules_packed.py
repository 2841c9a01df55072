"""Packed sequences: a packed batch equals its sequences one at a time, and nothing reaches the filling."""

from __future__ import annotations

import pytest
import torch
from dense_reference import numbers, randomize
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from captum_ext.attr import ExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.excitation import UnsupportedOperationError

D, H, T = 3, 2, 5
LENGTHS = torch.tensor([3, 5, 1])
BOTH = pytest.mark.parametrize("negative", ["support", "clamp"])

MODULES = {
    "LSTM": lambda **kw: nn.LSTM(D, H, **kw),
    "GRU": lambda **kw: nn.GRU(D, H, **kw),
    "RNN tanh": lambda **kw: nn.RNN(D, H, **kw),
    "RNN relu": lambda **kw: nn.RNN(D, H, nonlinearity="relu", **kw),
    "projected LSTM": lambda **kw: nn.LSTM(D, 4, proj_size=H, **kw),
}


class Packing(nn.Module):
    """Scores at the last step of each sequence, from the padded outputs or from the last hidden states."""

    def __init__(self, module, read="outputs", pack="padded"):
        super().__init__()
        self.module, self.read, self.pack = module, read, pack
        k = 1 + module.bidirectional
        size = getattr(module, "proj_size", 0) or module.hidden_size
        width = {"outputs": k * size, "h_n": module.num_layers * k * size, "c_n": k * module.hidden_size}
        self.front, self.head = nn.Linear(D, D), nn.Linear(width[read], 2)

    def forward(self, x, lengths):
        x, first, rows = self.front(x).relu(), self.module.batch_first, torch.arange(len(x))
        if self.pack == "padded":
            x = x if first else x.transpose(0, 1)
            packed = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
        else:
            packed = pack_sequence([row[:n] for row, n in zip(x, lengths, strict=True)], enforce_sorted=False)
        outputs, last = self.module(packed)
        if self.read == "h_n":
            h = last[0] if isinstance(last, tuple) else last
            return self.head(h.transpose(0, 1).flatten(1))
        if self.read == "c_n":
            return self.head(last[1][-1 - self.module.bidirectional :].transpose(0, 1).flatten(1))
        padded, _ = pad_packed_sequence(outputs, batch_first=first, total_length=T + 1)
        padded = padded if first else padded.transpose(0, 1)
        return self.head(padded[rows, lengths - 1])


def alive(net, seed):
    """Weights under which mass reaches the inputs."""
    net = randomize(net, seed)
    with torch.no_grad():
        net.front.bias.fill_(1.0)
        net.head.weight.abs_()
        for name, parameter in net.module.named_parameters():
            if "bias" in name:
                parameter.fill_(0.5)
    return net


def assert_equals_one_at_a_time(net, negative="support"):
    x = numbers(3, T, D)
    engine = ExcitationBackprop(net, negative=negative)
    maps = engine.attribute(x, target=1, additional_forward_args=(LENGTHS,))
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(maps[row, length:], torch.zeros(T - length, D).double())
        alone = engine.attribute(
            x[row : row + 1, :length], target=1, additional_forward_args=(LENGTHS[row : row + 1],)
        )
        torch.testing.assert_close(maps[row, :length], alone[0], rtol=1e-9, atol=1e-12)
    assert maps.abs().sum() > 0


@BOTH
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("name", MODULES)
def test_a_packed_batch_equals_its_sequences_one_at_a_time(name, bidirectional, layers, negative):
    module = MODULES[name](num_layers=layers, bidirectional=bidirectional, batch_first=layers == 1)
    assert_equals_one_at_a_time(alive(Packing(module), seed=9), negative)


@pytest.mark.parametrize("read", ["outputs", "h_n", "c_n"])
@pytest.mark.parametrize("pack", ["padded", "list"])
@pytest.mark.parametrize("name", MODULES)
def test_last_states_and_lists_of_sequences(name, pack, read):
    module = MODULES[name](bidirectional=True)
    if read == "c_n" and module.mode != "LSTM":
        pytest.skip("only an LSTM has cell states")
    assert_equals_one_at_a_time(alive(Packing(module, read, pack), seed=7))


@BOTH
@pytest.mark.parametrize("name", MODULES)
def test_sequences_of_full_length_give_the_map_of_the_padded_batch(name, negative):
    net = alive(Packing(MODULES[name](batch_first=True, num_layers=2)), seed=8)

    class Padded(nn.Module):
        def forward(self, x):
            return net.head(net.module(net.front(x).relu())[0][:, -1])

    x = numbers(3, T, D)
    found = ExcitationBackprop(net, negative=negative).attribute(
        x, target=1, additional_forward_args=(torch.tensor([T, T, T]),)
    )
    expected = ExcitationBackprop(Padded(), negative=negative).attribute(x, target=1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


class Clips(nn.Module):
    """A per-frame layer, packed features, a recurrent layer, scores at the end of each clip."""

    def __init__(self, name, folding):
        super().__init__()
        self.conv, self.module, self.head = (
            nn.Conv2d(3, D, 2),
            MODULES[name](batch_first=True),
            nn.Linear(H, 2),
        )
        self.relu, self.folding = nn.ReLU(), folding

    def forward(self, clips, lengths):
        n, _, t = clips.shape[:3]
        frames = clips.permute(0, 2, 1, 3, 4) if self.folding == "NT" else clips.permute(2, 0, 1, 3, 4)
        features = self.relu(self.conv(frames.flatten(0, 1))).amax((2, 3))
        features = features.view(n, t, D) if self.folding == "NT" else features.view(t, n, D).transpose(0, 1)
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        last = self.module(packed)[1]
        return self.head((last[0] if isinstance(last, tuple) else last)[0])


@pytest.mark.filterwarnings("ignore:.*only one of the target and its dual")
@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("folding", ["NT", "TN"])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN tanh"])
def test_the_boundary_of_packed_features_is_found(name, folding, contrastive):
    net = randomize(Clips(name, folding), seed=2)
    clips = numbers(3, 3, T, 4, 6, signed=False)
    engine = RecurrentExcitationBackprop(net, "relu", frame_order=folding)
    maps = engine.attribute(clips, 1, additional_forward_args=(LENGTHS,), contrastive=contrastive)
    assert maps.shape == (3, D, T, 3, 5)
    for row, length in enumerate(LENGTHS.tolist()):
        assert float(maps[row, :, length:].abs().sum()) == 0.0
        alone = engine.attribute(
            clips[row : row + 1, :, :length],
            1,
            additional_forward_args=(LENGTHS[row : row + 1],),
            contrastive=contrastive,
        )
        torch.testing.assert_close(maps[row : row + 1, :, :length], alone, rtol=1e-9, atol=1e-12)
    other = RecurrentExcitationBackprop(net, "relu", frame_order={"NT": "TN", "TN": "NT"}[folding])
    with pytest.raises(ValueError, match=f"frame_order='{folding}'"):
        other.attribute(clips, 1, additional_forward_args=(LENGTHS,), contrastive=contrastive)


def test_published_recurrences_of_a_packed_batch_equal_those_of_its_sequences():
    net = randomize(Clips("LSTM", "NT"), seed=2)
    clips = numbers(3, 3, T, 4, 6, signed=False)
    engine = RecurrentExcitationBackprop(net, "relu", recurrence="published")
    maps = engine.attribute(clips, 1, additional_forward_args=(LENGTHS,))
    for row, length in enumerate(LENGTHS.tolist()):
        alone = engine.attribute(
            clips[row : row + 1, :, :length], 1, additional_forward_args=(LENGTHS[row : row + 1],)
        )
        torch.testing.assert_close(maps[row : row + 1, :, :length], alone, rtol=1e-9, atol=1e-12)
    net.module = nn.GRU(D, H, batch_first=True).double()
    with pytest.raises(UnsupportedOperationError, match="not for GRUs, one of which runs in module 'module'"):
        engine.attribute(clips, 1, additional_forward_args=(LENGTHS,))
