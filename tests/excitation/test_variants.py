"""One model in the many ways to keep and run it: layouts, dtypes, wrappers, shared modules, modes.

tests/attr/test_attr_guards.py holds checkpointing, scripted modules, compiled modules and training mode with
consequences; tests/excitation/test_equivalent_models.py the many ways to write one.
"""

from __future__ import annotations

import copy
import math
import threading
import warnings
from unittest import mock

import pytest
import torch
from dense_reference import numbers, randomize
from torch import Tensor, nn
from torch.nn.utils import prune

from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop, RecurrentExcitationBackprop
from captum_ext.excitation import UnsupportedOperationError, numerics

N, H, W, N_CLASSES = 2, 9, 6, 4


class Net(nn.Module):
    """Convolutions, batch norm of either sign, a residual sum, pools and a classifier."""

    n_weighted_layers = 3

    def __init__(self, n_axes: int = 2) -> None:
        super().__init__()
        conv, norm = getattr(nn, f"Conv{n_axes}d"), getattr(nn, f"BatchNorm{n_axes}d")
        self.stem = nn.Sequential(conv(3, 8, 3, padding=1), norm(8), nn.ReLU(), self.pool(n_axes))
        self.block, self.head = conv(8, 8, 3, padding=1), nn.Linear(8, N_CLASSES)

    def pool(self, n_axes: int) -> nn.Module:
        return getattr(nn, f"MaxPool{n_axes}d")(2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        a = (self.block(a) + a).relu()
        return self.head(a.flatten(2).mean(2))


class Attention(nn.Module):
    """Two encoder layers on the rows of an image, as a sequence."""

    n_weighted_layers = 14

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu")
        self.embed, self.encoder = nn.Linear(3 * W, 8), nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x.transpose(1, 2).flatten(2))).mean(1))


class Recurrent(nn.Module):
    """A CNN on each frame, called once per time step, and an LSTM."""

    n_weighted_layers = 5

    def __init__(self, per_step: bool = True) -> None:
        super().__init__()
        self.frame = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.lstm, self.head = nn.LSTM(4, 5, 2, batch_first=True), nn.Linear(5, N_CLASSES)
        self.per_step = per_step

    def forward(self, clips: Tensor) -> Tensor:
        if self.per_step:
            features = torch.stack([self.frame(frame) for frame in clips.unbind(2)], 1)
        else:
            features = self.frame(clips.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(clips), -1))
        return self.head(self.lstm(features)[0][:, -1])


def quiet(kind: type[nn.Module], *args: object) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the encoder's remark on nested tensors
        return kind(*args)


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    return numbers(N, 3, H, W, seed=4).to(dtype)


def clips() -> Tensor:
    return numbers(N, 3, 5, H, W, seed=4).float()


CASES = {
    "cnn": (Net, images),
    "3-D cnn": (lambda: Net(3), clips),
    "attention": (Attention, images),
    "cnn-lstm": (Recurrent, clips),
}


@pytest.fixture(params=CASES)
def case(request):
    make, inputs = CASES[request.param]
    return randomize(quiet(make), 5).float(), inputs()


def explain(net: nn.Module, x: Tensor, **options: object) -> Tensor:
    return ExcitationBackprop(net).attribute(x, target=[1, 3], **options)


def distance(found: Tensor, expected: Tensor) -> float:
    """The mass that would have to move, as a share of all mass."""
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).abs().sum() / (2 * expected.double().abs().sum()))


# ---------------------------------------------------------------------------------------- layout


@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("contrastive", [False, True])
def test_channels_last_gives_the_same_map_and_stays(n_axes, contrastive):
    net = randomize(Net(n_axes), 1).float()
    x = images() if n_axes == 2 else clips()
    expected = explain(net, x, contrastive=contrastive)
    layout = torch.channels_last if n_axes == 2 else torch.channels_last_3d
    net, x = net.to(memory_format=layout), x.to(memory_format=layout)
    found = explain(net, x, contrastive=contrastive)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert found.is_contiguous()
    assert x.is_contiguous(memory_format=layout)
    assert net.stem[0].weight.is_contiguous(memory_format=layout)
    assert not net.stem[0].weight.is_contiguous()


# ---------------------------------------------------------------------------------------- precision

