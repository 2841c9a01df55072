"""Grounding a word of a caption (section 4.2), against loops over every step, frame and neuron in float64."""

import pytest
import torch
from attr_algorithm1 import (
    LSTMWeights,
    mass_of_features,
    mass_of_states,
    run_lstm,
    through_linear,
    through_max_pool,
)
from attr_state import differences, snapshot
from torch import nn

from captum_ext.attr import ExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.models import CNNLSTMCaptioner

N, T, L, V = 2, 3, 4, 7
WORDS = [(0, 4), (2, 5), [(1, 3), (3, 6)], (3, 2)]


def captioner(activation="tanh", seed=1):
    torch.manual_seed(seed)
    features = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
    model = CNNLSTMCaptioner(V, 5, 6, 3, activation, features, feature_channels=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        model.embedding[2].bias.abs_()  # no dead descriptor in a toy this small
    return model.double().eval()


def clips(n=N):
    return torch.rand(n, 3, T, 12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def captions(n=N):
    return torch.tensor([[3, 4, 5, 2], [6, 3, 2, 0], [4, 4, 3, 2]])[:n]


def explainer(model, **settings):
    return RecurrentExcitationBackprop(model, "features", boundary="embedding", **settings)


def lstm_weights(layer):
    if isinstance(layer, nn.LSTM):
        bias = layer.bias_ih_l0 + layer.bias_hh_l0
        return LSTMWeights(layer.weight_ih_l0.detach(), layer.weight_hh_l0.detach(), bias.detach(), "tanh")
    return LSTMWeights(*(p.detach() for p in (layer.weight_ih, layer.weight_hh, layer.bias)), "relu")


def mass_of_decoder_input(model, descriptor, words, target, sign, words_compete):
    """The mass (L, D + E) of the decoder's input, by loops through both layers."""
    first, second = map(lstm_weights, model.decoder)
    given = torch.cat([descriptor.expand(len(words), -1), words], dim=1)
    lower = run_lstm(first, given)
    hidden = torch.tensor(lower.h, dtype=torch.float64)
    upper = run_lstm(second, hidden)
    states = mass_of_states(sign * model.classifier.weight.detach(), upper, target)
    below = mass_of_features(second, upper, hidden, states)
    # Constant children are a bias: with a value of 0 they take no share.
    children = given if words_compete else torch.cat([given[:, : len(descriptor)], 0 * words], dim=1)
    return mass_of_features(first, lower, children, below.tolist())


def map_by_loops(model, clip, caption, target, contrastive):
    """The map (C', T, h, w) of one clip: decoder, eq. 8 over the frames, eqs. 5 to 7, CNN."""
    maps = model.features(clip.transpose(0, 1)).detach()
    described = model.embedding(maps).detach()
    words = model.words_before(caption[None])[0].detach()

    def at_frames(sign):
        mass = mass_of_decoder_input(model, described.mean(0), words, target, sign, False)
        pooled = mass[:, : described.shape[1]].sum(0)
        frames = torch.zeros_like(described)
        for k in range(described.shape[1]):
            total = sum(float(described[t, k]) for t in range(T))
            for t in range(T):
                frames[t, k] = pooled[k] * described[t, k] / total if total > 0 else 0.0
        return frames / frames.sum()

    frames = at_frames(1.0) - at_frames(-1.0) if contrastive else at_frames(1.0)
    found = []
    for t in range(T):
        grid = model.embedding[0](maps[t]).detach()
        below = through_linear(frames[t], grid.flatten(), model.embedding[2].weight.detach())
        # 12 x 8 positions to a grid of 4 x 4: windows of 3 x 2, by one pool of 6 x 6 blocks would not do.
        stretched = maps[t].repeat_interleave(2, 1).repeat_interleave(3, 2)
        shares = through_max_pool(below.view_as(grid), stretched, 6)
        found.append(shares.view(2, 12, 2, 8, 3).sum((2, 4)))
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("target", WORDS, ids=str)
def test_a_word_is_grounded_as_the_equations_say(activation, contrastive, target):
    model, x, c = captioner(activation), clips(), captions()
    found = explainer(model).attribute(x, target, c, contrastive=contrastive)
    for n in range(N):
        own = target[n] if isinstance(target, list) else target
        expected = map_by_loops(model, x[n], c[n], own, contrastive)
        assert torch.allclose(found[n], expected, atol=1e-10)
    assert found.abs().sum() > 0.1


def test_eq_8_shares_a_descriptors_mass_over_the_frames_by_their_activations():
    model, x, c = captioner(), clips(), captions()
    x[:, :, 1] = 0  # a dark frame gets what its descriptor is worth, no third by default
    found = explainer(model).attribute(x, (2, 5), c, sum_channels=True)
    described = model.describe(model.frame_maps(x)).detach()
    for n in range(N):
        words = model.words_before(c[n : n + 1])[0].detach()
        mass = mass_of_decoder_input(model, described[n].mean(0), words, (2, 5), 1.0, False)
        pooled = mass[:, :6].sum(0)
        shares = described[n] / described[n].sum(0).where(described[n].sum(0) > 0, 1.0)
        per_frame = (pooled * shares).sum(1)
        assert torch.allclose(found[n].sum((0, 2, 3)), per_frame / per_frame.sum(), atol=1e-10)
        assert abs(float(per_frame[1] / per_frame.sum()) - 1 / T) > 1e-3


def test_the_language_share_is_the_mass_of_the_word_embeddings_where_they_compete():
    model, x, c = captioner(), clips(), captions()

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, descriptors, words):
            return self.model.decode_words(descriptors, words)

    described = model.describe(model.frame_maps(x)).mean(1).detach()
    words = model.words_before(c).detach()
    seen, said = ExcitationBackprop(Decoder()).attribute((described, words), target=(2, 5))
    for n in range(N):
        mass = mass_of_decoder_input(model, described[n], words[n], (2, 5), 1.0, True)
        assert torch.allclose(said[n], mass[:, 6:], atol=1e-10)
        assert torch.allclose(seen[n], mass[:, :6].sum(0), atol=1e-10)
        assert torch.equal(said[n, 3], torch.zeros(3, dtype=torch.float64))  # behind the word


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_mass_is_conserved_over_frames_and_neurons(activation, contrastive):
    model = captioner(activation)
    found, delta = explainer(model).attribute(
        clips(), (2, 5), captions(), contrastive=contrastive, return_convergence_delta=True
    )
    assert torch.allclose(found.flatten(1).sum(1) + delta, torch.full((N,), float(not contrastive)).double())
    assert delta.abs().max() < 1e-9


def test_words_behind_the_grounded_one_do_not_matter():
    model, x, c = captioner(), clips(), captions()
    changed = c.clone()
    changed[:, 2:] = 6
    first = explainer(model).attribute(x, (2, 5), c, contrastive=True)
    assert torch.equal(first, explainer(model).attribute(x, (2, 5), changed, contrastive=True))
    changed[:, 1] = 6
    assert not torch.allclose(first, explainer(model).attribute(x, (2, 5), changed, contrastive=True))


@pytest.mark.parametrize("contrastive", [False, True])
def test_several_words_at_once_are_the_words_one_by_one(contrastive):
    model, x, c = captioner(), clips(3), captions(3)
    words = [(0, 4), [(1, 3), (3, 6), (2, 3)], (3, 2)]
    maps, deltas = explainer(model).attribute_targets(
        x, words, c, contrastive=contrastive, return_convergence_delta=True
    )
    assert len(maps) == len(deltas) == 3
    for word, found, delta in zip(words, maps, deltas, strict=True):
        alone, alone_delta = explainer(model).attribute(
            x, word, c, contrastive=contrastive, return_convergence_delta=True
        )
        assert torch.allclose(found, alone, atol=1e-6, rtol=0)
        assert torch.allclose(delta, alone_delta, atol=1e-6)
    assert not torch.allclose(maps[0], maps[2])
    again = explainer(model).attribute_targets(x, words[::-1], c, contrastive=contrastive)
    assert all(torch.equal(a, b) for a, b in zip(maps, again[::-1], strict=True))


def test_the_model_runs_once_however_many_words():
    model, x, c = captioner(), clips(), captions()
    runs = []
    handle = model.register_forward_hook(lambda *_: runs.append(1))
    explainer(model).attribute_targets(x, [(i, 3) for i in range(L)], c, contrastive=True, sum_channels=True)
    handle.remove()
    assert len(runs) == 1


def test_a_tuple_of_clips_gives_tuples_and_one_word_a_list():
    model, c = captioner(), captions()
    ((found,),) = explainer(model).attribute_targets((clips(),), [(1, 3)], c)
    (alone,) = explainer(model).attribute((clips(),), (1, 3), c)
    assert torch.equal(found, alone)
    assert found.is_contiguous()
    assert not found.requires_grad


def test_several_classes_of_a_classifier_share_its_forward_pass():
    from attr_toys import toy_clips, toy_cnn_lstm

    model, x = toy_cnn_lstm(), toy_clips()
    eb_r = RecurrentExcitationBackprop(model, "cnn.conv2")
    with torch.no_grad():
        scores = model(x)
    targets = [0, 1] if scores.dim() == 2 else [(1, 0), (2, 1)]
    maps = eb_r.attribute_targets(x, targets, contrastive=True)
    for target, found in zip(targets, maps, strict=True):
        assert torch.allclose(found, eb_r.attribute(x, target, contrastive=True), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ((), ValueError, "at least one target"),
        ([], ValueError, "at least one target"),
        (3, TypeError, "a list of targets, got int"),
        (None, TypeError, "a list of targets, got NoneType"),
        ([(1, 3), 2], AssertionError, "Target not provided when necessary"),
        ([(1, 3), (9, 1)], Exception, "."),
    ],
)
def test_bad_targets_are_named_and_leave_nothing_behind(targets, error, message):
    model, x, c = captioner(), clips(), captions()
    before = snapshot(model, x, c)
    with pytest.raises(error, match=message):
        explainer(model).attribute_targets(x, targets, c)
    assert not differences(before, snapshot(model, x, c))


def test_several_words_leave_nothing_behind():
    model, x, c = captioner(), clips(), captions()
    before = snapshot(model, x, c)
    explainer(model).attribute_targets(x, [(1, 3), (2, 4)], c, contrastive=True)
    assert not differences(before, snapshot(model, x, c))
