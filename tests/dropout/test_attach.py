"""A model that knows nothing of Excitation Dropout: what is measured, trained and left behind."""

import copy

import pytest
import torch
import torch.nn.functional as F
from dropout_nets import NETS, BatchNorm, Convolutional, Net, UpperDropout, made
from torch import nn

from captum_ext.attr import LayerExcitationBackprop
from captum_ext.dropout import ExcitationDropoutLayer, attach, dropout_names, excitation_keep_mask


def with_statistics_of_the_batch(net, x):
    """A copy in evaluation mode whose batch norms hold the statistics of this batch."""
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.LSTM | nn.MultiheadAttention):
            module.dropout = 0.0
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.reset_running_stats()
            module.register_forward_pre_hook(take_statistics)
    return twin.eval()


def take_statistics(module, args):
    (x,) = args
    axes = [axis for axis in range(x.dim()) if axis != 1]
    module.running_mean.copy_(x.detach().mean(axes))
    module.running_var.copy_(x.detach().var(axes, correction=0))


@pytest.mark.parametrize("kind", NETS, ids=lambda kind: kind.__name__)
def test_the_evidence_is_the_layer_map_of_the_attribution_engine(kind):
    net, x, y = made(kind)
    expected = LayerExcitationBackprop(with_statistics_of_the_batch(net, x), "drop").attribute(x, target=y)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        net(x)
        p_eb = dropout.layers["drop"].last.p_eb
    assert expected.abs().sum() > 0
    assert torch.allclose(p_eb, expected.reshape(p_eb.shape), atol=1e-9)


def test_the_evidence_in_single_precision_is_the_layer_map_to_one_in_a_hundred_thousand():
    net, x, y = made(Net, dtype=torch.float32)
    expected = LayerExcitationBackprop(copy.deepcopy(net).eval(), "drop").attribute(x, target=y)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        net(x)
        assert (dropout.layers["drop"].last.p_eb - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", NETS, ids=lambda kind: kind.__name__)
def test_scores_gradients_and_running_statistics_are_those_of_a_hand_written_masked_network(kind):
    net, x, y = made(kind)
    twin = copy.deepcopy(net)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        torch.manual_seed(1)
        scores = net(x)
        last = dropout.layers["drop"].last
    F.cross_entropy(scores, y).backward()

    h = twin.below(x)
    torch.manual_seed(1)
    keep = excitation_keep_mask(last.p_eb, 0.5, n=h[0].numel())
    assert torch.equal(keep, last.keep)
    assert not keep.all()
    mask = keep / keep.double().mean(tuple(range(1, keep.dim())), keepdim=True)
    expected = twin.above(h * mask.reshape(h.shape), x)
    F.cross_entropy(expected, y).backward()

    assert torch.allclose(scores, expected, atol=1e-12)
    gradients = {name: p.grad for name, p in twin.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    for name, parameter in net.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], atol=1e-12), name
    for name, buffer in net.named_buffers():
        assert torch.allclose(buffer, twin.get_buffer(name), atol=1e-12), name


def test_the_comparison_notices_a_wrong_mask():
    net, x, y = made(Net)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        scores = net(x)
        keep = dropout.layers["drop"].last.keep
    wrong = net.above(net.below(x) * keep.roll(1, 0) / keep.double().mean(1, keepdim=True), x)
    assert not torch.allclose(scores, wrong)


@pytest.mark.parametrize("kind", NETS, ids=lambda kind: kind.__name__)
def test_without_a_mask_the_run_with_dropout_is_the_plain_network_bit_for_bit(kind, monkeypatch):
    net, x, y = made(kind, dtype=torch.float32)
    twin = copy.deepcopy(net)
    twin.drop = Copy()
    torch.manual_seed(1)
    expected = twin(x)
    with attach(net, "drop") as dropout:
        layer = dropout.layers["drop"]
        monkeypatch.setattr(layer, "multiplier", lambda h, p_eb, has_target: torch.ones_like(h))
        dropout.arm(y)
        torch.manual_seed(1)
        scores = net(x)
    assert torch.equal(scores, expected)
    for gradient, wanted in zip(
        torch.autograd.grad(scores.sum(), list(net.parameters())),
        torch.autograd.grad(expected.sum(), list(twin.parameters())),
        strict=True,
    ):
        assert torch.equal(gradient, wanted)
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, twin.get_buffer(name)), name


