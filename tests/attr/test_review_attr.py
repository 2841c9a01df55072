"""Other arguments of the model, calls on constants, axes that could be either, and the outside world."""

import threading
import time
import warnings
from collections import OrderedDict, namedtuple
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attr_toys import images, small_cnn, toy_clips, toy_cnn_lstm
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from captum_ext.attr import (
    CaptionGuidedSaliency,
    ExcitationBackprop,
    LayerExcitationBackprop,
    RecurrentExcitationBackprop,
    RecurrentGradient,
    Rise,
    SaliencyTubes,
    VideoGradCam,
)
from captum_ext.attr._arguments import private
from captum_ext.attr._random_numbers import no_random_numbers
from captum_ext.models import CNNLSTMCaptioner

D = torch.float64


class Apply(nn.Module):
    """A function of the model's modules and its arguments."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *args):
        return self.function(self, *args)


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make().double().eval()


# Further arguments of the model: cut off from the caller's graph and memory


def lstm_with_states():
    def run(m, x, states):
        return m.fc(m.lstm(x, states)[0][:, -1])

    return Apply(run, lstm=nn.LSTM(6, 5, batch_first=True), fc=nn.Linear(5, 3))


def test_initial_states_with_a_graph_of_the_callers_do_not_compete():
    explainer = ExcitationBackprop(seeded(lstm_with_states))
    x, states = torch.rand(2, 3, 6, dtype=D), (torch.rand(1, 2, 5, dtype=D), torch.rand(1, 2, 5, dtype=D))
    expected = explainer.attribute(x, 1, (states,))
    leaves = tuple(state.clone().requires_grad_() for state in states)
    made = tuple(leaf * 1 for leaf in leaves)
    for given in (leaves, made):
        torch.testing.assert_close(explainer.attribute(x, 1, (given,)), expected, rtol=0, atol=0)
    assert all(leaf.grad is None for leaf in leaves)


@dataclass(frozen=True)
class Record:
    states: list
    name: str = "r"


States = namedtuple("States", ["h", "c"])


def nested(tensor):
    return [
        (tensor, 1),
        [tensor, [tensor]],
        {"h": tensor},
        OrderedDict(h=tensor),
        States(tensor, None),
        Record([tensor]),
        torch.return_types.max((tensor, tensor)),
    ]


def tensors_in(value):
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Record):
        value = value.states
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [found for part in parts for found in tensors_in(part)]


@pytest.mark.parametrize("index", range(7))
def test_tensors_are_copied_however_deep(index):
    leaf = torch.rand(2, 3, requires_grad=True)
    given = nested(leaf * 2)[index]
    copy = private(given)
    assert type(copy) is type(given)
    found, originals = tensors_in(copy), tensors_in(given)
    assert len(found) == len(originals) > 0
    for new, old in zip(found, originals, strict=True):
        assert (new.requires_grad, old.requires_grad) == (False, True)
        assert new.data_ptr() != old.data_ptr()
        assert torch.equal(new, old)


def test_packed_sequences_and_other_objects_keep_their_types():
    packed = pack_sequence([torch.rand(2, 3), torch.rand(4, 3)], enforce_sorted=False)
    copy = private(packed)
    assert type(copy) is PackedSequence
    assert copy.data.data_ptr() != packed.data.data_ptr()
    torch.testing.assert_close(pad_packed_sequence(copy)[0], pad_packed_sequence(packed)[0])
    size, thing = torch.Size([2, 3]), object()
    assert type(private(size)) is torch.Size
    assert [private(value) for value in (size, thing, "text", Record)] == [size, thing, "text", Record]


def writes(m, clip, extra, *nested_extra):
    """A model that writes to what it is given."""
    for tensor in (extra, *tensors_in(nested_extra)):
        tensor.mul_(2)
    bias = extra + sum(tensors_in(nested_extra))
    features = F.relu(m.conv(clip)).mean((2, 3, 4))
    return m.fc(features + bias)


def writing_model():
    return Apply(writes, conv=nn.Conv3d(3, 4, 3, padding=1), fc=nn.Linear(4, 3))


def on_clips(name, model):
    return {
        "eb": lambda: ExcitationBackprop(model),
        "layer": lambda: LayerExcitationBackprop(model, "conv"),
        "gradient": lambda: RecurrentGradient(model),
        "grad-cam": lambda: VideoGradCam(model, "conv"),
        "rise": lambda: Rise(model),
    }[name]()


@pytest.mark.parametrize("name", ["eb", "layer", "gradient", "grad-cam", "rise"])
def test_a_model_that_writes_to_its_arguments_leaves_the_callers_alone(name):
    explainer = on_clips(name, seeded(writing_model))
    clips = torch.rand(2, 3, 5, 6, 7, dtype=D)
    given = torch.rand(2, 4, dtype=D), [torch.rand(4, dtype=D)], torch.rand((), dtype=D)
    before = private(given)
    settings = {"n_masks": 5, "grid": 2} if name == "rise" else {}
    first = explainer.attribute(clips, 1, given, **settings)
    torch.testing.assert_close(tensors_in(given), tensors_in(before), rtol=0, atol=0)
    torch.testing.assert_close(explainer.attribute(clips, 1, given, **settings), first, rtol=0, atol=0)


def test_rise_gives_every_mask_fresh_arguments():
    def halves(m, image, state):
        state[0].mul_(0.5)
        return image.mean((1, 2, 3)) * state[0]

    x, state = torch.rand(2, 3, 8, 9, dtype=D), [torch.ones((), dtype=D)]
    found = Rise(Apply(halves)).attribute(x, None, (state,), n_masks=8, grid=3)
    expected = Rise(lambda image: image.mean((1, 2, 3)) * 0.5).attribute(x, n_masks=8, grid=3)
    torch.testing.assert_close(found, expected)


def test_saliency_tubes_leave_arguments_alone():
    def run(m, clip, extra):
        extra.add_(1)
        return m.fc(F.relu(m.conv(clip)).mean((2, 3, 4)))

    model = seeded(lambda: Apply(run, conv=nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU()), fc=nn.Linear(4, 3)))
    extra = torch.zeros(2)
    SaliencyTubes(model, "conv").attribute(torch.rand(2, 3, 5, 6, 7, dtype=D), 1, extra)
    assert torch.equal(extra, torch.zeros(2))


class OverwritesCaptions(CNNLSTMCaptioner):
    def decode(self, descriptors, captions):
        scores = super().decode(descriptors, captions)
        captions.zero_()
        return scores


def test_caption_guided_saliency_leaves_captions_alone():
    torch.manual_seed(0)
    captions = torch.tensor([[4, 5, 2]])
    model = OverwritesCaptions(9).eval()
    CaptionGuidedSaliency(model).attribute(torch.rand(1, 3, 2, 64, 64), (1, 5), captions, spatial=False)
    assert captions.tolist() == [[4, 5, 2]]


# Calls that carry no evidence


def siamese():
    def run(m, x):
        return m.fc((m.e(x) - m.e(m.template)).relu().flatten(1))

    model = Apply(run, e=nn.Linear(6, 5), fc=nn.Linear(5, 3))
    model.register_buffer("template", torch.rand(1, 6))
    return model


def test_a_call_on_constants_gets_zeros():
    model, x = seeded(siamese), torch.rand(1, 6, dtype=D)
    found = LayerExcitationBackprop(model, "e").attribute(x, 1)
    branch = model.e(x).detach()
    reference = seeded(
        lambda: Apply(lambda m, h: m.fc((h - model.e(model.template).detach()).relu()), fc=model.fc)
    )
    assert found.shape == (1, 5, 2)
    assert not found[:, :, 1].any()
    # The reference takes the branch's values as inputs, whose supporting parts are then net values.
    alone = ExcitationBackprop(reference).attribute(branch, 1)
    torch.testing.assert_close((found[:, :, 0] > 0), (alone > 0))
    torch.testing.assert_close(
        found.sum(),
        1 - LayerExcitationBackprop(model, "e").attribute(x, 1, return_convergence_delta=True)[1].sum(),
    )


@pytest.mark.parametrize("contrastive", [False, True])
def test_a_contrast_layer_may_also_be_called_on_constants(contrastive):
    model, x = seeded(siamese), torch.rand(1, 6, dtype=D)
    explainer = ExcitationBackprop(model, contrast_layer="e")
    found, delta = explainer.attribute(x, 1, contrastive=contrastive, return_convergence_delta=True)
    torch.testing.assert_close(found.sum(1) + delta, torch.full((1,), float(not contrastive), dtype=D))
    assert found.abs().sum() > 0


def captioner():
    torch.manual_seed(0)
    return CNNLSTMCaptioner(9).eval()


CAPTIONS = torch.tensor([[4, 5, 6, 2], [5, 4, 6, 2]])


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda m: LayerExcitationBackprop(m, "word_embedding"), {}),
        (lambda m: RecurrentExcitationBackprop(m, "word_embedding"), {}),
        (lambda m: RecurrentExcitationBackprop(m, "features", boundary="word_embedding"), {}),
        (
            lambda m: LayerExcitationBackprop(m, "features", contrast_layer="word_embedding"),
            {"contrastive": True},
        ),
        (lambda m: ExcitationBackprop(m, contrast_layer="word_embedding"), {"contrastive": True}),
    ],
)
def test_a_layer_without_evidence_is_refused_clearly(make, settings):
    with pytest.raises(ValueError, match="no evidence can reach"):
        make(captioner()).attribute(torch.rand(2, 3, 4, 64, 64), (1, 4), CAPTIONS, **settings)


def test_gradients_of_a_call_on_constants_are_zero():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc, self.blank = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), torch.zeros(1, 3, 6, 7)

        def forward(self, clip):
            return self.fc((self.conv(clip[:, :, 0]) - self.conv(self.blank)).relu().mean((2, 3)))

    torch.manual_seed(0)
    model = Twice().eval().requires_grad_(False)
    found = VideoGradCam(model, "conv").attribute(torch.rand(1, 3, 2, 6, 7), 1)
    assert found[:, :, 0].abs().sum() > 0
    assert not found[:, :, 1].any()


# What a layer returns may be the model's own tensor


class Returns(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.rand(1, 6))

    def forward(self):
        return self.position


class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, x):
        self.last = self.linear(x).relu()
        return self.last


@pytest.mark.parametrize("layer", ["position", "same"])
def test_weights_and_buffers_that_a_layer_returns_survive(layer):
    def run(m, x):
        return m.fc((m.same(x) + m.position() + m.same(m.constant)).relu())

    model = seeded(lambda: Apply(run, position=Returns(), same=nn.Identity(), fc=nn.Linear(6, 3)))
    model.register_buffer("constant", torch.rand(1, 6, dtype=D))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="no evidence") if layer == "position" else nullcontext():
        LayerExcitationBackprop(model, layer).attribute(torch.rand(1, 6, dtype=D), 1)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.stride() == before[name].stride()


def test_a_state_that_a_layer_keeps_survives():
    model, x = seeded(lambda: nn.Sequential(Keeps(), nn.Linear(5, 3))), torch.rand(2, 6, dtype=D)
    LayerExcitationBackprop(model, "0").attribute(x, 1)
    torch.testing.assert_close(model[0].last, model[0].linear(x).relu())


# Axes that could be time or channels, examples or time


def with_temporal(n_channels, temporal):
    """Frame features (N, T, 8), a layer on (N, 8, T), a GRU."""

    def run(m, clip):
        n, _, t = clip.shape[:3]
        features = m.features(clip.transpose(1, 2).flatten(0, 1)).amax((2, 3)).view(n, t, -1)
        return m.fc(m.gru(F.relu(m.temporal(features.transpose(1, 2))).transpose(1, 2))[0])

    return Apply(
        run,
        features=nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()),
        temporal=temporal,
        gru=nn.GRU(n_channels, 10, batch_first=True),
        fc=nn.Linear(10, 5),
    )


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("n_channels", [4, 5])
def test_a_temporal_convolution_keeps_its_channels_first(n_channels, n):
    model = seeded(lambda: with_temporal(n_channels, nn.Conv1d(8, n_channels, 1)))
    clips = torch.rand(n, 3, 4, 9, 11, dtype=D)
    found = RecurrentExcitationBackprop(model, "temporal").attribute(clips, (0, 1))
    # The score of the first step sees the first frame only.
    assert found.shape == (n, n_channels, 4)
    torch.testing.assert_close(found[:, :, 0].sum(1), torch.ones(n, dtype=D))
    assert not found[:, :, 1:].any()


def test_a_shape_that_says_nothing_is_refused():
    model = seeded(lambda: with_temporal(4, nn.Sequential(nn.Conv1d(8, 4, 1), nn.ReLU())))
    explainer = RecurrentExcitationBackprop(model, "temporal")
    with pytest.raises(ValueError, match="time cannot be told from its channels"):
        explainer.attribute(torch.rand(2, 3, 4, 9, 11, dtype=D), (0, 1))
    assert explainer.attribute(torch.rand(2, 3, 5, 9, 11, dtype=D), (0, 1)).shape == (2, 4, 5)


@pytest.mark.parametrize("t", [3, 4])
@pytest.mark.parametrize("batch_first", [False, True])
def test_sequences_of_as_many_frames_as_examples_are_told_apart(batch_first, t):
    """The layer sees (N, T, D), whatever the recurrent layer sees."""

    def run(m, clip):
        n, _, t = clip.shape[:3]
        features = m.features(clip.transpose(1, 2).flatten(0, 1)).amax((2, 3)).view(n, t, -1)
        features = m.embedding(features)
        if batch_first:
            return m.fc(m.gru(features)[0])
        return m.fc(m.gru(features.transpose(0, 1))[0].transpose(0, 1))

    model = seeded(
        lambda: Apply(
            run,
            features=nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()),
            embedding=nn.Sequential(nn.Linear(8, 6), nn.ReLU()),
            gru=nn.GRU(6, 10, batch_first=batch_first),
            fc=nn.Linear(10, 5),
        )
    )
    explainer, clips = RecurrentExcitationBackprop(model, "embedding"), torch.rand(4, 3, t, 9, 11, dtype=D)
    together = explainer.attribute(clips, (2, 1))
    alone = torch.cat([explainer.attribute(clip[None], (2, 1)) for clip in clips])
    torch.testing.assert_close(together, alone)


def test_linear_layers_have_their_channels_last():
    model = seeded(lambda: toy_with_embedding(4))
    found = RecurrentExcitationBackprop(model, "embedding").attribute(
        torch.rand(2, 3, 4, 9, 11, dtype=D), (0, 1)
    )
    torch.testing.assert_close(found[:, :, 0].sum(1), torch.ones(2, dtype=D))


def toy_with_embedding(size):
    def run(m, clip):
        n, _, t = clip.shape[:3]
        features = m.features(clip.transpose(1, 2).flatten(0, 1)).amax((2, 3)).view(n, t, -1)
        return m.fc(m.gru(F.relu(m.embedding(features)))[0])

    return Apply(
        run,
        features=nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()),
        embedding=nn.Linear(8, size),
        gru=nn.GRU(size, 10, batch_first=True),
        fc=nn.Linear(10, 5),
    )


@pytest.mark.parametrize("n_steps", [2, 4, 5])
@pytest.mark.parametrize("contrastive", [False, True])
def test_a_layer_on_time_first_sequences_has_the_map_of_one_on_batch_first_ones(n_steps, contrastive):
    def run(time_first):
        def forward(m, x):
            y = m.layer(x.transpose(0, 1) if time_first else x).relu()
            return m.fc(y[-1] if time_first else y[:, -1])

        return seeded(lambda: Apply(forward, layer=nn.Linear(6, 5), fc=nn.Linear(5, 3)))

    x = torch.rand(2, n_steps, 6, dtype=D)
    found, expected = (
        LayerExcitationBackprop(run(time_first), "layer").attribute(x, 1, contrastive=contrastive)
        for time_first in (True, False)
    )
    assert found.shape == (2, n_steps, 5)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("length", [3, 4])
def test_a_caption_as_long_as_the_clip_is_not_taken_for_frames(length):
    model, clips = captioner(), torch.rand(2, 3, 4, 64, 64)
    explainer = RecurrentExcitationBackprop(model, "features")
    found = explainer.attribute(clips, (1, 4), CAPTIONS[:, :length], sum_channels=True)
    longer = explainer.attribute(clips, (1, 4), F.pad(CAPTIONS, (0, 3)), sum_channels=True)
    torch.testing.assert_close(found, longer)
    with pytest.raises(ValueError, match="pass frame_order='NT'"):
        RecurrentExcitationBackprop(model, "features", frame_order="TN").attribute(
            clips, (1, 4), CAPTIONS[:, :length]
        )


# Settings of RISE


@pytest.mark.parametrize("scores", [lambda x: x.mean((1, 2, 3)), lambda x: x.mean((2, 3))[:, :1]])
def test_a_softmax_over_a_single_score_is_refused(scores):
    x = torch.rand(3, 3, 8, 9)
    with pytest.raises(ValueError, match="softmax=True needs the scores of several classes"):
        Rise(scores).attribute(x, 0 if scores(x).dim() == 2 else None, n_masks=4, softmax=True)
    assert Rise(scores).attribute(x, 0 if scores(x).dim() == 2 else None, n_masks=4).shape == x.shape


@pytest.mark.parametrize(
    ("settings", "error", "name"),
    [
        ({"n_masks": 2.5}, TypeError, "n_masks"),
        ({"perturbations_per_eval": 2.0}, TypeError, "perturbations_per_eval"),
        ({"grid": 2.5}, ValueError, "grid"),
        ({"grid": (2, 2.5)}, ValueError, "grid"),
    ],
)
def test_counts_that_are_no_integers_are_refused(settings, error, name):
    with pytest.raises(error, match=name):
        Rise(small_cnn()).attribute(images(), 1, **settings)
    with pytest.raises(TypeError, match="internal_batch_size"):
        CaptionGuidedSaliency(captioner()).attribute(
            torch.rand(2, 3, 4, 64, 64), (1, 4), CAPTIONS, internal_batch_size=2.5
        )


def test_integers_of_numpy_count():
    counts = {"n_masks": np.int64(4), "perturbations_per_eval": np.int32(2), "grid": np.int64(3)}
    found = Rise(small_cnn()).attribute(images(), 1, **counts)
    torch.testing.assert_close(found, Rise(small_cnn()).attribute(images(), 1, n_masks=4, grid=3))


# The outside world


@pytest.mark.parametrize(
    "hooks",
    [
        torch.autograd.graph.save_on_cpu,
        lambda: torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
    ],
)
def test_hooks_around_the_call_are_named(hooks):
    with hooks(), pytest.raises(RuntimeError, match=r"hooks on saved tensors .* around the call"):
        ExcitationBackprop(small_cnn()).attribute(images(), 1)
    assert ExcitationBackprop(small_cnn()).attribute(images(), 1).shape == images().shape


@contextmanager
def noise():
    """Another thread that draws random numbers all the time."""
    stop = threading.Event()

    def draw():
        while not stop.is_set():
            torch.rand(3)
            time.sleep(1e-4)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def slow_model(after=lambda x: x):
    def run(m, x):
        for _ in range(20):
            time.sleep(1e-3)
        return after(m.net(x))

    return Apply(run, net=small_cnn()).eval()


def of_one_frame(model):
    return Apply(lambda m, clip: m.net(clip[:, :, 0]), net=model).eval()


EXPLAIN = {
    "eb": lambda model: ExcitationBackprop(model).attribute(images(), 1),
    "rise": lambda model: Rise(model).attribute(images(), 1, n_masks=2),
    "gradient": lambda model: RecurrentGradient(of_one_frame(model)).attribute(images()[:, :, None], 1),
}


@pytest.mark.parametrize("name", EXPLAIN)
def test_random_numbers_of_other_threads_are_not_the_models(name):
    model = slow_model()
    expected = EXPLAIN[name](model)
    with noise():
        found = EXPLAIN[name](model)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", EXPLAIN)
def test_a_model_that_draws_is_found_beside_other_threads(name):
    with noise(), pytest.raises(ValueError, match="draws random numbers"):
        EXPLAIN[name](slow_model(lambda scores: scores + torch.rand(())))


def waiting(run):
    """Call it while another thread exists that does nothing."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        return run()
    finally:
        done.set()
        thread.join()


