"""What the suite knows about a class: how to build and call it, and which checks do not apply to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from captum.attr import Attribution
from conformance_models import (
    CHANNELS,
    CLASSES,
    HEIGHT,
    STEPS,
    WIDTH,
    CaptionToy,
    ClipToy,
    Conv3dToy,
    Fault,
    ImageToy,
    TimeFirstToy,
    Variant,
    seeded,
)
from torch import Tensor, nn

N = 3


@dataclass(frozen=True)
class Family:
    """A kind of model and what it is fed.

    Args:
        model: makes a model; the same weights for the same variant.
        shape: axes of one input, without N.
        further: further forward arguments that every call needs, for that many examples.
        scores: what the model returns where the check does not care.
    """

    model: Callable[[Variant], nn.Module]
    shape: tuple[int, ...]
    further: Callable[[int], object] = lambda _: None
    scores: Literal["classes", "steps"] = "classes"

    def inputs(self, n: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, *self.shape, generator=generator, dtype=torch.float64)
        x[..., :4, :4] = 0.0  # there units are driven by their bias alone, so that mass is dropped
        return x.to(dtype)

    def targets(self, n: int) -> list[Any]:
        """One output unit per example, all different."""
        classes = [(2 * i + 1) % CLASSES for i in range(n)]
        return (
            classes
            if self.scores == "classes"
            else [((STEPS - 1 - i) % STEPS, k) for i, k in enumerate(classes)]
        )


IMAGES = Family(lambda variant: seeded(ImageToy(variant)), (CHANNELS, HEIGHT, WIDTH))
CLIPS = Family(lambda variant: seeded(ClipToy(variant)), (CHANNELS, STEPS, HEIGHT, WIDTH))
CLIPS_TIME_FIRST = Family(lambda variant: seeded(TimeFirstToy(variant)), (STEPS, CHANNELS, HEIGHT, WIDTH))
CLIPS_3D = Family(lambda variant: seeded(Conv3dToy(variant)), (CHANNELS, STEPS, HEIGHT, WIDTH))
CAPTIONS = Family(
    lambda variant: seeded(CaptionToy(variant)),
    (CHANNELS, STEPS, HEIGHT, WIDTH),
    further=lambda n: torch.arange(n * STEPS).view(n, STEPS) % CLASSES,
    scores="steps",
)


@dataclass(frozen=True)
class Subject:
    """A class, one way to use it, and the parts of the contract that apply.

    Args:
        cls: the class.
        build: makes an explainer of a model.
        family: the kind of model.
        options: keywords of every call of ``attribute``.
        map_shape: axes of the map, without N. Default: those of the input
        tuple_rule: tuple in, tuple out (``"inputs"``), or always a tensor, as the layer's (``"layer"``).
        multiplies_by_inputs: what the property of this name says.
        label: what tells this use of the class from its others.
        inapplicable: checks that make no sense for the class, by name, each with the reason.
        violations: checks that the class fails though it should not, by name, each with the reason.
    """

    cls: type[Attribution]
    build: Callable[[nn.Module], Attribution]
    family: Family = IMAGES
    options: Mapping[str, Any] = field(default_factory=dict)
    map_shape: tuple[int, ...] | None = None
    tuple_rule: Literal["inputs", "layer"] = "inputs"
    multiplies_by_inputs: bool = True
    label: str = ""
    inapplicable: Mapping[str, str] = field(default_factory=dict)
    violations: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.cls.__name__} {self.label}".strip()

    def case(self, n: int = N, dtype: torch.dtype = torch.float64, **variant: Any) -> Case:
        """An explainer with a model of its own, and what to call it with."""
        scores = variant.pop("scores", self.family.scores)
        model = self.family.model(Variant(scores=scores, **variant)).to(dtype)
        targets = self.family.targets(n)
        if scores == "steps" and self.family.scores == "classes":
            targets = [((STEPS - 1 - i) % STEPS, k) for i, k in enumerate(targets)]
        return Case(
            self,
            model,
            self.build(model),
            self.family.inputs(n, dtype=dtype),
            targets,
            self.family.further(n),
        )


def rows(value: Any, index: slice | Tensor) -> Any:
    """Some examples' share of inputs or further arguments; what has no batch axis is everybody's."""
    if isinstance(value, tuple):
        return tuple(rows(item, index) for item in value)
    return value[index] if isinstance(value, Tensor) and value.dim() > 0 else value


_DEFAULT: Any = object()


@dataclass
class Case:
    """An explainer, its model, a batch, the targets and the further arguments."""

    subject: Subject
    model: nn.Module
    explainer: Attribution
    x: Tensor
    targets: list[Any]
    extra: object

    @property
    def fault(self) -> Fault:
        """The module of the model that fails when told to."""
        return next(module for module in self.model.modules() if isinstance(module, Fault))

    def gains(self) -> Tensor:
        """A further argument of the toys, with a row per example."""
        generator = torch.Generator().manual_seed(3)
        shape = (len(self.x), CHANNELS, *[1] * (self.x.dim() - 2))
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5

    @property
    def target(self) -> Any:
        """One target for the whole batch."""
        return self.targets[0]

    def explain(
        self, inputs: Any = _DEFAULT, target: Any = _DEFAULT, extra: Any = _DEFAULT, **more: Any
    ) -> Any:
        """Call ``attribute`` the way Captum does: inputs by position, the rest by keyword."""
        return self.explainer.attribute(
            self.x if inputs is _DEFAULT else inputs,
            target=self.targets if target is _DEFAULT else target,
            additional_forward_args=self.extra if extra is _DEFAULT else extra,
            **{**self.subject.options, **more},
        )

    def explain_alone(self, i: int, inputs: Any = _DEFAULT, extra: Any = _DEFAULT, **more: Any) -> Any:
        """What :meth:`explain` gives for one example of the batch alone."""
        one = slice(i, i + 1)
        return self.explain(
            rows(self.x if inputs is _DEFAULT else inputs, one),
            self.targets[i],
            rows(self.extra if extra is _DEFAULT else extra, one),
            **more,
        )
