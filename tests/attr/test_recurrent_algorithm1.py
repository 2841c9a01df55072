"""EB-R and cEB-R against Algorithm 1 of Bargal et al. (2018), written out in attr_algorithm1.py."""

import attr_algorithm1 as paper
import pytest
import torch
from attr_toys import N_CLASSES, toy_clips, toy_cnn_lstm

from captum_ext.attr import LayerExcitationBackprop, RecurrentExcitationBackprop

TOLERANCE = 1e-9
LAYERS = ["cnn.relu2", "cnn.conv2", "cnn.pool", "cnn.relu1"]


def reference(model, clips, targets, layer, contrastive, negative="support"):
    clips = clips if model.layout == "NCTHW" else clips.transpose(1, 2)
    if not isinstance(targets, list):
        targets = [targets] * len(clips)
    name = layer.removeprefix("cnn.")
    return torch.stack(
        [
            paper.algorithm1(model, clip, target, name, contrastive, negative)
            for clip, target in zip(clips, targets, strict=True)
        ]
    )


def agrees(found, expected, tolerance=TOLERANCE):
    """What every test here asks; kept apart so that the negative controls can ask it too."""
    return found.shape == expected.shape and bool((found - expected).abs().max() <= tolerance)


def explain(model, clips, target, layer, contrastive, **settings):
    order = "TN" if model.folding == "TN" else "NT"
    method = RecurrentExcitationBackprop(model, layer, layout=model.layout, frame_order=order, **settings)
    return method.attribute(clips, target, contrastive=contrastive)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_references_own_forward_pass_is_the_models(seed):
    for recurrence in ("batch_first", "relu"):
        model, clips = toy_cnn_lstm(seed, recurrence=recurrence), toy_clips()
        weights = paper.LSTMWeights(*model.lstm_parameters(), model.activation)
        with torch.no_grad():
            scores = model(clips)
        for clip, expected in zip(clips, scores, strict=True):
            features = torch.stack([paper.run_cnn(model.cnn, f).features for f in clip.unbind(1)])
            hidden = torch.tensor(paper.run_lstm(weights, features).h, dtype=torch.float64)
            found = hidden @ model.classifier.weight.detach().T + model.classifier.bias.detach()
            assert torch.allclose(found, expected, atol=1e-12)


def test_the_toys_have_states_of_both_signs_and_active_features():
    # Otherwise the tests below could not tell the sign rule from the clamp.
    model, clips = toy_cnn_lstm(0), toy_clips()
    weights = paper.LSTMWeights(*model.lstm_parameters(), model.activation)
    features = torch.stack([paper.run_cnn(model.cnn, f).features for f in clips[0].unbind(1)])
    states = paper.run_lstm(weights, features)
    for values in (states.h, states.c, states.g):
        assert min(map(min, values)) < 0 < max(map(max, values))
    assert (features > 0).float().mean() > 0.4


