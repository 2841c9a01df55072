"""The table in docs/architectures.md is true: its names, and what becomes of the mass in every family.

Here the smallest models of each family are examined, the slow ones on inputs smaller than those of the table.
`python -m benchmarks run architectures` examines all of them as the table says; it takes minutes.
"""

from __future__ import annotations

import gc
import re
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch
import torchvision
from torchvision.models import VisionTransformer, list_models
from torchvision.models.video import mvit

from benchmarks.architectures import TOLERANCE, Conservation, examine, model_names
from captum_ext.attr import ExcitationBackprop, LayerExcitationBackprop
from captum_ext.excitation.maps import LinearMap, WeightedMap
from captum_ext.excitation.numerics import UNIT

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
# Weights are random, and other releases of torch and torchvision draw others.
SAME_FIGURE = 0.02


@dataclass(frozen=True)
class Row:
    """What the table says of some models: ranges of mass, or the reason why they are refused."""

    dropped: tuple[float, float] = (0.0, 0.0)
    at_constants: tuple[float, float] = (0.0, 0.0)
    refused: str = ""


def read_table(text: str) -> list[tuple[str, Row]]:
    found = []
    for line in text.splitlines():
        if not line.startswith("| `"):
            continue
        names, _, inputs, dropped, constants, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        if inputs.startswith("refused: "):
            row = Row(refused=inputs.removeprefix("refused: "))
        else:
            row = Row(as_range(dropped), as_range(constants))
        found += [(name, row) for name in re.findall(r"`(\w+)`", names)]
    return found


def as_range(cell: str) -> tuple[float, float]:
    numbers = [float(number) for number in cell.split(" to ")]
    return numbers[0], numbers[-1]


def table() -> list[tuple[str, Row]]:
    section = PAGE.read_text().split("\n## ")
    return read_table(next(part for part in section if part.startswith("The table")))


def test_the_table_names_every_model_that_torchvision_lists_and_no_other():
    names = [name for name, _ in table()]
    assert len(names) == len(set(names))
    listed = {*list_models(torchvision.models), *list_models(torchvision.models.video)}
    assert listed == set(model_names())
    assert listed == set(names), "run the benchmark and mend docs/architectures.md"


# None: the size of the table.
SMALLEST = {
    "alexnet": (64, 64),
    "convnext_tiny": (64, 64),
    "densenet121": None,
    "efficientnet_b0": None,
    "efficientnet_v2_s": None,
    "googlenet": None,
    "inception_v3": None,
    "maxvit_t": None,
    "mnasnet0_5": None,
    "mobilenet_v2": None,
    "mobilenet_v3_large": None,
    "mobilenet_v3_small": None,
    "regnet_x_400mf": None,
    "regnet_y_400mf": None,
    "resnet18": None,
    "resnet50": (64, 64),
    "resnext50_32x4d": None,
    "shufflenet_v2_x0_5": None,
    "squeezenet1_0": None,
    "squeezenet1_1": None,
    "swin_t": (64, 64),
    "swin_v2_t": (64, 64),
    "vgg11": (32, 32),
    "vgg11_bn": (32, 32),
    "vit_b_32": None,
    "wide_resnet50_2": (32, 32),
    "mc3_18": (4, 32, 32),
    "r2plus1d_18": (4, 32, 32),
    "r3d_18": (4, 32, 32),
    "s3d": (13, 209, 209),
    "swin3d_t": (4, 32, 32),
}


def family(name: str) -> str:
    """The letters in front of the first number of layers, width or version."""
    return re.match(r"(wide_)?[a-z]+(3d)?", name)[0]


def test_every_family_is_examined_here():
    families = {family(name) for name in model_names()}
    assert len(families) == 24
    # MViT, which is built for one size, has a test of its own.
    assert families == {family(name) for name in SMALLEST} | {"mvit"}


def agrees(found: Conservation, row: Row) -> list[str]:
    """Where what was found differs from the table, in words."""
    if found.refused or row.refused:
        return [] if row.refused and row.refused in found.refused else [f"refused: {found.refused!r}"]
    wrong = []
    for what, mass, (low, high), tolerance in (
        ("at constants", found.at_constants, row.at_constants, TOLERANCE),
        ("dropped", found.dropped, row.dropped, SAME_FIGURE),
    ):
        # Written so that NaN is wrong as well.
        if not low - tolerance <= mass <= high + tolerance:
            wrong.append(f"{what}: {mass}")
    return wrong