class Copy(nn.Module):
    def forward(self, x):
        return x.clone()


def test_running_statistics_move_once_and_with_what_was_kept():
    net, x, y = made(BatchNorm)
    net.bn.momentum = 1.0
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        net(x)
        keep = dropout.layers["drop"].last.keep
    assert net.bn.num_batches_tracked == 1
    masked = net.below(x) * keep / keep.double().mean(1, keepdim=True)
    assert torch.allclose(net.bn.running_mean, net.fc2(masked).mean(0))


def test_other_dropouts_act_once_and_not_while_evidence_is_measured():
    net, x, y = made(UpperDropout)
    seen = []
    net.upper.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    expected = LayerExcitationBackprop(copy.deepcopy(net).eval(), "drop").attribute(x, target=y)
    seen.clear()
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        scores = net(x)
        assert torch.allclose(dropout.layers["drop"].last.p_eb, expected, atol=1e-9)
    ((before, after),) = seen
    assert torch.equal(before, after)  # the clean pass
    # The part above is a ReLU network: with the upper dropouts off, the scores would be others.
    masked = net.below(x) * dropout.layers["drop"].last.keep
    masked /= dropout.layers["drop"].last.keep.double().mean(1, keepdim=True)
    assert not torch.allclose(scores, net.fc3(F.relu(net.fc2(masked))))


# ------------------------------------------------------------------------------------------ when it acts


def test_the_layer_is_the_identity_in_evaluation_unarmed_without_gradients_and_at_rate_zero():
    net, x, y = made(Net)
    plain = net.above(net.below(x), x)
    with attach(net, "drop") as dropout:
        assert torch.equal(net(x), plain)
        dropout.arm(y)
        with torch.no_grad():
            assert torch.equal(net(x), plain)
        assert torch.equal(net.eval()(x), plain)
        net.train()
        dropout.layers["drop"].p = 0.0
        assert torch.equal(net(x), plain)
        dropout.layers["drop"].p = 0.5
        assert not torch.equal(net(x), plain)
        dropout.disarm()
        assert torch.equal(net(x), plain)


def test_ignored_examples_are_left_alone_and_the_others_are_not():
    net, x, y = made(Net)
    plain = net.above(net.below(x), x)
    y[[1, 4]] = torch.tensor([-1, -100])
    with attach(net, "drop", rescale="mass") as dropout:
        dropout.arm(y)
        scores = net(x)
        last = dropout.layers["drop"].last
    ignored = torch.tensor([1, 4])
    assert torch.allclose(scores[ignored], plain[ignored])
    assert last.keep[ignored].all()
    assert last.has_target.tolist() == [True, False, True, True, False, True]
    rest = torch.tensor([0, 2, 3, 5])
    assert not last.keep[rest].all(1).any()


def test_soft_labels_mix_the_maps_of_their_classes():
    net, x, y = made(Net)
    other = (y + 1) % 4
    soft = 0.3 * F.one_hot(y, 4) + 0.7 * F.one_hot(other, 4)
    maps = []
    with attach(net, "drop") as dropout:
        for targets in (y, other, soft, 5 * soft):  # weights need not sum to 1
            dropout.arm(targets)
            net(x)
            maps.append(dropout.layers["drop"].last.p_eb)
    assert torch.allclose(maps[2], 0.3 * maps[0] + 0.7 * maps[1], atol=1e-9)
    assert torch.allclose(maps[2], maps[3], atol=1e-9)


def test_the_predicted_class_is_that_of_the_clean_pass():
    net, x, _ = made(Net)
    predicted = net.above(net.below(x), x).argmax(1)
    maps = []
    with attach(net, "drop") as dropout:
        for targets in (predicted, "predicted"):
            dropout.arm(targets)
            net(x)
            maps.append(dropout.layers["drop"].last.p_eb)
    assert torch.equal(*maps)


