"""The three classes as Captum's users meet them: NoiseTunnel, metrics, tuples, names, dtypes, layouts."""

import inspect

import pytest
import torch
from attr_toys import N_FEATURES, SIZE, ToyCNN, images, small_cnn, toy_clips, toy_cnn_lstm
from captum.attr import Attribution, LayerAttribution, NoiseTunnel
from captum.log import log_usage
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop

CLASSES = [ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop]


def make(name, dtype=torch.float32, **settings):
    model = toy_cnn_lstm(0, **settings) if name == "recurrent" else small_cnn()
    model = model.to(dtype)
    explainer = {
        "input": lambda: ExcitationBackprop(model),
        "layer": lambda: LayerExcitationBackprop(model, "4"),
        "recurrent": lambda: RecurrentExcitationBackprop(model, "cnn.relu2"),
    }[name]()
    x = (toy_clips(3) if name == "recurrent" else images(3)).to(dtype)
    targets = [(3, 1), (1, 0), (2, 2)] if name == "recurrent" else [1, 0, 3]
    return explainer, x, targets


@pytest.fixture(params=["input", "layer", "recurrent"])
def name(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["plain", "contrastive"])
def contrastive(request):
    return request.param


# NoiseTunnel


@pytest.mark.parametrize("per_example", [False, True], ids=["one target", "a list of targets"])
@pytest.mark.parametrize("samples_batch_size", [None, 1])
def test_smoothgrad_without_noise_is_the_plain_map(name, contrastive, per_example, samples_batch_size):
    explainer, x, targets = make(name)
    target = targets if per_example else targets[0]
    expected = explainer.attribute(x, target, contrastive=contrastive)
    found = NoiseTunnel(explainer).attribute(
        x,
        nt_type="smoothgrad",
        nt_samples=3,
        nt_samples_batch_size=samples_batch_size,
        stdevs=0.0,
        target=target,
        contrastive=contrastive,
    )
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-6)


def test_smoothgrad_with_noise_differs(name):
    explainer, x, targets = make(name)
    torch.manual_seed(0)
    found = NoiseTunnel(explainer).attribute(x, nt_samples=2, stdevs=0.5, target=targets)
    assert not torch.allclose(found, explainer.attribute(x, targets), atol=1e-4)


def test_noise_tunnel_returns_the_delta_of_every_sample():
    explainer, x, targets = make("input")
    found, delta = NoiseTunnel(explainer).attribute(
        x, nt_samples=2, stdevs=0.0, target=targets, return_convergence_delta=True
    )
    assert found.shape == x.shape
    assert delta.shape == (6,)


def test_noise_tunnel_takes_tuples_and_additional_arguments():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def forward(self, a, b, scale):
            return self.net(a + b) * scale

    explainer, x = ExcitationBackprop(Two()), (images(2), images(2, seed=2))
    settings = {"target": [1, 2], "additional_forward_args": torch.tensor([[1.0], [2.0]])}
    expected = explainer.attribute(x, **settings)
    found = NoiseTunnel(explainer).attribute(x, nt_samples=2, stdevs=0.0, **settings)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))


# Metrics


def perturb(inputs):
    noise = tuple(0.01 * torch.ones_like(x) for x in inputs)
    return noise, tuple(x - n for x, n in zip(inputs, noise, strict=True))


@pytest.mark.parametrize("channels_last", [False, True])
def test_infidelity_and_sensitivity_run(contrastive, channels_last):
    explainer, x, targets = make("input")
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    found = explainer.attribute(x, targets, contrastive=contrastive)
    score = infidelity(
        explainer.model,
        lambda inputs: (0.01 * torch.ones_like(inputs), inputs - 0.01),
        x,
        found,
        target=targets,
        n_perturb_samples=2,
    )
    assert score.shape == (3,)
    assert torch.isfinite(score).all()
    torch.manual_seed(0)
    sensitivity = sensitivity_max(
        explainer.attribute, x, target=targets, contrastive=contrastive, n_perturb_samples=2
    )
    assert sensitivity.shape == (3,)
    assert torch.isfinite(sensitivity).all()


def test_infidelity_of_a_tuple_runs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_cnn()

        def forward(self, a, b):
            return self.net(a) + self.net(b)

    x = images(2), images(2, seed=2)
    found = ExcitationBackprop(Two()).attribute(x, 1)
    assert infidelity(Two(), perturb, x, found, target=1, n_perturb_samples=2).shape == (2,)
    assert sensitivity_max(ExcitationBackprop(Two()).attribute, x, target=1).shape == (2,)