def test_the_state_is_set_back_only_for_a_model_that_draws():
    cpu = torch.device("cpu")
    attention = torch.rand(1, 2, 3, 4)
    own = torch.Generator().manual_seed(0)

    def no_draw():
        F.scaled_dot_product_attention(attention, attention, attention)
        torch.rand(3, generator=own)

    def draw_beside(again):
        with no_random_numbers(cpu, again):
            torch.rand(3)

    torch.manual_seed(3)
    before = torch.get_rng_state()
    waiting(lambda: draw_beside(no_draw))
    assert not torch.equal(torch.get_rng_state(), before)
    before = torch.get_rng_state()
    for again in (lambda: torch.rand(2), lambda: F.dropout(attention), lambda: torch.empty(2).normal_()):
        with pytest.raises(ValueError, match="draws random numbers"):
            waiting(lambda again=again: draw_beside(again))
        assert torch.equal(torch.get_rng_state(), before)


def test_the_state_is_set_back_when_the_model_fails_after_drawing():
    def fails():
        torch.rand(3)
        raise KeyError("the model's own")

    torch.manual_seed(3)
    before = torch.get_rng_state()
    for call in (lambda run: run(), waiting):
        with pytest.raises(KeyError), no_random_numbers(torch.device("cpu"), fails):
            call(fails)
        assert torch.equal(torch.get_rng_state(), before)


