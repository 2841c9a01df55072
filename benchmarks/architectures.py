"""Which classification and video models of torchvision Excitation Backprop explains, and what mass it keeps.

Every model gets random weights, biases and normalisation parameters, and batch statistics measured on random
inputs, so that signs, dead units and biases are all there. The mass at the inputs, the mass that units
without support dropped (counted where it is dropped) and the mass that arrived at constants (class tokens)
must add up to the one unit that started.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from unittest import mock

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models import get_model, list_models
from tqdm import tqdm

from benchmarks.environment import environment
from captum_ext.attr import ExcitationBackprop
from captum_ext.excitation import numerics

__all__ = ["TOLERANCE", "Conservation", "add_arguments", "examine", "model_names", "run"]

TOLERANCE = 1e-4
_VIDEO = frozenset(list_models(torchvision.models.video))
# The smallest inputs (T, H, W) or (H, W) that these families take; others do with the default.
_SIZES = {
    "alexnet": (128, 128),
    "inception": (128, 128),
    "maxvit": (224, 224),
    "mvit": (16, 224, 224),
    "s3d": (14, 224, 224),
    "vit": (224, 224),
    "": (96, 96),
}
_VIDEO_SIZE = (8, 64, 64)


@dataclass(frozen=True)
class Conservation:
    """Where one unit of mass went.

    Args:
        model (str): torchvision's name of the model.
        shape (tuple of int): of its input.
        at_inputs (float): mass of the map.
        dropped (float): mass of units that nothing supports.
        refused (str): the error, for a model that is not supported.
    """

    model: str
    shape: tuple[int, ...]
    at_inputs: float = float("nan")
    dropped: float = float("nan")
    refused: str = ""

    @property
    def at_constants(self) -> float:
        """Mass that arrived at parameters standing in for an input, such as class tokens."""
        return 1.0 - self.at_inputs - self.dropped


def model_names() -> list[str]:
    """Every classification and video model that torchvision lists."""
    return [*list_models(torchvision.models), *sorted(_VIDEO)]


def examine(name: str, size: tuple[int, ...] | None = None) -> Conservation:
    """Explain one model and follow the mass.

    Args:
        name (str): torchvision's name of the model.
        size (tuple of int, optional): (H, W) or (T, H, W) of its input, by default a small one that the
            model takes as it is; ViT is built for the size.
    """
    torch.manual_seed(0)
    model = get_model(name, weights=None, **_settings(name, size))
    shape = (1, 3, *(size or _default_size(name)))
    _randomize(model, shape)
    try:
        x = torch.randn(shape)
        with torch.no_grad():
            predicted = int(model(x).argmax())
        with _counting_drops() as drops:
            found = ExcitationBackprop(model).attribute(x, target=predicted)
    except Exception as error:  # whatever refuses the model is the result
        return Conservation(name, shape, refused=f"{type(error).__name__}: {error}")
    return Conservation(name, shape, float(found.double().sum()), float(sum(drops)))


def _settings(name: str, size: tuple[int, ...] | None) -> dict[str, object]:
    if name in ("googlenet", "inception_v3"):
        # Heads that only help training are left out.
        return {"init_weights": False, "aux_logits": False}
    return {"image_size": size[0]} if size is not None and name.startswith("vit") else {}


def _default_size(name: str) -> tuple[int, ...]:
    size = next(size for prefix, size in _SIZES.items() if name.startswith(prefix))
    return _VIDEO_SIZE if name in _VIDEO and len(size) == 2 else size


def _randomize(model: nn.Module, shape: tuple[int, ...]) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif not parameter.any():
                parameter.normal_(std=0.02)
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        momenta = [module.momentum for module in norms]
        model.eval()
        for module in norms:
            module.train()
            module.momentum = 1.0
        # Two examples, since there are no batch statistics of a single value.
        model(torch.randn((2, *shape[1:])))
        for module, momentum in zip(norms, momenta, strict=True):
            module.eval()
            module.momentum = momentum


@contextmanager
def _counting_drops() -> Iterator[list[float]]:
    drops: list[float] = []

    def counting(mass: Tensor, support: Tensor) -> Tensor:
        dropped = mass[support < torch.finfo(support.dtype).tiny].double().sum()
        drops.append(float(dropped) / numerics.UNIT)
        return numerics.safe_divide(mass, support)

    with (
        mock.patch("captum_ext.excitation.maps.safe_divide", counting),
        mock.patch("captum_ext.excitation.large_linear.safe_divide", counting),
    ):
        yield drops


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--only", default=".", help="regular expression that names must match")


def run(arguments: argparse.Namespace) -> None:
    """Examine the models and write the table."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    names = [name for name in model_names() if re.search(arguments.only, name)]
    rows = []
    for name in tqdm(names, file=sys.stderr):
        rows.append(examine(name))
        gc.collect()
    lines = [
        "| model | input | mass at the inputs | dropped by units without support | at constants |",
        "| --- | --- | --- | --- | --- |",
        *(_line(row) for row in rows),
    ]
    table = "\n".join(lines) + "\n"
    sys.stdout.write(table)
    (arguments.output / "architectures.md").write_text(table)
    records = [{**asdict(row), **environment()} for row in rows]
    path = arguments.output / "architectures.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _line(row: Conservation) -> str:
    shape = " x ".join(map(str, row.shape[2:]))
    if row.refused:
        return f"| {row.model} | {shape} | refused: {row.refused} | | |"
    constants = row.at_constants if abs(row.at_constants) > TOLERANCE else 0.0
    return f"| {row.model} | {shape} | {row.at_inputs:.4f} | {row.dropped:.4f} | {constants:.4f} |"