def test_the_map_of_clips_can_be_enlarged():
    explainer, x, targets = make("recurrent")
    found = explainer.attribute(x, targets, contrastive=True, sum_channels=True)
    for mode in ("nearest", "trilinear"):
        enlarged = LayerAttribution.interpolate(found, (x.shape[2], SIZE, SIZE), mode)
        assert enlarged.shape == (3, 1, *x.shape[2:])
    assert isinstance(explainer, LayerAttribution)
    assert isinstance(explainer.interpolate(found, (4, SIZE, SIZE)), torch.Tensor)


# The contract in small things


@pytest.mark.parametrize("cls", CLASSES)
def test_log_usage_leaves_the_wrapped_function(cls):
    assert inspect.isfunction(cls.attribute.__wrapped__)
    assert list(inspect.signature(cls.attribute).parameters)[:4] == [
        "self", "inputs", "target", "additional_forward_args",
    ]  # fmt: skip
    after = list(inspect.signature(cls.attribute).parameters.values())[4:]
    assert all(p.kind is p.KEYWORD_ONLY or p.name == "attribute_to_layer_input" for p in after)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("input", "Excitation Backprop"),
        ("layer", "Layer Excitation Backprop"),
        ("recurrent", "Recurrent Excitation Backprop"),
    ],
)
def test_names_and_flags(name, expected):
    explainer = make(name)[0]
    assert explainer.get_name() == expected
    assert explainer.has_convergence_delta() is True
    assert explainer.multiplies_by_inputs is True
    assert explainer.forward_func is explainer.model
    assert isinstance(explainer, Attribution)
    with pytest.raises(NotImplementedError, match=expected):
        explainer.attribute_future()


@pytest.mark.parametrize("keyword", ["contrast", "n_steps", "baselines"])
def test_misspelt_keywords_are_type_errors(name, keyword):
    explainer, x, targets = make(name)
    with pytest.raises(TypeError, match=keyword):
        explainer.attribute(x, targets, **{keyword: True})


def test_tensor_in_tensor_out_and_tuple_in_tuple_out():
    explainer, x, targets = make("input")
    alone = explainer.attribute(x, targets)
    (in_tuple,) = explainer.attribute((x,), targets)
    assert isinstance(alone, torch.Tensor)
    assert torch.equal(alone, in_tuple)
    found, delta = explainer.attribute((x,), targets, return_convergence_delta=True)
    assert isinstance(found, tuple)
    assert delta.shape == (3,)


def test_the_layer_decides_about_the_shape_of_layer_maps():
    explainer, x, targets = make("layer")
    assert torch.equal(explainer.attribute((x,), targets), explainer.attribute(x, targets))


def test_tuples_share_one_unit_of_mass():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.head = nn.Linear(4, 6), nn.Linear(5, 6), nn.Linear(6, 3)

        def forward(self, a, b):
            return self.head((self.a(a) + self.b(b)).relu())

    x = torch.randn(3, 4), torch.randn(3, 5)
    (a, b), delta = ExcitationBackprop(Two()).attribute(x, 1, return_convergence_delta=True)
    assert (a.shape, b.shape) == (x[0].shape, x[1].shape)
    assert torch.allclose(a.sum(1) + b.sum(1) + delta, torch.ones(3), atol=1e-5)
    assert (a.sum(1) > 0).all()
    assert (b.sum(1) > 0).all()