# Every layer rounds what it returns once, so an activation is off by about the unit roundoff per layer in
# front of it, relative to the size of its summands. A share is a ratio of two such numbers, and the shares
# of all layers multiply: 2 L times the roundoff, twice that since a model in this dtype rounds weights and
# inputs as well, and as much again for winners of pools and signs that change where values are all but equal.
ROUNDOFF = {torch.bfloat16: 2**-9, torch.float16: 2**-11}


def bound(net: nn.Module, dtype: torch.dtype) -> float:
    return 8 * net.n_weighted_layers * ROUNDOFF[dtype]


def dtypes_of_rules(explain_it) -> tuple[Tensor, set[torch.dtype]]:
    """The map, and the dtypes in which mass was divided: that of the supports, which take the quotients."""
    seen = set()

    def watched(mass: Tensor, support: Tensor) -> Tensor:
        seen.add(support.dtype)
        return numerics.safe_divide(mass, support)

    with mock.patch("captum_ext.excitation.maps.safe_divide", watched):
        return explain_it(), seen


@pytest.mark.parametrize("dtype", ROUNDOFF, ids=str)
def test_autocast_is_off_by_its_rounding_only_and_rules_run_in_float32(case, dtype):
    net, x = case
    expected = explain(net, x)
    with torch.autocast("cpu", dtype=dtype):
        assert net(x).dtype == dtype
        found, seen = dtypes_of_rules(lambda: explain(net, x))
    assert found.dtype == torch.float32
    assert seen == {torch.float32}
    assert 0 < distance(found, expected) < bound(net, dtype)


@pytest.mark.parametrize("dtype", ROUNDOFF, ids=str)
def test_a_model_in_half_precision_is_off_by_its_rounding_only_and_rules_run_in_float32(case, dtype):
    net, x = case
    expected = explain(net, x)
    net, x = net.to(dtype), x.to(dtype)
    found, seen = dtypes_of_rules(lambda: explain(net, x))
    assert found.dtype == dtype
    assert seen == {torch.float32}
    assert 0 < distance(found, expected) < bound(net, dtype)
    assert {parameter.dtype for parameter in net.parameters()} == {dtype}


def test_a_model_in_float64_is_explained_in_float64(case):
    net, x = case
    expected = explain(net, x)
    found, seen = dtypes_of_rules(lambda: explain(net.double(), x.double()))
    assert found.dtype == torch.float64
    assert seen == {torch.float64}
    assert distance(found, expected) < 1e-4
    assert abs(float(found.sum()) - N) < 0.5


def test_the_bound_would_notice_a_rule_in_half_precision():
    net, x = randomize(Net(), 5).float(), images()
    expected = explain(net, x)

    def rounded(mass: Tensor, support: Tensor) -> Tensor:
        return numerics.safe_divide(mass, support.bfloat16().float()).mul(1.05)

    with mock.patch("captum_ext.excitation.maps.safe_divide", rounded):
        assert distance(explain(net, x), expected) > bound(net, torch.bfloat16)


# ---------------------------------------------------------------------------------------- parameters, sharing


@pytest.mark.parametrize("contrastive", [False, True])
def test_frozen_parameters_change_nothing(case, contrastive):
    net, x = case
    expected = explain(net, x, contrastive=contrastive)
    found = explain(net.requires_grad_(False), x, contrastive=contrastive)
    assert torch.equal(found, expected)


def test_parametrized_weights_are_those_of_the_plain_layer():
    net, x = randomize(Net(), 2).float(), images()
    expected = explain(net, x)
    nn.utils.parametrizations.weight_norm(net.block)
    torch.testing.assert_close(explain(net, x), expected, rtol=1e-4, atol=1e-7)
    pruned = copy.deepcopy(net.stem[0])
    prune.l1_unstructured(pruned, "weight", 0.3)
    with_mask = explain(nn.Sequential(pruned, nn.ReLU(), nn.Flatten()), x)
    prune.remove(pruned, "weight")
    assert torch.equal(explain(nn.Sequential(pruned, nn.ReLU(), nn.Flatten()), x), with_mask)