def test_dense_scores_share_the_mass_over_their_labelled_places():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(6, 4, 1)).double()
    x, y = torch.randn(3, 2, 4, 5).double(), torch.randint(4, (3, 4, 5))
    y[0, :2] = -100
    y[1] = -100
    with attach(net, "2") as dropout:
        dropout.arm(y)
        net(x)
        p_eb = dropout.layers["2"].last.p_eb
    expected = torch.zeros_like(p_eb)
    h, w = net[1](net[0](x)), net[3].weight[:, :, 0, 0]
    for n in range(3):
        labelled = (y[n] >= 0).nonzero().tolist()
        for i, j in labelled:
            contribution = (h[n, :, i, j] * w[y[n, i, j]]).clamp(min=0)
            if contribution.sum() > 0:
                expected[n, :, i, j] = contribution / contribution.sum() / len(labelled)
    assert torch.allclose(p_eb, expected, atol=1e-9)


# ---------------------------------------------------------------------------------------- what is dropped


def test_channels_are_dropped_whole_by_their_summed_evidence():
    net, x, y = made(Convolutional)
    element, channel = {}, {}
    for unit, found in (("element", element), ("channel", channel)):
        twin = copy.deepcopy(net)
        with attach(twin, "drop", unit=unit, rescale="none") as dropout:
            dropout.arm(y)
            twin(x)
            found["last"] = dropout.layers["drop"].last
    assert element["last"].p_eb.shape == (6, 3, 6, 7)
    assert channel["last"].p_eb.shape == (6, 3, 1, 1)
    summed = element["last"].p_eb.sum((2, 3), keepdim=True)
    assert torch.allclose(channel["last"].p_eb, summed, atol=1e-9)


def test_layers_that_drop_channels_are_replaced_by_one_that_does():
    net, x, y = made(Convolutional)
    net.drop = nn.Dropout2d(0.4)
    with attach(net, "drop") as dropout:
        assert (dropout.layers["drop"].unit, dropout.layers["drop"].p) == ("channel", 0.4)
        dropout.arm(y)
        net(x).sum().backward()
    assert isinstance(net.drop, nn.Dropout2d)


def test_n_active_counts_the_units_that_are_on():
    net, x, y = made(Net)
    with attach(net, "drop", n="active", rescale="none") as dropout:
        dropout.arm(y)
        torch.manual_seed(1)
        net(x)
        last = dropout.layers["drop"].last
    active = (net.below(x) > 0).sum(1, keepdim=True)
    assert active.min() < 12
    torch.manual_seed(1)
    assert torch.equal(last.keep, excitation_keep_mask(last.p_eb, 0.5, n=active.clamp(min=2)))


def test_the_inverse_keeps_what_excitation_dropout_drops():
    net, x, y = made(Net)
    dropped = {}
    for inverse in (False, True):
        with attach(net, "drop", inverse=inverse) as dropout:
            dropout.arm(y)
            evidence = []
            for _ in range(30):
                net(x)
                evidence.append(dropout.layers["drop"].last.statistics()["dropped_evidence"])
            dropped[inverse] = torch.stack(evidence).mean()
    assert dropped[True] < 0.5 < dropped[False]


def test_statistics_are_means_over_examples_with_a_target():
    net, x, y = made(Net)
    y[2] = -1
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        net(x)
        last = dropout.layers["drop"].last
    found = last.statistics()
    rows = [0, 1, 3, 4, 5]
    p_eb, keep = last.p_eb[rows], last.keep[rows]
    assert found["peak_p_eb"].item() == pytest.approx(sum(row.max().item() for row in p_eb) / 5)
    assert found["dropped_units"].item() == pytest.approx((~keep).double().mean().item())
    assert found["dropped_evidence"].item() == pytest.approx((p_eb * ~keep).sum().item() / 5)
    assert found["lost_mass"].item() == pytest.approx(1 - p_eb.sum().item() / 5, abs=1e-9)


# ------------------------------------------------------------------------------------------ several layers


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(5, 12), nn.Linear(12, 9), nn.Linear(9, 4)
        self.drop1, self.drop2 = nn.Dropout(0.5), nn.Dropout(0.5)

    def forward(self, x):
        self.h1 = F.relu(self.fc1(x))
        z = F.relu(self.fc2(self.drop1(self.h1)))
        return self.fc3(self.drop2(z))