@pytest.mark.parametrize("extra", ["tensor", "tuple", "number", "grad"])
def test_additional_forward_args_reach_the_model_and_get_no_mass(name, extra):
    class Scaled(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, x, scale, shift=None):
            y = x * scale
            return self.body(y if shift is None else y + shift)

    explainer, x, targets = make(name)
    ones = [1] * (x.dim() - 1)
    scale = torch.tensor([2.0, 0.5, 1.0]).view(-1, *ones)
    args = {
        "tensor": scale,
        "tuple": (scale, torch.full_like(x, 0.25)),
        "number": 2.0,
        "grad": scale.clone().requires_grad_(),
    }[extra]
    as_tuple = args if isinstance(args, tuple) else (args,)
    model = Scaled(explainer.model)
    with torch.no_grad():
        inside = x * as_tuple[0] + (as_tuple[1] if len(as_tuple) > 1 else 0)
    if name == "input":
        expected = explainer.attribute(inside, targets)
        found = ExcitationBackprop(model).attribute(x, targets, args)
        # The scale passes mass on as it is; the constant shift is a bias.
        assert torch.allclose(found, expected, atol=1e-6)
    else:
        cls, layer = type(explainer), {"layer": "body.4", "recurrent": "body.cnn.relu2"}[name]
        found = cls(model, layer).attribute(x, targets, args)
        assert torch.allclose(found, explainer.attribute(inside, targets), atol=1e-6)
    assert not isinstance(args, torch.Tensor) or args.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_are_detached_contiguous_and_of_the_inputs_dtype(name, contrastive, dtype):
    explainer, x, targets = make(name, dtype)
    found, delta = explainer.attribute(x, targets, contrastive=contrastive, return_convergence_delta=True)
    for tensor in (found, delta):
        assert tensor.dtype == dtype
        assert tensor.is_contiguous()
        assert not tensor.requires_grad
        assert tensor.grad_fn is None
    double = make(name, torch.float64)[0].attribute(x.double(), targets, contrastive=contrastive)
    assert torch.allclose(found.double(), double, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_keep_their_dtype_and_their_mass(name, contrastive, dtype):
    explainer, x, targets = make(name, dtype)
    found, delta = explainer.attribute(x, targets, contrastive=contrastive, return_convergence_delta=True)
    assert found.dtype == dtype
    total = found.double().flatten(1).sum(1)
    assert (total - float(not contrastive)).abs().max() <= 1e-2
    assert (delta.double() + total - float(not contrastive)).abs().max() <= 1e-2


def test_two_calls_agree_to_the_bit(name, contrastive):
    explainer, x, targets = make(name)
    first = explainer.attribute(x, targets, contrastive=contrastive)
    explainer.attribute(x.flip(0), targets, contrastive=not contrastive)
    assert torch.equal(first, explainer.attribute(x, targets, contrastive=contrastive))


def test_threads_can_share_an_explainer(name, contrastive):
    from concurrent.futures import ThreadPoolExecutor

    explainer, x, targets = make(name)
    expected = explainer.attribute(x, targets, contrastive=contrastive)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(explainer.attribute, x, targets, contrastive=contrastive) for _ in range(12)]
        for job in jobs:
            assert torch.equal(job.result(), expected)


def test_channels_last_is_the_same_map(name, contrastive):
    explainer, x, targets = make(name)
    expected = explainer.attribute(x, targets, contrastive=contrastive)
    form = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
    found = explainer.attribute(x.contiguous(memory_format=form), targets, contrastive=contrastive)
    assert found.is_contiguous()
    assert torch.allclose(found, expected, atol=1e-5)
    if x.dim() == 4:
        explainer.model.to(memory_format=torch.channels_last)
        again = explainer.attribute(x.contiguous(memory_format=form), targets, contrastive=contrastive)
        assert torch.allclose(again, expected, atol=1e-5)


def test_row_i_is_example_i(name, contrastive):
    explainer, x, targets = make(name)
    batch = explainer.attribute(x, targets, contrastive=contrastive)
    for i, target in enumerate(targets):
        alone = explainer.attribute(x[i : i + 1], target, contrastive=contrastive)
        assert torch.allclose(batch[i : i + 1], alone, atol=1e-5)


# Time folded into the batch, also without the recurrent class


class PerFrame(nn.Module):
    """Scores per frame, averaged; frames folded "NT" or "TN", or an LSTM that has time first."""

    def __init__(self, folding):
        super().__init__()
        torch.manual_seed(0)
        self.cnn, self.classifier, self.folding = ToyCNN(), nn.Linear(N_FEATURES, 3), folding
        self.lstm = nn.LSTM(N_FEATURES, N_FEATURES)
        nn.init.constant_(self.cnn.fc.bias, 0.5)

    def forward(self, x):
        n, t = x.shape[0], x.shape[2]
        if self.folding == "NT":
            frames = x.transpose(1, 2).flatten(0, 1)
            return self.classifier(self.cnn(frames)).view(n, t, -1).mean(1)
        features = self.cnn(x.permute(2, 0, 1, 3, 4).flatten(0, 1))
        if self.folding == "TN":
            return self.classifier(features).view(t, n, -1).mean(0)
        return self.classifier(self.lstm(features.view(t, n, -1))[0]).mean(0)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("folding", ["NT", "TN", "time first"])
@pytest.mark.parametrize("at", ["input", "layer"])
def test_row_i_is_example_i_where_the_classifier_sees_time_first(folding, at, n, contrastive):
    model = PerFrame(folding).double().eval()
    order = "NT" if folding == "NT" else "TN"
    explainer = (
        ExcitationBackprop(model)
        if at == "input"
        else LayerExcitationBackprop(model, "cnn.relu2", frame_order=order)
    )
    x, targets = toy_clips(n), [0, 2, 1][:n]
    batch = explainer.attribute(x, targets, contrastive=contrastive)
    for i, target in enumerate(targets):
        alone = explainer.attribute(x[i : i + 1], target, contrastive=contrastive)
        assert torch.allclose(batch[i : i + 1], alone, atol=1e-9)