class Twice(nn.Module):
    """Two convolutions that may be one module, in a row and side by side."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.first = randomize(nn.Conv2d(3, 3, 3, padding=1), 1)
        self.second = self.first if shared else copy.deepcopy(self.first)
        self.act, self.head = nn.ReLU(inplace=shared), randomize(nn.Linear(3 * H * W, N_CLASSES), 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.second(self.act(self.first(x))))
        return self.head((a + self.first(a) - self.second(x)).tanh().flatten(1))


@pytest.mark.parametrize("contrastive", [False, True])
def test_a_shared_module_is_explained_like_copies_of_it(contrastive):
    shared, copies, x = Twice(True).eval(), Twice(False).eval(), images(torch.float64)
    assert torch.equal(shared(x), copies(x))
    torch.testing.assert_close(
        explain(shared, x, contrastive=contrastive), explain(copies, x, contrastive=contrastive)
    )


def test_tied_weights_are_explained_like_copies_of_them():
    tied, copies, x = Twice(False).eval(), Twice(False).eval(), images(torch.float64)
    tied.second.weight = tied.first.weight
    torch.testing.assert_close(explain(tied, x), explain(copies, x))


@pytest.mark.parametrize("contrastive", [False, True])
def test_a_module_called_once_per_time_step_is_explained_like_one_call_on_all_frames(contrastive):
    per_step = randomize(Recurrent(per_step=True), 1)
    folded, x = copy.deepcopy(per_step), clips().double()
    folded.per_step = False
    expected = explain(folded, x, contrastive=contrastive)
    assert expected.abs().sum() > 0.1
    torch.testing.assert_close(explain(per_step, x, contrastive=contrastive), expected)
    maps = [
        RecurrentExcitationBackprop(net, "frame.1").attribute(x, target=1, contrastive=contrastive)
        for net in (per_step, folded)
    ]
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(W),
        nn.GroupNorm(3, 3),
        nn.InstanceNorm2d(3),
        nn.Dropout(0.0),
        nn.ReLU(inplace=True),
        nn.Linear(W, W),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_training_mode_does_not_change_may_stay_in_it(layer):
    net = randomize(nn.Sequential(nn.Conv2d(3, 3, 1), layer, nn.Flatten(), nn.Linear(3 * H * W, N_CLASSES)))
    x = images(torch.float64)
    expected = explain(net, x)
    assert torch.equal(explain(net.train(), x), expected)
    assert all(module.training for module in net.modules())


def test_recurrent_layers_without_dropout_may_stay_in_training_mode():
    net, x = randomize(Recurrent(), 1), clips().double()
    expected = explain(net, x)
    assert torch.equal(explain(net.train(), x), expected)


# ---------------------------------------------------------------------------------------- wrappers


def test_a_traced_graph_module_and_a_functional_call_give_the_plain_map():
    net, x = randomize(Net(), 2).float(), images()
    expected = explain(net, x)
    assert torch.equal(explain(torch.fx.symbolic_trace(net), x), expected)
    called = Wrapper(lambda y: torch.func.functional_call(net, dict(net.named_parameters()), (y,)))
    assert torch.equal(explain(called, x), expected)


class Wrapper(nn.Module):
    def __init__(self, run) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# "eager" runs the captured operations as they are, "aot_eager" leaves nodes of its own in the graph.
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("what", ["model", "submodule", "in place", "forward", "function"])
@pytest.mark.parametrize("contrastive", [False, True])
def test_what_was_compiled_and_has_run_is_explained_eagerly(what, backend, contrastive, fresh_compiler):
    net, x = randomize(Net(), 2).float(), images()
    expected = explain(net, x, contrastive=contrastive)
    scores = net(x)
    match what:
        case "model":
            model = torch.compile(net, backend=backend)
        case "submodule":
            net.stem = torch.compile(net.stem, backend=backend)
            model = net
        case "in place":
            net.block.compile(backend=backend)
            model = net
        case "forward":
            net.stem.forward = torch.compile(net.stem.forward, backend=backend)
            model = net
        case "function":
            model = Wrapper(torch.compile(lambda y: net(y), backend=backend))
    torch.testing.assert_close(model(x), scores)
    found = explain(model, x, contrastive=contrastive)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(model(x), scores)


def test_a_data_parallel_model_takes_layers_by_the_names_of_the_plain_one():
    net, x = randomize(Net(), 2).float(), images()
    expected = LayerExcitationBackprop(net, "stem").attribute(x, target=1)
    parallel = nn.DataParallel(net)
    assert torch.equal(LayerExcitationBackprop(parallel, "stem").attribute(x, target=1), expected)
    assert torch.equal(LayerExcitationBackprop(parallel, net.stem).attribute(x, target=1), expected)
    compiled = torch.compile(parallel, backend="eager")
    assert torch.equal(LayerExcitationBackprop(compiled, "stem").attribute(x, target=1), expected)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_a_distributed_model_gives_the_map_of_the_plain_one():
    net, x = randomize(Net(), 2).float(), images()
    expected = explain(net, x)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        assert torch.equal(explain(nn.parallel.DistributedDataParallel(net), x), expected)
    finally:
        torch.distributed.destroy_process_group()


# ---------------------------------------------------------------------------------------- out of sight


class InThread(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        results = []

        def run() -> None:
            with torch.enable_grad():
                results.append(self.inner(x))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return results[0]


class Mapped(InThread):
    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(lambda row: self.inner(row[None])[0])(x)


def scripted(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


def traced(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, torch.rand(N, 3, H, W))


# Also operations that only move mass: without them a chain of linear maps would be torn apart.
HIDDEN = {
    "conv": lambda: nn.Conv2d(3, 3, 1),
    "max pool": lambda: nn.MaxPool2d(3, 1, 1),
    "flatten": lambda: nn.Flatten(2),
    "transpose": lambda: Transpose(),
    "relu": nn.ReLU,
}


class Transpose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(2, 3)


@pytest.mark.parametrize("hide", [InThread, Mapped, scripted, traced], ids=lambda hide: hide.__name__)
@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.parametrize("contrastive", [False, True])
def test_what_runs_where_the_mode_does_not_see_it_is_a_clear_error(name, hide, contrastive):
    inner = randomize(HIDDEN[name]()).float()

    def net(module: nn.Module) -> nn.Module:
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 3, 1), module, nn.Flatten(), nn.Linear(3 * H * W, N_CLASSES)
        return nn.Sequential(*layers).eval()

    assert explain(net(inner), images(), contrastive=contrastive).abs().sum() > 0
    with pytest.raises(UnsupportedOperationError, match=r"scripted module, another thread"):
        explain(net(hide(inner)), images(), contrastive=contrastive)


def test_the_whole_model_in_a_thread_is_a_clear_error():
    with pytest.raises(UnsupportedOperationError, match="another thread"):
        explain(InThread(randomize(Net(), 2).float()), images())


def test_explanations_in_threads_of_their_own_do_not_disturb_each_other():
    nets = [randomize(Net(), seed).float() for seed in range(4)]
    expected = [explain(net, images()) for net in nets]
    found: dict[int, list[Tensor]] = {k: [] for k in range(4)}

    def work(k: int) -> None:
        found[k] += [explain(nets[k], images()) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(maps) == 5 for maps in found.values())
    assert all(torch.equal(map_, expected[k]) for k, maps in found.items() for map_ in maps)


def test_an_exported_program_is_a_clear_error():
    net, x = randomize(Net(), 2).float(), images()
    program = torch.export.export(net, (x,)).module()
    with pytest.raises(UnsupportedOperationError, match="aten"):
        explain(program, x)


def test_a_quantised_layer_is_a_clear_error():
    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3 * H * W, N_CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return torch.fake_quantize_per_tensor_affine(self.head(x.flatten(1)), 0.1, 0, -128, 127)

    with pytest.raises(UnsupportedOperationError, match="fake_quantize"):
        explain(Quantised().eval(), images())


# ---------------------------------------------------------------------------------------- GPU


NO_GPU = "no CUDA device: maps on a GPU are not compared with those on the CPU"


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_maps_on_a_gpu_are_those_of_the_cpu(case, dtype, contrastive):
    net, x = case[0].to(dtype), case[1].to(dtype)
    expected = explain(net, x, contrastive=contrastive)
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        found = explain(net.cuda().eval(), x.cuda(), contrastive=contrastive)
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    assert found.device.type == "cuda"
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    assert distance(found.cpu(), expected) < tolerance


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
@pytest.mark.parametrize("dtype", ROUNDOFF, ids=str)
def test_autocast_on_a_gpu_is_off_by_its_rounding_only(case, dtype):
    net, x = case
    expected = explain(net, x)
    net, x = net.cuda().eval(), x.cuda()
    with torch.autocast("cuda", dtype=dtype):
        found, seen = dtypes_of_rules(lambda: explain(net, x))
    assert seen == {torch.float32}
    assert distance(found.cpu(), expected) < bound(net, dtype)


def test_the_distance_of_maps_is_the_share_of_mass_that_moved():
    a = torch.tensor([[0.5, 0.5, 0.0]])
    assert math.isclose(distance(torch.tensor([[0.5, 0.25, 0.25]]), a), 0.25)
    assert distance(a, a) == 0
