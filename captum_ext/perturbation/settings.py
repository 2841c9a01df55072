"""How masks are optimised: our settings, the paper's, and those of the published code."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["STEP_PAPER", "STEP_REFERENCE", "StepSettings"]


# Adam moves a seed by its full step however small the gradient is, down to this. Gradients of seeds are about
# 1e-2; a smaller epsilon would turn rounding errors into moves, and no two ways of batching would agree.
_EPSILON = 1e-5


@dataclass(frozen=True)
class StepSettings:
    """Settings of extremal perturbation; the defaults are ours.

    Lengths that are None scale with the frame's shorter side S, from the paper's for 112 pixels. So a mask
    has the same detail, and costs the same per pixel, at every resolution.

    Ours differ from the paper's and the published code's in this: Adam with large steps, which needs about
    a twentieth of the iterations; areas are counted on the clip as the model sees it; blur does not darken
    the border; the smoothness kernel reaches the first and last frames, and its positions overlap.

    Args:
        n_iter (int): iterations.
        seed_step (int, optional): pixels between seeds. None: S / 16.
        sigma (float, optional): width of a seed's kernel in pixels. None: 11/7 of ``seed_step``.
        coldness (float): of the smooth maximum.
        margin (bool): count area and smoothness on a frame with a margin of ``sigma`` pixels around it.
        n_levels (int): levels of the blur pyramid.
        max_blur (float, optional): the strongest blur, in pixels. None: 20/112 S.
        blur_renormalized (bool): blur with the mean over the pixels there are, at the border too.
        reward (str): maximise the ``"log"`` of the probability or the ``"probability"``.
        reward_weight (float): its weight.
        area_weight (float): weight of the area's loss at the start.
        area_growth (float, optional): by which it grows at each iteration. None: twentyfold over the run.
        smoothness_weight (float): weight of STEP's loss.
        smoothness_start (int, optional): the first iteration with it. None: after three tenths of the run.
        kernel (tuple[int, int, int], optional): T_K, H_K, W_K of its ellipsoid. None: 7 frames and 11/112 S.
        stride (tuple[int, int, int], optional): between its positions. None: 1 frame, half the kernel.
        kernel_count (str): how many ellipsoids should be full: the area's ``"share"`` of all positions, as
            many as have its ``"volume"``, or the same with 0.5236 of their box as the volume (``"sphere"``).
        kernel_to_the_edges (bool): the ellipsoids cover all frames; otherwise those that fit in whole count.
        balanced (bool): filled and empty ellipsoids weigh the same in total, not each the same.
        tie_tolerance (float): values of a mask that differ by no more are alike to the sorted losses. At the
            start all are; without it rounding would choose which of them to keep.
        optimizer (str): ``"adam"`` or ``"sgd"``.
        learning_rate (float, optional): its step. None: 5 / ``n_iter``, with which Adam can take a
            seed through its range five times, and 0.2 at most.
        momentum (float): of SGD.
        dampening (float): of SGD.
        initial_seed (float): what seeds start as, in 0..1.
        last_forward (bool): return the masks of the last forward pass, not those of the last seeds.
        plateau (int, optional): stop a mask whose loss, averaged over so many iterations, changed by less
            than ``plateau_tolerance`` of it from one such window to the next. The first window begins with
            STEP's loss, for all methods alike; a growing weight of the area counts as a change. None: never.
        plateau_tolerance (float): see ``plateau``.

    Raises:
        ValueError: a setting out of range.
    """

    n_iter: int = 100
    seed_step: int | None = None
    sigma: float | None = None
    coldness: float = 20.0
    margin: bool = False
    n_levels: int = 8
    max_blur: float | None = None
    blur_renormalized: bool = True
    reward: Literal["log", "probability"] = "log"
    reward_weight: float = 1.0
    area_weight: float = 30.0
    area_growth: float | None = None
    smoothness_weight: float = 300.0
    smoothness_start: int | None = None
    kernel: tuple[int, int, int] | None = None
    stride: tuple[int, int, int] | None = None
    kernel_count: Literal["share", "volume", "sphere"] = "share"
    kernel_to_the_edges: bool = True
    balanced: bool = False
    tie_tolerance: float = 1e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float | None = None
    momentum: float = 0.9
    dampening: float = 0.9
    initial_seed: float = 1.0
    last_forward: bool = False
    plateau: int | None = None
    plateau_tolerance: float = 0.01

    def area_weight_at(self, iteration: int) -> float:
        """The weight of the area's loss."""
        return self.area_weight * float(self.area_growth or 20 ** (1 / self.n_iter)) ** iteration

    @property
    def smoothness_begins(self) -> int:
        """The first iteration with STEP's loss."""
        return 3 * self.n_iter // 10 if self.smoothness_start is None else self.smoothness_start

    def window_at(self, iteration: int) -> int | None:
        """``plateau`` where losses are compared after an iteration: at each window from the second on."""
        done = iteration + 1 - self.smoothness_begins
        compared = self.plateau is not None and done >= 2 * self.plateau and done % self.plateau == 0
        return self.plateau if compared else None

    def __post_init__(self) -> None:
        at_least = {"n_iter": 1, "n_levels": 2, "seed_step": 1, "plateau": 1, "smoothness_start": 0}
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, Integral) or value < least
            ):
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        for name in ("sigma", "coldness", "max_blur", "learning_rate", "area_growth"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0, got {value!r}")
        for name in (
            "reward_weight",
            "area_weight",
            "smoothness_weight",
            "tie_tolerance",
            "plateau_tolerance",
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        for name in ("momentum", "dampening", "initial_seed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)!r}")
        for name in ("kernel", "stride"):
            sides = getattr(self, name)
            if sides is not None and (
                len(sides) != 3 or not all(isinstance(side, int) and side >= 1 for side in sides)
            ):
                raise ValueError(f"{name} must be three integers from 1, (T, H, W), got {sides!r}")
        choices = {
            "reward": ("log", "probability"),
            "kernel_count": ("share", "volume", "sphere"),
            "optimizer": ("adam", "sgd"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.margin and self.sigma is not None and self.sigma != int(self.sigma):
            raise ValueError(f"sigma must be a whole number with margin=True, got {self.sigma}")

    def kernel_for(self, short_side: int) -> tuple[int, int, int]:
        """The smoothness kernel of frames with a shorter side of so many pixels."""
        side = max(3, 2 * round((short_side * 11 / 112 - 1) / 2) + 1)
        return self.kernel or (7, side, side)

    def stride_for(self, kernel: tuple[int, int, int]) -> tuple[int, int, int]:
        """The stride of a smoothness kernel."""
        return self.stride or (1, max(1, kernel[1] // 2), max(1, kernel[2] // 2))

    def optimizer_of(self, seeds: Tensor) -> torch.optim.Optimizer:
        """The optimiser of the seeds."""
        rate = self.learning_rate or min(0.2, 5 / self.n_iter)
        if self.optimizer == "adam":
            return torch.optim.Adam([seeds], lr=rate, eps=_EPSILON)
        return torch.optim.SGD([seeds], lr=rate, momentum=self.momentum, dampening=self.dampening)


_PUBLISHED: dict[str, Any] = {
    "n_iter": 2000,
    "seed_step": 7,
    "sigma": 11,
    "max_blur": 20.0,
    "blur_renormalized": False,
    "kernel": (7, 11, 11),
    "stride": (1, 11, 11),
    "tie_tolerance": 0.0,
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "area_weight": 300.0,
    "smoothness_weight": 300.0,
}

STEP_PAPER = StepSettings(
    **_PUBLISHED,
    reward="probability",
    area_growth=1.0,
    smoothness_start=0,
    kernel_count="volume",
    kernel_to_the_edges=False,
)
"""The equations of Li et al. (WACV 2021) and the constants they give, for frames of 112 x 112.

The probability is maximised, not its logarithm (eqs. 4 and 6); areas are counted on the clip; L_K is one
norm over all ellipsoids that fit in whole (eq. 7), from the first iteration on. The paper gives neither the
weights of the losses nor the optimiser: those are the published code's, on means instead of sums.
"""

STEP_REFERENCE = StepSettings(
    **_PUBLISHED,
    margin=True,
    area_growth=1.0008668,
    smoothness_start=101,
    kernel_count="sphere",
    kernel_to_the_edges=False,
    balanced=True,
    last_forward=True,
)
"""What the published code of STEP does with frames of 112 x 112, its quirks included:

- area and L_K are counted on a frame with a margin, 134 x 134 of 112 x 112, so that up to 1.43 times the
  area asked for stays visible;
- seeds reach farther to one side than to the other, and seeds outside of the frame are zeros;
- blur counts pixels outside of the frame as zeros, and so darkens the border;
- the reward is the logarithm of the probability, and the weight of the area grows;
- L_K begins at iteration 101, is the sum of two means (over the ellipsoids to fill and over the others),
  sees next to nothing of the first and last frames, and counts how many ellipsoids to fill with the volume
  of a sphere's share of their box, 443 instead of 311;
- momentum is dampened but for the first step;
- the masks returned are those of the last forward pass, one step older than the seeds.

For EP-3D (``smoothness=None``) the journal version's code has these settings too; the WACV code weighs the
reward by 100 and leaves the area's weight as it is. One quirk is not kept: it takes the logarithm of the
softmax, which is infinite for a hopeless target, and not the log-softmax.
"""
