"""The captioner and its vocabulary: decoding by hand, greedy captions, and that words can be grounded."""

import pytest
import torch
from torch import nn

from captum_ext.attr import RecurrentExcitationBackprop
from captum_ext.models import CNNLSTMCaptioner, Vocabulary, load_checkpoint, save_checkpoint

BEGIN, END, PADDING = 1, 2, 0


def tiny(activation="tanh", seed=0):
    torch.manual_seed(seed)
    features = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
    return CNNLSTMCaptioner(7, 5, 6, 3, activation, features, feature_channels=2).double().eval()


def clips(n=2, t=3):
    return torch.rand(n, 3, t, 10, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


CAPTIONS = torch.tensor([[3, 4, 5, 2], [6, 2, 0, 0]])


def cell(layer, x, h, c, phi):
    if isinstance(layer, nn.LSTM):
        z = x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
    else:
        z = x @ layer.weight_ih.T + h @ layer.weight_hh.T + layer.bias
    i, f, g, o = z.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * phi(g)
    return o.sigmoid() * phi(c), c


@pytest.mark.parametrize(("activation", "phi"), [("tanh", torch.tanh), ("relu", torch.relu)])
def test_scores_are_those_of_two_layers_run_word_by_word(activation, phi):
    model, x = tiny(activation), clips()
    found = model(x, CAPTIONS)
    assert found.shape == (2, 4, 7)
    for n in range(2):
        frames = [model.embedding(model.features(x[n : n + 1, :, t]))[0] for t in range(3)]
        pooled = sum(frames) / 3
        states = [torch.zeros(5).double() for _ in range(4)]
        before = BEGIN
        for step in range(4):
            word = model.word_embedding.weight[before]
            states[0], states[1] = cell(model.decoder[0], torch.cat([pooled, word]), *states[:2], phi)
            states[2], states[3] = cell(model.decoder[1], states[0], *states[2:], phi)
            expected = model.classifier.weight @ states[2] + model.classifier.bias
            assert torch.allclose(found[n, step], expected, atol=1e-12)
            before = CAPTIONS[n, step]


def test_a_score_depends_only_on_the_words_before_it():
    model, x = tiny(), clips()
    changed = CAPTIONS.clone()
    changed[:, 2] = 6
    first, second = model(x, CAPTIONS), model(x, changed)
    assert torch.equal(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3], second[:, 3])


@pytest.mark.parametrize("seed", range(6))
def test_greedy_captions_are_the_best_words_given_themselves(seed):
    model, x = tiny(seed=seed), clips(3)
    written = model.generate(x, max_length=6)
    scores = model(x, written)
    scores[:, :, :END] = -torch.inf
    for caption, best in zip(written.tolist(), scores.argmax(2).tolist(), strict=True):
        length = caption.index(END) + 1 if END in caption else len(caption)
        assert caption[:length] == best[:length]
        assert set(caption[length:]) <= {PADDING}
    assert written.shape[1] <= 6


def test_captions_end_where_the_model_ends_them_and_rows_do_not_disturb_each_other():
    model, x = tiny(), clips(3)
    with torch.no_grad():
        model.classifier.bias[END] = 100.0
    assert model.generate(x).tolist() == [[END]] * 3
    model = tiny(seed=2)
    together = model.generate(x, 5)
    for n in range(3):
        alone = model.generate(x[n : n + 1], 5)[0]
        assert together[n, : len(alone)].tolist() == alone.tolist()


def test_generating_leaves_modes_and_gradients_alone():
    model, x = tiny().train(), clips().requires_grad_()
    tokens = model.generate(x, 3)
    assert model.training
    assert torch.is_grad_enabled()
    assert x.grad is None
    assert tokens.dtype == torch.int64


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_default_model_trains_and_its_words_can_be_grounded(activation):
    torch.manual_seed(0)
    model = CNNLSTMCaptioner(9, activation=activation)
    x, c = torch.rand(2, 3, 4, 64, 64), torch.tensor([[3, 4, 2], [5, 8, 2]])
    nn.functional.cross_entropy(model(x, c).flatten(0, 1), c.flatten()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    eb_r = RecurrentExcitationBackprop(model.eval(), "features", boundary="embedding")
    found, delta = eb_r.attribute(x, (1, 4), c, return_convergence_delta=True)
    assert found.shape == (2, 48, 4, 16, 16)
    assert torch.allclose(found.flatten(1).sum(1) + delta, torch.ones(2), atol=1e-5)


def test_a_captioner_is_stored_with_its_words(tmp_path):
    vocabulary = Vocabulary.of(["a disc", "a ring"])
    settings = {"vocabulary_size": len(vocabulary), "hidden_size": 5, "embedding_size": 6, "word_size": 3}
    model = CNNLSTMCaptioner(**settings).eval()
    save_checkpoint(tmp_path / "a.pt", model, arguments=settings, labels=vocabulary.words)
    found = load_checkpoint(tmp_path / "a.pt")
    assert found.name == "CNNLSTMCaptioner"
    assert Vocabulary(found.labels).words == vocabulary.words
    x, c = torch.rand(1, 3, 2, 64, 64), vocabulary.encode(["a ring"])
    assert torch.equal(found.model(x, c), model(x, c))


@pytest.mark.parametrize("captions", [torch.tensor([3, 4]), torch.ones(3, 4, dtype=torch.long)])
def test_captions_that_do_not_fit_the_clips_are_refused(captions):
    with pytest.raises(ValueError, match="one row of token ids for each of the 2 clips"):
        tiny()(clips(), captions)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="vocabulary_size"):
        CNNLSTMCaptioner(3)
    with pytest.raises(ValueError, match="max_length"):
        tiny().generate(clips(), 0)
    with pytest.raises(ValueError, match="activation"):
        CNNLSTMCaptioner(9, activation="gelu")


def test_encoding_and_decoding_undo_each_other():
    sentences = ["a disc moves", "a ring", "disc"]
    vocabulary = Vocabulary.of(sentences)
    tokens = vocabulary.encode(sentences)
    assert tokens.shape == (3, 4)
    assert [vocabulary.decode(row) for row in tokens] == sentences
    assert (tokens == PADDING).sum(1).tolist() == [0, 1, 2]
    assert vocabulary.id("ring") == int(tokens[1, 1])
    assert len(vocabulary) == 3 + 4
    assert vocabulary.decode(torch.tensor([3, 4])) == "a disc"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: v.encode(["a house"]), "no word 'house'"),
        (lambda v: v.encode([]), "one or more sentences"),
        (lambda v: v.encode("a disc"), "one or more sentences"),
        (lambda v: v.id("house"), "no word 'house'"),
        (lambda v: v.decode(torch.tensor([[3]])), r"shape \(L,\)"),
        (lambda v: v.decode(torch.tensor([3, 99, 2])), "tokens must be words"),
        (lambda v: v.decode(torch.tensor([3, 0, 2])), "tokens must be words"),
        (lambda _: Vocabulary([]), "one or more words"),
        (lambda _: Vocabulary(["a disc"]), "without white space"),
        (lambda _: Vocabulary.of([""]), "one or more words"),
    ],
)
def test_mistakes_with_words_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(Vocabulary.of(["a disc"]))
