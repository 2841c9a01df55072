"""Each construct that docs/architectures.md says is refused raises the error that is quoted there."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captum_ext.attr import ExcitationBackprop
from captum_ext.excitation import UnsupportedOperationError

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
N, L, E = 2, 5, 4
LINEAR, EXTRA_KEYS = nn.Linear(E, E), nn.MultiheadAttention(E, 2, add_bias_kv=True, batch_first=True)


class Around(nn.Module):
    """Something between two linear layers, on (N, L, E)."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.low, self.high, self.middle = nn.Linear(E, E), nn.LazyLinear(3), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.high(self.middle(self.low(x)).flatten(1))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def in_thread(x: Tensor) -> Tensor:
    results = []

    def run() -> None:
        with torch.enable_grad():
            results.append(LINEAR(x))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def attention_with_extra_keys(x: Tensor) -> Tensor:
    return EXTRA_KEYS(x, x, x)[0]


def instance_norm_of_running_statistics(x: Tensor) -> Tensor:
    return nn.InstanceNorm1d(L, track_running_stats=True).eval()(x)


def exported() -> nn.Module:
    model = Around(torch.relu)
    model(torch.rand(N, L, E))
    return torch.export.export(model, (torch.rand(N, L, E),)).module()


def hooked() -> nn.Module:
    model = Around(nn.Linear(E, E))
    model.middle.register_full_backward_hook(lambda *_: None)
    return model


def quietly(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": x.flatten(1)}


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, E)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embed(tokens).mean(1)


# By the first words of the table's row.
CONSTRUCTS = {
    "an operation without a rule": lambda: Around(torch.sin),
    "bicubic interpolation": lambda: Around(
        lambda x: F.interpolate(x[:, None], scale_factor=2, mode="bicubic")
    ),
    "a matrix product of two values": lambda: Around(lambda x: x @ x.transpose(1, 2)),
    "a weight computed from the input": lambda: Around(lambda x: F.linear(x, x[0])),
    "extra keys and values": lambda: Around(attention_with_extra_keys),
    "instance norm with running": lambda: Around(instance_norm_of_running_statistics),
    "a scripted or traced module": lambda: Around(quietly(lambda: torch.jit.script(nn.Linear(E, E)))),
    "layers that run in another thread": lambda: Around(in_thread),
    "`torch.vmap`": lambda: Around(torch.vmap(torch.relu)),
    "a custom `autograd.Function`": lambda: Around(Doubled.apply),
    "a full backward hook": hooked,
    "a program of `torch.export`": exported,
    "activation checkpointing": lambda: Around(lambda x: checkpoint(LINEAR, x, use_reentrant=False)),
    "a part under `no_grad`": lambda: Around(torch.no_grad()(torch.relu)),
    "token ids": Tokens,
    "a model that returns a tuple": Named,
}


def rows() -> dict[str, str]:
    """The constructs of the table and the error that each is said to raise."""
    section = PAGE.read_text().split("## What is refused")[1]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return {construct.strip(): error for construct, error, _ in cells[1:] if "---" not in construct}


def test_the_table_and_this_test_name_the_same_constructs():
    assert [next((row for row in rows() if row.startswith(key)), key) for key in CONSTRUCTS] == list(rows())


@pytest.mark.parametrize("key", CONSTRUCTS)
@pytest.mark.parametrize("contrastive", [False, True])
def test_every_refused_construct_raises_the_error_that_the_table_quotes(key, contrastive):
    (error,) = (error for row, error in rows().items() if row.startswith(key))
    (quote,) = re.findall(r"`([^`]+)`", error)
    x = torch.rand(N, L, E)
    inputs = torch.randint(0, 9, (N, L)) if key == "token ids" else x
    model = CONSTRUCTS[key]()
    if isinstance(model, Around) and "checkpoint" not in key:
        model(x)  # gives the lazy layer its size
    elif isinstance(model, Around):
        model.high = nn.Linear(L * E, 3)
    with pytest.raises((UnsupportedOperationError, RuntimeError, ValueError, TypeError)) as raised:
        ExcitationBackprop(model).attribute(inputs, target=1, contrastive=contrastive)
    assert quote in str(raised.value)


def test_what_is_between_two_layers_is_explained_if_it_has_a_rule():
    model = Around(torch.relu)
    model(torch.rand(N, L, E))
    assert ExcitationBackprop(model).attribute(torch.rand(N, L, E), target=1).sum() > 0.5