@pytest.mark.parametrize("how", ["one attachment", "two attachments", "the upper one first"])
def test_several_layers_are_measured_in_one_clean_pass_and_masked_one_after_the_other(how):
    torch.manual_seed(0)
    net = TwoLayers().double()
    x, y = torch.randn(6, 5).double(), torch.randint(4, (6,))
    expected = {
        name: LayerExcitationBackprop(copy.deepcopy(net).eval(), name).attribute(x, target=y)
        for name in ("drop1", "drop2")
    }
    names = {
        "one attachment": [["drop1", "drop2"]],
        "two attachments": [["drop1"], ["drop2"]],
        "the upper one first": [["drop2"], ["drop1"]],
    }[how]
    attachments = [attach(net, group, rescale="none") for group in names]
    layers = {name: layer for attachment in attachments for name, layer in attachment.layers.items()}
    for attachment in attachments:
        attachment.arm(y)
    calls = []
    net.fc3.register_forward_hook(lambda *_: calls.append(1))
    scores = net(x)
    assert len(calls) == 1
    for name, wanted in expected.items():
        assert torch.allclose(layers[name].last.p_eb, wanted, atol=1e-9)
    z = F.relu(net.fc2(net.h1 * layers["drop1"].last.keep))
    assert torch.allclose(scores, net.fc3(z * layers["drop2"].last.keep), atol=1e-12)
    for attachment in attachments:
        attachment.detach()
    assert type(net.drop1) is type(net.drop2) is nn.Dropout
    assert not net._forward_hooks.keys() - {next(iter(net._forward_hooks), None)}


def test_two_attachments_may_be_measured_against_different_targets():
    torch.manual_seed(0)
    net = TwoLayers().double()
    x, y = torch.randn(6, 5).double(), torch.randint(4, (6,))
    other = (y + 1) % 4
    twin = copy.deepcopy(net).eval()
    with attach(net, "drop1") as lower, attach(net, "drop2") as upper:
        lower.arm(y)
        upper.arm(other)
        net(x)
        for dropout, name, target in ((lower, "drop1", y), (upper, "drop2", other)):
            expected = LayerExcitationBackprop(twin, name).attribute(x, target=target)
            assert torch.allclose(dropout.layers[name].last.p_eb, expected, atol=1e-9)


def test_a_layer_that_runs_twice_is_masked_at_each_call():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(5, 12), nn.Linear(12, 12), nn.Linear(12, 4)
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            h = self.drop(F.relu(self.fc1(x)))
            return self.fc3(self.drop(F.relu(self.fc2(h))))

    torch.manual_seed(0)
    net = Shared().double()
    x, y = torch.randn(6, 5).double(), torch.randint(4, (6,))
    with attach(net, "drop", rescale="none") as dropout:
        layer = dropout.layers["drop"]
        masks = []
        draw = layer.multiplier

        def spy(*args):
            masks.append(draw(*args))
            return masks[-1]

        layer.multiplier = spy
        dropout.arm(y)
        scores = net(x)
    assert len(masks) == 2
    h = F.relu(net.fc1(x)) * masks[0]
    assert torch.allclose(scores, net.fc3(F.relu(net.fc2(h)) * masks[1]), atol=1e-12)