class ByKeyword(nn.Module):
    def __init__(self, layer, call):
        super().__init__()
        self.layer, self.call, self.fc = layer, call, nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.call(self.layer, x).relu())


class TwoArguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, features, scale):
        return self.linear(features) * scale


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, *args, **kwargs):
        return self.linear(*args, **kwargs)


@pytest.mark.parametrize(
    ("make", "call"),
    [
        (lambda: nn.Linear(6, 5), lambda layer, x: layer(input=x)),
        (TwoArguments, lambda layer, x: layer(scale=2.0, features=x)),
        (Wrapped, lambda layer, x: layer(input=x)),
    ],
)
def test_the_input_of_a_layer_may_be_given_by_keyword(make, call):
    model, x = seeded(lambda: ByKeyword(make(), call)), torch.rand(2, 6, dtype=D)
    found = LayerExcitationBackprop(model, "layer").attribute(x, 1, attribute_to_layer_input=True)
    torch.testing.assert_close(found, ExcitationBackprop(model).attribute(x, 1))


def test_a_warning_points_at_the_call_of_attribute():
    model = toy_cnn_lstm()
    with torch.no_grad():
        # Nothing supports the target's score: its weights are those of units that speak against it.
        model.classifier.weight.zero_()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        RecurrentExcitationBackprop(model, "cnn.relu1").attribute(toy_clips(), (3, 1))
        RecurrentExcitationBackprop(model, "cnn.relu1").attribute_targets(toy_clips(), [(3, 1)])
    of_ours = [warning for warning in found if "no evidence arrives" in str(warning.message)]
    assert [warning.filename for warning in of_ours] == [__file__, __file__]
    assert of_ours[0].lineno + 1 == of_ours[1].lineno