@pytest.mark.parametrize("name", SMALLEST)
def test_the_mass_of_every_family_goes_where_the_table_says(name):
    found = examine(name, SMALLEST[name])
    gc.collect()
    assert agrees(found, dict(table())[name]) == []


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_mvit_conserves_mass_up_to_its_class_token(name, monkeypatch):
    size = (4, 64, 64)
    settings = {"temporal_size": size[0], "spatial_size": size[1:]}
    plain = mvit.MViT
    monkeypatch.setattr(mvit, "MViT", lambda **given: plain(**{**given, **settings}))
    found = examine(name, size)
    row = dict(table())[name]
    assert not found.refused
    # Of few tokens the class token is a larger part, so that the table's figures do not apply.
    lost = found.dropped, found.at_constants
    adds_positions = name == "mvit_v1_b"
    assert 1e-3 < lost[1 - adds_positions] < 0.1
    assert abs(lost[adds_positions]) < TOLERANCE
    assert (row.dropped[1] > TOLERANCE, row.at_constants[1] > TOLERANCE) == (
        adds_positions,
        not adds_positions,
    )


# Why mass is dropped where it is


def drops_by_map(explain) -> list[tuple[bool, float]]:
    """What each linear map drops while ``explain`` runs, and whether it is a depthwise convolution."""
    found = []
    share = LinearMap._divide_and_share

    def watched(self, plus, minus):
        lost = float(plus[self.support(1) == 0].sum())
        if minus is not None:
            lost += float(minus[self.support(-1) == 0].sum())
        is_depthwise = isinstance(self, WeightedMap) and self._weight(1).shape[1:2] == (1,)
        found.append((is_depthwise, lost / UNIT))
        return share(self, plus, minus)

    with mock.patch.object(LinearMap, "_divide_and_share", watched):
        explain()
    return found


@pytest.mark.parametrize(
    ("name", "least"),
    [("mobilenet_v2", 0.1), ("mobilenet_v3_small", 0.01), ("mnasnet0_5", 0.1), ("efficientnet_b0", 1e-5)],
)
def test_mobile_networks_drop_mass_in_depthwise_convolutions_only(name, least):
    drops = drops_by_map(lambda: examine(name))
    depthwise = sum(lost for is_depthwise, lost in drops if is_depthwise)
    assert depthwise > least
    assert sum(lost for _, lost in drops) - depthwise < 1e-6


def test_a_vit_drops_what_arrives_at_its_class_token_and_nothing_else():
    torch.manual_seed(0)
    model = VisionTransformer(
        image_size=24, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=20, num_classes=7
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(1, 3, 24, 24)
    found, delta = ExcitationBackprop(model).attribute(x, target=2, return_convergence_delta=True)
    # Class token and nine patches, position embeddings added.
    at_tokens = LayerExcitationBackprop(model, "encoder.dropout").attribute(x, target=2).sum(2)[0]
    at_token, at_patches = float(at_tokens[0]), float(at_tokens[1:].sum())
    assert at_tokens.shape == (10,)
    assert 0.01 < at_token < 0.9
    assert abs(float(delta) - at_token) < TOLERANCE
    assert abs(float(found.sum()) - at_patches) < TOLERANCE


# Negative controls: broken rules, as other libraries have them, violate conservation.


def all_to_both(self, mass):
    return tuple(mass.expand(operand.shape) for operand in self.operands)


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("captum_ext.excitation.maps.SumMap.distribute", all_to_both),
        ("captum_ext.excitation.numerics.safe_divide", lambda mass, support: mass / (support + 0.1)),
    ],
    ids=["sums by gradient", "an epsilon in the denominator"],
)
def test_a_broken_rule_is_reported(where, wrong):
    row = dict(table())["resnet18"]
    assert agrees(examine("resnet18", (64, 64)), row) == []
    with mock.patch(where, wrong):
        found = examine("resnet18", (64, 64))
    assert not found.refused
    assert abs(found.at_constants) > 100 * TOLERANCE
    assert agrees(found, row) != []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Conservation("m", (1, 3, 8, 8), at_inputs=0.99, dropped=0.0), "at constants"),
        (Conservation("m", (1, 3, 8, 8), at_inputs=0.9, dropped=0.1), "dropped"),
        (Conservation("m", (1, 3, 8, 8), refused="ValueError: no"), "refused"),
        (Conservation("m", (1, 3, 8, 8)), "at constants"),
    ],
    ids=["lost mass", "dropped mass", "a refusal", "no number"],
)
def test_what_disagrees_with_the_table_is_noticed(found, words):
    assert words in " ".join(agrees(found, Row()))


def test_the_reader_of_the_table_reads_it():
    rows = dict(
        read_table(
            "| `a1`, `b_2` | 96 x 96 | 0.6 to 0.9 | 0.1 to 0.4 | 0.0 |\n"
            "| `c` | 8 x 64 x 64 | refused: no rule for torch.sin | | |\n"
            "| model | input | | | |"
        )
    )
    assert rows["a1"] == rows["b_2"] == Row((0.1, 0.4), (0.0, 0.0))
    assert rows["c"].refused == "no rule for torch.sin"
    assert len(rows) == 3
