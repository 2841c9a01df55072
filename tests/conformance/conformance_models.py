"""Tiny models of the families the attribution classes explain, with everything the checks vary.

Every toy can be built with class scores, scores per time step or one score; with in-place operations; for one
input or two; it takes further forward arguments, and fails where and when it is told to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from captum_ext.models import CNNLSTMCaptioner

CLASSES, STEPS, CHANNELS, HEIGHT, WIDTH = 5, 4, 3, 8, 6
N_FEATURES, N_HIDDEN = 7, 9


@dataclass(frozen=True)
class Variant:
    """How a toy is built.

    scores: what it returns, "classes" (N, K), "steps" (N, T, K), "column" (N, 1) or "single" (N,).
    n_inputs: how many explained inputs it takes, one or two.
    in_place: whether ReLUs and the first operation on the input write in place.
    faulty_function: whether the features go through an autograd function whose backward pass fails.
    """

    scores: Literal["classes", "steps", "column", "single"] = "classes"
    n_inputs: int = 1
    in_place: bool = False
    faulty_function: bool = False


class Fault(nn.Module):
    """The identity, until it is told to fail: in the forward pass that many calls from now, or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self.after_calls = 0
        self.in_backward = False

    def plan(self, failure: BaseException, after_calls: int = 0, in_backward: bool = False) -> None:
        self.failure, self.after_calls, self.in_backward = failure, after_calls, in_backward

    def forward(self, x: Tensor) -> Tensor:
        if self.failure is not None and self.in_backward and x.requires_grad:
            x = x.clone()
            x.grad_fn.register_prehook(self.fail)
        elif self.failure is not None and not self.in_backward:
            if self.after_calls == 0:
                self.fail()
            self.after_calls -= 1
        return x

    def fail(self, *_: object) -> None:
        raise self.failure


class FaultyFunction(torch.autograd.Function):
    """The identity with a backward pass that fails."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("planted in a custom function")


class Toy(nn.Module):
    """What the toys share. ``forward(x, [y,] gain=None, offset=0.0)`` explains x (and y).

    ``gain`` is a tensor with a row per example that broadcasts against the input, ``offset`` a number.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.fault = Fault()

    def forward(self, *args: object) -> Tensor:
        n = self.variant.n_inputs
        scores = self.scores(self.blend(args[:n], *args[n:]))
        return scores[:, 0] if self.variant.scores == "single" else scores

    def blend(self, inputs: tuple[Tensor, ...], gain: Tensor | None = None, offset: object = 0.0) -> Tensor:
        x = inputs[0].mul_(2.0) if self.variant.in_place else inputs[0] * 2.0
        if len(inputs) > 1:
            x = x + inputs[1] * 0.5
        if gain is not None:
            x = x * gain
        return x + offset

    def faulty(self, x: Tensor) -> Tensor:
        x = self.fault(x)
        return FaultyFunction.apply(x) if self.variant.faulty_function else x

    def scores(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def n_scores(self) -> int:
        return 1 if self.variant.scores in ("column", "single") else CLASSES

    def frames(self) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(CHANNELS, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(self.variant.in_place),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(self.variant.in_place),
        )


class ImageToy(Toy):
    """A CNN on images (N, 3, 8, 6)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant)
        self.features = self.frames()
        self.drop = nn.Dropout()
        steps = STEPS if variant.scores == "steps" else 1
        self.classifier = nn.Linear(6 * (HEIGHT // 2) * (WIDTH // 2), steps * self.n_scores)

    def scores(self, x: Tensor) -> Tensor:
        found = self.classifier(self.drop(self.faulty(self.features(x)).flatten(1)))
        return found.view(len(x), STEPS, CLASSES) if self.variant.scores == "steps" else found


class ClipToy(Toy):
    """A per-frame CNN and an LSTM on clips (N, 3, T, 8, 6)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant)
        self.features = self.frames()
        self.embedding = nn.Linear(6 * (HEIGHT // 2) * (WIDTH // 2), N_FEATURES)
        self.lstm = nn.LSTM(N_FEATURES, N_HIDDEN, batch_first=True)
        self.classifier = nn.Linear(N_HIDDEN, self.n_scores)

    def scores(self, x: Tensor) -> Tensor:
        n, frames = len(x), x.transpose(1, 2).flatten(0, 1)
        features = self.embedding(self.faulty(self.features(frames)).flatten(1)).relu()
        found = self.classifier(self.lstm(features.view(n, -1, N_FEATURES))[0])
        return found if self.variant.scores == "steps" else found.mean(1)


class TimeFirstToy(ClipToy):
    """The same on clips (N, T, 3, 8, 6)."""

    def blend(self, inputs: tuple[Tensor, ...], gain: Tensor | None = None, offset: object = 0.0) -> Tensor:
        return super().blend(tuple(x.transpose(1, 2) for x in inputs), gain, offset)


class Conv3dToy(Toy):
    """3-D convolutions, global average pool and classifier on clips (N, 3, T, 8, 6)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant)
        self.features = nn.Sequential(
            nn.Conv3d(CHANNELS, 4, 3, padding=1),
            nn.BatchNorm3d(4),
            nn.ReLU(variant.in_place),
            nn.MaxPool3d(2),
            nn.Conv3d(4, 6, 3, padding=1),
            nn.ReLU(variant.in_place),
        )
        self.pool, self.drop = nn.AdaptiveAvgPool3d(1), nn.Dropout()
        steps = STEPS if variant.scores == "steps" else 1
        self.classifier = nn.Linear(6, steps * self.n_scores)

    def scores(self, x: Tensor) -> Tensor:
        pooled = self.pool(self.faulty(self.features(x))).flatten(1)
        found = self.classifier(self.drop(pooled))
        return found.view(len(x), STEPS, CLASSES) if self.variant.scores == "steps" else found


class CaptionToy(CNNLSTMCaptioner):
    """A captioner of clips (N, 3, T, 8, 6); explains the clips, given captions (N, T)."""

    def __init__(self, variant: Variant) -> None:
        features = [Double(variant.in_place), *Toy(variant).frames(), Fault()]
        if variant.faulty_function:
            features.append(Faulty())
        super().__init__(
            vocabulary_size=CLASSES,
            hidden_size=N_HIDDEN,
            embedding_size=N_FEATURES,
            word_size=3,
            features=nn.Sequential(*features),
            feature_channels=6,
        )


class Double(nn.Module):
    """What :meth:`Toy.blend` does to the one input."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2.0) if self.in_place else x * 2.0


class Faulty(nn.Module):
    """:class:`FaultyFunction` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return FaultyFunction.apply(x)


def seeded(model: nn.Module) -> nn.Module:
    """Weights wide enough that no unit is all but dead, running statistics that are not the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.2)
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                module.weight.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return model.eval()
