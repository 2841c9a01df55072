"""Caption-guided saliency against one decoder run per frame and position."""

import pytest
import torch
from attr_state import differences, snapshot
from torch import nn

from captum_ext.attr import CaptionGuidedSaliency
from captum_ext.models import CNNLSTMCaptioner, FrameCNNLSTM

N, T, V = 2, 3, 7
WORDS = [(2, 5), [(1, 3), (3, 6)]]


def captioner():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, stride=2), nn.ReLU())
    return CNNLSTMCaptioner(V, 5, 6, 3, "tanh", features, feature_channels=2).double().eval()


def clips():
    return torch.rand(N, 3, T, 10, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def captions():
    return torch.tensor([[3, 4, 5, 2], [6, 3, 2, 0]])


def log_probability(model, descriptor, caption, word):
    return float(model.decode(descriptor[None], caption[None])[0].log_softmax(1)[word])


@torch.no_grad()
def by_loops(model, target, spatial):
    """log q_i(w) - log p(w) for every frame, and every position of it."""
    x, c = clips(), captions()
    maps = model.frame_maps(x)
    h, w = maps.shape[3:] if spatial else (1, 1)
    result = torch.zeros(N, 1, T, h, w, dtype=torch.float64)
    for n in range(N):
        word = target[n] if isinstance(target, list) else target
        described = model.describe(maps[n : n + 1])[0]
        whole = log_probability(model, described.mean(0), c[n], word)
        for t in range(T):
            for y in range(h):
                for x_ in range(w):
                    descriptor = described[t]
                    if spatial:
                        alone = torch.zeros_like(maps[n, t])
                        alone[:, y, x_] = maps[n, t, :, y, x_]
                        descriptor = model.embedding(alone[None])[0]
                    result[n, 0, t, y, x_] = log_probability(model, descriptor, c[n], word) - whole
    return result


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("target", WORDS, ids=str)
def test_every_place_is_worth_what_the_decoder_says_of_it_alone(target, spatial):
    model = captioner()
    found = CaptionGuidedSaliency(model).attribute(
        clips(), target, captions(), spatial=spatial, stretch=False
    )
    expected = by_loops(model, target, spatial)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-10)


def test_stretching_keeps_the_order_and_fills_the_range_of_each_clip():
    method = CaptionGuidedSaliency(captioner())
    plain = method.attribute(clips(), (2, 5), captions(), stretch=False).flatten(1)
    stretched = method.attribute(clips(), (2, 5), captions()).flatten(1)
    assert torch.equal(stretched.amin(1), torch.zeros(N).double())
    assert torch.allclose(stretched.amax(1), torch.ones(N).double())
    assert torch.equal(plain.argmax(1), stretched.argmax(1))
    span = plain.amax(1, keepdim=True) - plain.amin(1, keepdim=True)
    assert torch.allclose(stretched, (plain - plain.amin(1, keepdim=True)) / span, atol=1e-10)


def test_a_map_without_differences_is_zero():
    model = captioner()
    nn.init.zeros_(model.decoder[0].weight_ih_l0)
    assert not CaptionGuidedSaliency(model).attribute(clips(), (2, 5), captions()).any()


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
def test_the_batch_size_of_the_decoder_changes_nothing(size):
    method = CaptionGuidedSaliency(captioner())
    small = method.attribute(clips(), (2, 5), captions(), internal_batch_size=size)
    assert torch.allclose(small, method.attribute(clips(), (2, 5), captions()), atol=1e-12)


def test_a_batch_equals_its_examples():
    method = CaptionGuidedSaliency(captioner())
    together = method.attribute(clips(), WORDS[1], captions())
    for n in range(N):
        alone = method.attribute(clips()[n : n + 1], WORDS[1][n], captions()[n : n + 1])
        assert torch.allclose(together[n : n + 1], alone, atol=1e-12)


def test_the_cnn_runs_once_and_the_decoder_once_per_place():
    model, rows = captioner(), {"cnn": 0, "decoder": 0}
    model.features.register_forward_hook(lambda _, __, y: rows.update(cnn=rows["cnn"] + len(y)))
    model.classifier.register_forward_hook(lambda _, __, y: rows.update(decoder=rows["decoder"] + len(y)))
    CaptionGuidedSaliency(model).attribute(clips(), (2, 5), captions())
    assert rows == {"cnn": N * T, "decoder": N * (T * 5 * 4 + 1)}


def test_inputs_in_a_tuple_give_a_tuple_also_in_inference_mode():
    method = CaptionGuidedSaliency(captioner())
    with torch.inference_mode():
        x = clips()
        (found,) = method.attribute((x,), (2, 5), captions())
    assert torch.equal(found, method.attribute(clips(), (2, 5), captions()))
    assert found.is_contiguous()
    assert not found.requires_grad


def test_nothing_is_left_behind():
    model, x, c = captioner(), clips().requires_grad_(), captions()
    before = snapshot(model, x, c)
    CaptionGuidedSaliency(model).attribute(x, (2, 5), c)
    with pytest.raises(AssertionError, match="Target not provided"):
        CaptionGuidedSaliency(model).attribute(x, None, c)
    assert not differences(before, snapshot(model, x, c))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"additional_forward_args": None}, TypeError, "must be the captions"),
        ({"additional_forward_args": "a disc"}, TypeError, "must be the captions"),
        (
            {"additional_forward_args": captions()[0]},
            ValueError,
            "one row of token ids",
        ),
        ({"inputs": clips()[0]}, ValueError, "5 axes"),
        ({"inputs": clips() * float("nan")}, ValueError, "NaN"),
        ({"internal_batch_size": 0}, ValueError, "internal_batch_size"),
        ({"target": 3}, AssertionError, "Target not provided"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    given = {"inputs": clips(), "target": (2, 5), "additional_forward_args": captions()} | arguments
    with pytest.raises(error, match=message):
        CaptionGuidedSaliency(captioner()).attribute(**given)


def test_a_model_without_the_parts_of_a_captioner_is_refused():
    with pytest.raises(TypeError, match=r"frame_maps, describe and decode.*FrameCNNLSTM does not"):
        CaptionGuidedSaliency(FrameCNNLSTM(4))
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        CaptionGuidedSaliency(lambda x: x)


def test_what_captum_asks_of_every_method():
    method = CaptionGuidedSaliency(captioner())
    assert not method.has_convergence_delta()
    assert not method.multiplies_by_inputs
    assert method.get_name() == "Caption Guided Saliency"
    with pytest.raises(NotImplementedError):
        method.attribute_future()