@pytest.mark.parametrize(("n", "t"), [(1, 4), (2, 4), (3, 3), (3, 4)])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_layer_between_cnn_and_lstm_has_its_map_by_example(n, t, batch_first):
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.cnn, self.projection = ToyCNN(), nn.Sequential(nn.Linear(N_FEATURES, 5), nn.ReLU())
            self.lstm, self.classifier = nn.LSTM(5, 4, batch_first=batch_first), nn.Linear(4, 3)

        def forward(self, x):
            features = self.cnn(x.transpose(1, 2).flatten(0, 1)).view(len(x), t, -1)
            if not batch_first:
                features = features.transpose(0, 1)
            hidden = self.lstm(self.projection(features))[0]
            return self.classifier(hidden if batch_first else hidden.transpose(0, 1))

    explainer = RecurrentExcitationBackprop(Projected().double().eval(), "projection")
    x, target = toy_clips(n, t), (t - 1, 1)
    try:
        batch = explainer.attribute(x, target)
    except ValueError as error:
        assert "rows" in str(error)  # noqa: PT017
        return
    alone = torch.cat([explainer.attribute(x[i : i + 1], target) for i in range(n)])
    assert batch.shape == alone.shape
    assert torch.allclose(batch, alone, atol=1e-9)
    assert sorted(batch.shape[1:]) == sorted((5, t))


@pytest.mark.parametrize("layer", ["projection", "cnn.out"])
def test_sum_channels_keeps_the_scores_of_the_frames(layer):
    # Whether the layer sees (N * T, D) or (N, T, D): S_t is what the sum over channels is for.
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.cnn, self.projection = ToyCNN(), nn.Sequential(nn.Linear(N_FEATURES, 5), nn.ReLU())
            self.lstm, self.classifier = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 3)
            nn.init.constant_(self.cnn.fc.bias, 0.5)

        def forward(self, x):
            features = self.cnn(x.transpose(1, 2).flatten(0, 1)).view(len(x), x.shape[2], -1)
            return self.classifier(self.lstm(self.projection(features))[0])

    model, x = Projected().double().eval(), toy_clips(2, 4)
    scores = RecurrentExcitationBackprop(model, "cnn.relu2").attribute(x, (3, 1)).sum((1, 3, 4))
    found = RecurrentExcitationBackprop(model, layer).attribute(x, (3, 1), sum_channels=True)
    assert found.flatten(1).shape == scores.shape
    assert torch.allclose(found.flatten(1), scores, atol=1e-9)


def test_a_layer_that_runs_twice_in_a_row_is_refused():
    # The same ReLU object behind both convolutions, as in torchvision's ResNets.
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 6)
            self.relu, self.head = nn.ReLU(), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.relu(self.second(self.relu(self.first(x)))))

    with pytest.raises(ValueError, match="runs several times in a row"):
        LayerExcitationBackprop(Shared(), "relu").attribute(torch.rand(2, 4), 1)


# Negative controls: broken classes that the checks above must reject.


class WithoutWrapped(ExcitationBackprop):
    def attribute(self, *args, **kwargs):
        return ExcitationBackprop.attribute(self, *args, **kwargs)


class FoldedRows(RecurrentExcitationBackprop):
    """Returns (N * T, C, h, w), as Captum's own layer methods do."""

    @log_usage()
    def attribute(self, *args, **kwargs):
        found = RecurrentExcitationBackprop.attribute(self, *args, **kwargs)
        return found.transpose(1, 2).flatten(0, 1)


def test_a_class_without_wrapped_is_noticed():
    explainer, x, targets = make("input")
    with pytest.raises(AttributeError, match="__wrapped__"):
        NoiseTunnel(WithoutWrapped(explainer.model)).attribute(x, stdevs=0.0, target=targets)


def test_a_class_that_folds_time_into_the_rows_is_noticed():
    _, x, targets = make("recurrent")
    explainer = FoldedRows(toy_cnn_lstm(0).float(), "cnn.relu2")
    expected = explainer.attribute(x, targets)
    found = NoiseTunnel(explainer).attribute(x, nt_samples=3, stdevs=0.0, target=targets)
    assert not torch.allclose(found, expected, atol=1e-4)


class SwapsRows(ExcitationBackprop):
    def attribute(self, *args, **kwargs):
        return ExcitationBackprop.attribute(self, *args, **kwargs).flip(0)


def test_a_class_that_mixes_up_examples_is_noticed():
    _, x, targets = make("input")
    explainer = SwapsRows(small_cnn())
    batch = explainer.attribute(x, targets)
    assert not torch.allclose(batch[:1], explainer.attribute(x[:1], targets[0]), atol=1e-5)