@pytest.mark.parametrize("negative", ["support", "clamp"])
@pytest.mark.parametrize("contrastive", [False, True], ids=["EB-R", "cEB-R"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("recurrence", ["batch_first", "relu"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_map_is_that_of_algorithm_1(recurrence, layer, contrastive, negative, seed):
    model, clips = toy_cnn_lstm(seed, recurrence=recurrence), toy_clips()
    found = explain(model, clips, (2, 1), layer, contrastive, negative=negative)
    assert agrees(found, reference(model, clips, (2, 1), layer, contrastive, negative))


@pytest.mark.parametrize("contrastive", [False, True], ids=["EB-R", "cEB-R"])
@pytest.mark.parametrize("folding", ["NT", "TN", "frames"])
@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW"])
@pytest.mark.parametrize("recurrence", ["batch_first", "time_first", "cell", "relu"])
def test_every_way_to_write_the_model_gives_the_same_map(recurrence, layout, folding, contrastive):
    model = toy_cnn_lstm(3, recurrence=recurrence, layout=layout, folding=folding)
    clips = toy_clips(3, layout=layout)
    found = explain(model, clips, (3, 2), "cnn.relu2", contrastive)
    assert agrees(found, reference(model, clips, (3, 2), "cnn.relu2", contrastive))


@pytest.mark.parametrize("contrastive", [False, True], ids=["EB-R", "cEB-R"])
@pytest.mark.parametrize("folding", ["NT", "TN", "frames"])
@pytest.mark.parametrize("boundary", ["cnn", "cnn.out"])
def test_a_hand_written_recurrence_with_a_boundary_gives_the_map_of_algorithm_1(
    folding, contrastive, boundary
):
    model, clips = toy_cnn_lstm(4, recurrence="by_hand", folding=folding), toy_clips(3)
    found = explain(model, clips, (3, 0), "cnn.pool", contrastive, boundary=boundary)
    assert agrees(found, reference(model, clips, (3, 0), "cnn.pool", contrastive))


@pytest.mark.parametrize("negative", ["support", "clamp"])
def test_a_hand_written_recurrence_follows_the_treatment_of_negative_children(negative):
    model, clips = toy_cnn_lstm(5, recurrence="by_hand"), toy_clips()
    found = explain(model, clips, (3, 0), "cnn.relu2", True, boundary="cnn", negative=negative)
    assert agrees(found, reference(model, clips, (3, 0), "cnn.relu2", True, negative))


@pytest.mark.parametrize("recurrence", ["batch_first", "time_first", "cell"])
def test_the_default_boundary_is_the_input_of_the_recurrent_layer(recurrence):
    model, clips = toy_cnn_lstm(6, recurrence=recurrence), toy_clips()
    by_default = explain(model, clips, (3, 0), "cnn.relu1", True)
    named = explain(model, clips, (3, 0), "cnn.relu1", True, boundary=model.cnn)
    assert agrees(by_default, named)


@pytest.mark.parametrize("contrastive", [False, True], ids=["EB-R", "cEB-R"])
@pytest.mark.parametrize("target", [0, N_CLASSES - 1, [2, 0, 1], torch.tensor([1, 1, 2])])
@pytest.mark.parametrize("recurrence", ["batch_first", "time_first", "cell", "relu"])
def test_averaged_scores_start_from_all_time_steps_jointly(recurrence, target, contrastive):
    model, clips = toy_cnn_lstm(7, recurrence=recurrence, output="average"), toy_clips(3)
    found = explain(model, clips, target, "cnn.relu2", contrastive)
    per_clip = target if isinstance(target, int) else list(map(int, target))
    assert agrees(found, reference(model, clips, per_clip, "cnn.relu2", contrastive))


@pytest.mark.parametrize("contrastive", [False, True], ids=["EB-R", "cEB-R"])
@pytest.mark.parametrize("recurrence", ["batch_first", "time_first", "cell", "relu"])
@pytest.mark.parametrize("folding", ["NT", "TN", "frames"])
def test_a_list_of_tuples_gives_every_clip_its_own_step_and_class(recurrence, contrastive, folding):
    model, clips = toy_cnn_lstm(13, recurrence=recurrence, folding=folding), toy_clips(3)
    targets = [(3, 0), (1, 2), (2, 1)]
    found = explain(model, clips, targets, "cnn.relu1", contrastive)
    assert agrees(found, reference(model, clips, targets, "cnn.relu1", contrastive))


@pytest.mark.parametrize("contrastive", [False, True], ids=["EB-R", "cEB-R"])
@pytest.mark.parametrize("folding", ["NT", "TN", "frames"])
@pytest.mark.parametrize("recurrence", ["batch_first", "time_first", "cell", "relu"])
def test_row_i_is_clip_i(recurrence, folding, contrastive):
    model, clips = toy_cnn_lstm(9, recurrence=recurrence, folding=folding), toy_clips(4)
    targets = [(3, 0), (1, 2), (2, 1), (3, 2)]
    batch = explain(model, clips, targets, "cnn.relu2", contrastive)
    for i, target in enumerate(targets):
        alone = explain(model, clips[i : i + 1], target, "cnn.relu2", contrastive)
        assert agrees(batch[i : i + 1], alone)


@pytest.mark.parametrize("recurrence", ["batch_first", "time_first", "cell", "relu", "by_hand"])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_frames_after_the_target_step_get_exactly_nothing(recurrence, step):
    model, clips = toy_cnn_lstm(10, recurrence=recurrence), toy_clips()
    boundary = {"boundary": "cnn"} if recurrence == "by_hand" else {}
    for contrastive in (False, True):
        found = explain(model, clips, (step, 1), "cnn.relu2", contrastive, **boundary)
        assert torch.equal(found[:, :, step + 1 :], torch.zeros_like(found[:, :, step + 1 :]))
        assert found[:, :, : step + 1].abs().sum((1, 3, 4)).min() > 0


@pytest.mark.parametrize("recurrence", ["batch_first", "cell", "relu"])
@pytest.mark.parametrize("seed", range(4))
def test_frame_scores_of_ceb_r_sum_to_zero_and_eb_r_is_a_distribution(recurrence, seed):
    model, clips = toy_cnn_lstm(seed, recurrence=recurrence), toy_clips(seed=seed)
    method = RecurrentExcitationBackprop(model, "cnn.out")
    contrast = method.attribute(clips, (3, 1), contrastive=True)
    assert contrast.sum((1, 2)).abs().max() < 1e-12
    assert (contrast.sum(1).abs().amax(1) > 1e-3).all()
    plain, delta = method.attribute(clips, (3, 1), return_convergence_delta=True)
    assert (plain >= 0).all()
    assert (plain.sum((1, 2)) - 1).abs().max() < 1e-12
    assert delta.abs().max() < 1e-12


@pytest.mark.parametrize("contrastive", [False, True])
def test_the_delta_is_the_mass_that_the_cnn_dropped(contrastive):
    model, clips = toy_cnn_lstm(11), toy_clips(3)
    with torch.no_grad():  # features driven by their bias alone have no support
        model.cnn.fc.weight[:2] = -0.1 * model.cnn.fc.weight[:2].abs()
        model.cnn.fc.bias[:2] = 3.0
    method = RecurrentExcitationBackprop(model, "cnn.relu2")
    found, delta = method.attribute(clips, (3, 1), contrastive=contrastive, return_convergence_delta=True)
    assert delta.shape == (3,)
    assert delta.abs().max() > 1e-3
    expected = reference(model, clips, (3, 1), "cnn.relu2", contrastive)
    assert agrees(found, expected)
    assert torch.allclose(delta, float(not contrastive) - expected.sum((1, 2, 3, 4)), atol=1e-9)


@pytest.mark.parametrize("contrastive", [False, True])
def test_sum_channels_is_the_sum_over_channels(contrastive):
    model, clips = toy_cnn_lstm(12), toy_clips()
    method = RecurrentExcitationBackprop(model, "cnn.relu1")
    full = method.attribute(clips, (3, 1), contrastive=contrastive)
    summed = method.attribute(clips, (3, 1), contrastive=contrastive, sum_channels=True)
    assert agrees(summed, full.sum(1, keepdim=True))


@pytest.mark.parametrize("folding", ["NT", "TN"])
def test_the_layer_class_gives_the_map_of_the_last_step_its_time_axis_back(folding):
    # Plain EB needs no boundary: without dropped mass the two classes agree.
    model, clips = toy_cnn_lstm(3, recurrence="batch_first", folding=folding), toy_clips(3)
    layer = LayerExcitationBackprop(model, "cnn.relu2", frame_order=folding)
    found = layer.attribute(clips, (3, 2))
    total = found.sum((1, 2, 3, 4), keepdim=True)
    recurrent = explain(model, clips, (3, 2), "cnn.relu2", False)
    assert agrees(found / total, recurrent / recurrent.sum((1, 2, 3, 4), keepdim=True))


# Negative controls: the comparison must reject each of these ways to be wrong.


def without_the_joint_step(weights, unrolled, features, mass_of_h, negative="support"):
    """Splits W x and U h by their net values first, as the design warns against."""
    only_x = paper.LSTMWeights(weights.ih, torch.zeros_like(weights.hh), weights.bias, weights.activation)
    return ORIGINAL(only_x, unrolled, features, mass_of_h, negative)


def with_gates_as_children(weights, unrolled, features, mass_of_h, negative="support"):
    rows = weights.ih.shape[0] // 4
    ih = weights.ih.clone()
    ih[2 * rows : 3 * rows] += 0.5 * ih[:rows]
    return ORIGINAL(
        paper.LSTMWeights(ih, weights.hh, weights.bias, weights.activation),
        unrolled, features, mass_of_h, negative,
    )  # fmt: skip


def without_the_cell_path(weights, unrolled, features, mass_of_h, negative="support"):
    closed = paper.Unrolled(
        unrolled.h, unrolled.c, unrolled.i, [[0.0] * len(f) for f in unrolled.f], unrolled.g
    )
    return ORIGINAL(weights, closed, features, mass_of_h, negative)


def with_all_parents_positive(weights, unrolled, features, mass_of_h, negative="support"):
    return ORIGINAL(weights, unrolled, features, mass_of_h, "clamp")


ORIGINAL = paper.mass_of_features


@pytest.mark.parametrize(
    "broken",
    [without_the_joint_step, with_gates_as_children, without_the_cell_path, with_all_parents_positive],
)
def test_a_wrong_recurrence_is_rejected(monkeypatch, broken):
    model, clips = toy_cnn_lstm(0), toy_clips()
    found = explain(model, clips, (3, 1), "cnn.relu2", True)
    assert agrees(found, reference(model, clips, (3, 1), "cnn.relu2", True))
    monkeypatch.setattr(paper, "mass_of_features", broken)
    assert not agrees(found, reference(model, clips, (3, 1), "cnn.relu2", True), 1e-4)


@pytest.mark.parametrize("mistake", ["next class", "next step", "swapped clips", "no contrast", "bias"])
def test_a_map_of_something_else_is_rejected(mistake):
    model, clips = toy_cnn_lstm(0), toy_clips()
    found = explain(model, clips, (2, 1), "cnn.relu2", True)
    expected = {
        "next class": lambda: reference(model, clips, (2, 2), "cnn.relu2", True),
        "next step": lambda: reference(model, clips, (3, 1), "cnn.relu2", True),
        "swapped clips": lambda: reference(model, clips.flip(0), (2, 1), "cnn.relu2", True),
        "no contrast": lambda: reference(model, clips, (2, 1), "cnn.relu2", False),
        "bias": lambda: reference(model, clips, (2, 1), "cnn.relu2", True) * 0.9999,
    }[mistake]()
    assert not agrees(found, expected, 1e-6)


def test_normalising_every_step_instead_of_the_clip_is_rejected(monkeypatch):
    model, clips = toy_cnn_lstm(0), toy_clips()

    def per_step(*args, **kwargs):
        mass = ORIGINAL(*args, **kwargs)
        return mass / mass.sum(1, keepdim=True).clamp(min=1e-300)

    found = explain(model, clips, (3, 1), "cnn.relu2", True)
    monkeypatch.setattr(paper, "mass_of_features", per_step)
    assert not agrees(found, reference(model, clips, (3, 1), "cnn.relu2", True), 1e-4)