def test_rows_per_frame_share_the_evidence_of_their_clip():
    class PerFrame(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.drop, self.fc2 = nn.Linear(5, 12), nn.Dropout(0.5), nn.Linear(12, 4)

        def forward(self, x):  # (N, T, 5)
            h = self.drop(F.relu(self.fc1(x.flatten(0, 1))))
            return self.fc2(h).view(*x.shape[:2], 4).mean(1)

    torch.manual_seed(0)
    net = PerFrame().double()
    x, y = torch.randn(2, 3, 5).double(), torch.tensor([0, 2])
    with attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        torch.manual_seed(1)
        net(x)
        last = dropout.layers["drop"].last
    assert last.p_eb.shape == (6, 12)
    assert torch.allclose(last.p_eb.view(2, 36).sum(1), torch.ones(2).double())
    torch.manual_seed(1)
    assert torch.equal(last.keep, excitation_keep_mask(last.p_eb, 0.5, n=36))


# -------------------------------------------------------------------------------- what a network returns


@pytest.mark.parametrize("form", ["tuple", "list", "dict", "named tuple", "dataclass", "nested", "subclass"])
def test_networks_may_return_containers(form):
    import collections
    import dataclasses

    Pair = collections.namedtuple("Pair", ["logits", "h"])

    @dataclasses.dataclass(frozen=True)
    class Output:
        logits: torch.Tensor
        note: str

    class Record(collections.OrderedDict):
        pass

    wrap = {
        "tuple": lambda s, h: (s, h),
        "list": lambda s, h: [s, "x"],
        "dict": lambda s, h: {"logits": s, "h": h},
        "named tuple": Pair,
        "dataclass": lambda s, h: Output(s, "kept"),
        "nested": lambda s, h: {"out": s, "more": [{"h": h}, 3]},
        "subclass": lambda s, h: Record(scores=s),
    }[form]

    class Wrapped(Net):
        def forward(self, x):
            h = self.drop(self.below(x))
            return wrap(self.above(h, x), h)

    net, x, y = made(Wrapped)
    with attach(net, "drop", rescale="none") as dropout:
        dropout.arm(y)
        output = net(x)
        masked = net.below(x) * dropout.layers["drop"].last.keep
    assert type(output) is type(wrap(masked, masked))
    found = list(output.values()) if isinstance(output, dict) else output
    if form == "dataclass":
        assert output.note == "kept"
        found = [output.logits]
    assert torch.allclose(found[0], net.above(masked, x))
    if form == "nested":
        assert torch.allclose(found[1][0]["h"], masked)
        assert found[1][1] == 3
    if form in ("tuple", "named tuple"):
        assert torch.allclose(found[1], masked)


def test_a_loss_that_the_network_computes_itself_is_that_of_the_masked_run():
    class WithLoss(Net):
        def forward(self, x, y):
            scores = self.above(self.drop(self.below(x)), x)
            return {"loss": F.cross_entropy(scores, y), "logits": scores}

    net, x, y = made(WithLoss)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        output = net(x, y)
    assert torch.equal(output["loss"], F.cross_entropy(output["logits"], y))
    output["loss"].backward()
    assert net.fc1.weight.grad.abs().sum() > 0


def test_output_fn_may_compute_the_scores():
    class TwoHeads(Net):
        def forward(self, x):
            h = self.drop(self.below(x))
            return {"first": self.above(h, x), "second": self.above(2 * h, x)}

    net, x, y = made(TwoHeads)
    with attach(net, "drop", output_fn=lambda output: output["first"] + output["second"]) as dropout:
        dropout.arm(y)
        net(x)["first"].sum().backward()
        last = dropout.layers["drop"].last
    assert torch.allclose(last.p_eb.sum(1), torch.ones(6).double())


# ------------------------------------------------------------------------------------- where it is attached


def test_another_module_is_followed():
    net = nn.Sequential(nn.Linear(5, 12), nn.ReLU(inplace=True), nn.Linear(12, 4)).double()
    x, y = torch.randn(6, 5).double(), torch.randint(4, (6,))
    with attach(net, "1", p=0.3, rescale="none") as dropout:
        assert dropout.layers["1"].p == 0.3
        dropout.arm(y)
        scores = net(x)
        keep = dropout.layers["1"].last.keep
        assert torch.allclose(scores, net[2](F.relu(net[0](x)) * keep))
        assert torch.equal(net.eval()(x), net[2](F.relu(net[0](x))))
    assert not net[1]._forward_hooks


def test_the_model_is_restored_also_after_an_exception():
    net, x, y = made(Net)
    original, before = net.drop, list(net.state_dict())
    net.fc3.register_forward_hook(raise_interrupt)

    def train():
        with attach(net, "drop") as dropout:
            assert list(net.state_dict()) == before
            dropout.arm(y)
            net(x)

    with pytest.raises(KeyboardInterrupt):
        train()
    assert net.drop is original
    assert not net._forward_hooks
    assert not net._forward_pre_hooks
    net.fc3._forward_hooks.clear()
    torch.manual_seed(1)
    first = net(x)
    torch.manual_seed(1)
    assert torch.equal(first, net(x))  # no mode was left behind


def raise_interrupt(*_):
    raise KeyboardInterrupt


def test_an_exception_in_the_network_reaches_the_caller_and_the_next_pass_is_whole():
    net, x, y = made(Net)
    handle = net.fc3.register_forward_pre_hook(lambda *_: 1 / 0)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        with pytest.raises(ZeroDivisionError):
            net(x)
        assert torch.overrides._get_current_function_mode() is None
        handle.remove()
        dropout.arm(y)
        net(x).sum().backward()
        assert dropout.layers["drop"].last is not None


def test_training_mode_follows_the_layer_in_both_directions():
    net, _, _ = made(Net)
    net.eval()
    with attach(net, "drop") as dropout:
        assert not dropout.layers["drop"].training
        net.train()
    assert net.drop.training


def test_state_dicts_are_those_of_the_plain_model():
    net, _, y = made(Net)
    plain = {name: value.clone() for name, value in net.state_dict().items()}
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        assert list(net.state_dict()) == list(plain)
        net.load_state_dict(plain, strict=True)
    Net().double().load_state_dict(plain, strict=True)


@pytest.mark.parametrize("mode", [True, False])
def test_a_copy_is_the_model_as_it_was(mode):
    net, x, y = made(Net)
    net.drop.p = 0.25
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        net.train(mode)
        twin = copy.deepcopy(net)
    assert type(twin.drop) is nn.Dropout
    assert twin.drop is not net.drop
    assert (twin.drop.p, twin.drop.training) == (0.25, mode)
    torch.manual_seed(3)
    found = twin(x)
    torch.manual_seed(3)
    assert torch.equal(found, twin.above(twin.drop(twin.below(x)), x))
    net.train()


def test_a_saved_model_is_the_model_as_it_was(tmp_path):
    net, x, _ = made(Net)
    with attach(net, "drop"):
        torch.save(net, tmp_path / "net.pt")
    loaded = torch.load(tmp_path / "net.pt", weights_only=False)
    assert type(loaded.drop) is nn.Dropout
    assert torch.equal(loaded.eval()(x), net.above(net.below(x), x))


def test_a_layer_of_its_own_stays_what_it_is_in_a_copy():
    layer = ExcitationDropoutLayer(0.3, head=nn.Linear(4, 3))
    layer.arm(torch.tensor([1]))
    twin = copy.deepcopy(layer)
    assert type(twin) is ExcitationDropoutLayer
    assert (twin.p, twin.is_armed) == (0.3, False)


def test_names_of_dropout_layers_are_listed():
    assert dropout_names(TwoLayers()) == ["drop1", "drop2"]


def test_the_layers_own_rate_is_taken_over_unless_another_is_given():
    net, _, _ = made(Net)
    net.drop.p = 0.25
    with attach(net, "drop") as dropout:
        assert dropout.layers["drop"].p == 0.25
    with attach(net, "drop", p=0.7) as dropout:
        assert dropout.layers["drop"].p == 0.7
    assert net.drop.p == 0.25


def test_inputs_random_state_and_grad_mode_are_left_alone():
    net, x, y = made(Net)
    before = x.clone()
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        torch.manual_seed(3)
        net(x)
        state = torch.get_rng_state()
    torch.manual_seed(3)
    torch.rand(6, 12, dtype=torch.float64)  # one number per unit, no more
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(x, before)
    assert torch.is_grad_enabled()


def test_a_frozen_network_below_still_trains_what_is_above():
    net, x, y = made(Net)
    net.fc1.requires_grad_(False)
    with attach(net, "drop") as dropout:
        dropout.arm(y)
        F.cross_entropy(net(x), y).backward()
        assert dropout.layers["drop"].last.p_eb.sum() > 0
    assert net.fc1.weight.grad is None
    assert net.fc2.weight.grad.abs().sum() > 0
