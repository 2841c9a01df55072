"""STEP_REFERENCE against a plain re-implementation of the published algorithm, iteration by iteration.

Everything here is written anew from the description of the published code: unfolded seeds on the padded
frame, a full sort, a 3-D convolution, SGD by hand.
"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_ext.perturbation import STEP_REFERENCE, MaskSpace, Perturbation, blur_pyramid, optimize_masks

N_FRAMES, HEIGHT, WIDTH = 9, 28, 35
SIZE = (N_FRAMES, HEIGHT, WIDTH)
STEP, SIGMA, AREA = 7, 11, 0.1
N_ITER = 12
EARLY = replace(STEP_REFERENCE, n_iter=N_ITER, smoothness_start=3)  # so that L_K takes part
UNCHANGED = replace(STEP_REFERENCE, n_iter=N_ITER)


class PublishedMask:
    """Seeds (T, 1, h, w) to the frame's mask and the padded one, by a softmax over unfolded seeds."""

    def __init__(self):
        self.radius = 1 + math.ceil(SIGMA / STEP)
        self.padding = 1 + math.ceil(2 * SIGMA / STEP)
        self.seeds = [math.ceil(side / STEP) for side in (HEIGHT, WIDTH)]
        self.middle = [side + 2 * self.padding - 2 * self.radius for side in self.seeds]
        self.out = [STEP * side - STEP + 1 for side in self.middle]
        near = range(2 * self.radius + 1)
        self.weights = torch.stack([self._weight(ky, kx) for ky in near for kx in near])

    def _weight(self, ky, kx):
        y, x = (torch.arange(side, dtype=torch.float64) for side in self.out)
        dy = y - SIGMA - STEP * ((y / STEP).floor() + ky - self.padding)
        dx = x - SIGMA - STEP * ((x / STEP).floor() + kx - self.padding)
        distance = (dy[:, None] ** 2 + dx**2).sqrt()
        return torch.exp(-2 * (distance / SIGMA - 0.5).clamp(min=0) ** 2)

    def __call__(self, seeds):
        unfolded = F.unfold(seeds, 2 * self.radius + 1, padding=self.padding)
        blocks = unfolded.view(len(seeds), -1, *self.middle)
        enlarged = blocks.repeat_interleave(STEP, 2).repeat_interleave(STEP, 3)
        a = self.weights * enlarged[:, :, : self.out[0], : self.out[1]]
        padded = (a * F.softmax(20 * a, 1)).sum(1).clamp(0, 1)
        return padded[:, SIGMA : SIGMA + HEIGHT, SIGMA : SIGMA + WIDTH], padded


def published_pyramid(clip):
    """Eight levels of (C, T, H, W) by zero-padded convolutions, and the clip itself as the last."""
    levels = []
    for level in range(7):
        sigma = 20 * (1 - level / 7)
        reach = math.ceil(4 * sigma)
        kernel = torch.exp(-((torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2) / 2)
        kernel /= kernel.sum()
        images = clip.reshape(-1, 1, HEIGHT, WIDTH)
        images = F.conv2d(images, kernel.view(1, 1, -1, 1), padding=(reach, 0))
        images = F.conv2d(images, kernel.view(1, 1, 1, -1), padding=(0, reach))
        levels.append(images.view_as(clip))
    return torch.stack([*levels, clip])


def published_perturbation(mask, pyramid):
    """A mask (T, H, W) chooses between neighbouring levels."""
    lower = (7 * mask).floor()
    share = 7 * mask - lower
    index = lower.long().expand(1, *pyramid.shape[1:])
    below = pyramid.gather(0, index)[0]
    above = pyramid.gather(0, (index + 1).clamp(max=7))[0]
    return (1 - share) * below + share * above


def published_area_loss(padded, area):
    values = padded.flatten().sort().values
    reference = torch.ones_like(values)
    reference[: int(len(values) * (1 - area))] = 0
    return ((values - reference) ** 2).mean()


def published_core_loss(padded, area, kernel_size=(7, 11, 11)):
    axes = [torch.linspace(-1, 1, side, dtype=torch.float64) for side in kernel_size]
    squares = axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2
    kernel = (squares <= 1).double()
    assert kernel.sum() == 311
    means = F.conv3d(padded[None, None], kernel[None, None], stride=(1, 11, 11)).flatten() / kernel.sum()
    values = means.sort(descending=True).values
    k = math.ceil(area * padded.numel() / int(math.prod(kernel_size) * 0.5236))
    return ((values[:k] - 1) ** 2).mean() + (values[k:] ** 2).mean()


def published_step(model, clip, target, area, seeds, core_start):
    """The masks of all forward passes, the energies, and the seeds in the end; core_start None is EP-3D."""
    make_mask, pyramid = PublishedMask(), published_pyramid(clip)
    seeds = seeds.unsqueeze(1).clone().requires_grad_()
    masks, energies, velocity = [], [], None
    weight = 300.0
    for iteration in range(N_ITER):
        mask, padded = make_mask(seeds)
        scores = model(published_perturbation(mask, pyramid)[None])
        energy = -torch.log_softmax(scores, 1)[0, target] + weight * published_area_loss(padded, area)
        if core_start is not None and iteration >= core_start:
            energy = energy + 300 * published_core_loss(padded, area)
        (gradient,) = torch.autograd.grad(energy, seeds)
        # The first gradient enters the velocity undampened.
        velocity = gradient if velocity is None else 0.9 * velocity + (1 - 0.9) * gradient
        with torch.no_grad():
            seeds -= 0.05 * velocity
            seeds.clamp_(0, 1)
        weight *= 1.0008668
        masks.append(mask.detach())
        energies.append(energy.detach())
    return torch.stack(masks), torch.stack(energies), seeds.detach().squeeze(1)


class Recording:
    """A perturbation that remembers the masks it was given."""

    def __init__(self, perturbation):
        self.perturbation = perturbation
        self.masks = []

    def __call__(self, masks):
        self.masks.append(masks.detach().clone())
        return self.perturbation(masks)


@pytest.fixture(scope="module")
def clip_and_model():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = nn.Sequential(
            nn.Conv3d(2, 5, (3, 5, 5), stride=(1, 2, 2)),
            nn.Tanh(),
            nn.AdaptiveAvgPool3d((3, 2, 2)),
            nn.Flatten(),
            nn.Linear(60, 4),
        ).double()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            parameter *= 3
        return torch.randn(2, *SIZE, dtype=torch.float64), model


@pytest.fixture(scope="module")
def jittered():
    """Seeds without ties, (T, h, w)."""
    generator = torch.Generator().manual_seed(7)
    return 1 - 0.05 * torch.rand(N_FRAMES, 4, 5, dtype=torch.float64, generator=generator)


@pytest.fixture(scope="module")
def published_masks(clip_and_model, jittered):
    """The masks of all forward passes, with L_K from the third iteration on."""
    return published_step(*clip_and_model[::-1], 1, AREA, jittered, 3)[0]


def ours(clip_and_model, seeds, settings, smoothness, area=AREA, dtype=torch.float64, target=1):
    clip, model = clip_and_model
    x = clip.to(dtype)[None]
    levels = blur_pyramid(x, settings.n_levels, settings.max_blur, settings.blur_renormalized)
    recording = Recording(Perturbation(levels, 1))
    space = MaskSpace(SIZE, [[area]], settings, smoothness, 1, x)

    def log_probability(shown, kept):
        assert kept
        return torch.log_softmax(model(shown.flatten(0, 1).double()), 1)[:, target].view(1, 1)

    # Seeds beyond the frame, where there are any, start as the zeros that the published code has there.
    beyond = (space.seeds_shape[-1] - seeds.shape[-1]) // 2
    start = F.pad(seeds.to(dtype), [beyond] * 4)[None, None]
    found = optimize_masks(log_probability, recording, space, start, "preserve", lambda shown: None)
    return torch.cat(recording.masks)[: settings.n_iter, 0].double(), found


@pytest.mark.parametrize("area", [0.05, 0.1, 0.3])
@pytest.mark.parametrize(
    ("smoothness", "settings", "core_start"),
    [
        (None, UNCHANGED, None),
        ("step", EARLY, 3),
        ("step", UNCHANGED, 101),
        ("step", replace(EARLY, smoothness_start=0), 0),
    ],
)
def test_the_first_iterations_follow_the_published_algorithm(
    smoothness, settings, core_start, area, clip_and_model, jittered
):
    masks, found = ours(clip_and_model, jittered, settings, smoothness, area)
    expected, energies, last_seeds = published_step(*clip_and_model[::-1], 1, area, jittered, core_start)
    assert masks.shape == expected.shape == (N_ITER, *SIZE)
    assert (expected[-1] - expected[0]).abs().max() > 0.1  # it went somewhere
    torch.testing.assert_close(masks, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.losses[0, 0], energies, rtol=1e-7, atol=0)
    torch.testing.assert_close(found.seeds[0, 0], last_seeds, rtol=0, atol=1e-5)
    # What is returned is the mask of the last forward pass, one step older than the seeds.
    torch.testing.assert_close(found.masks[0, 0], expected[-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("smoothness", "core_start"), [(None, None), ("step", 3)])
def test_float32_follows_the_published_algorithm_too(smoothness, core_start, clip_and_model, jittered):
    masks, _ = ours(clip_and_model, jittered, EARLY, smoothness, dtype=torch.float32)
    expected, *_ = published_step(*clip_and_model[::-1], 1, AREA, jittered, core_start)
    torch.testing.assert_close(masks, expected, rtol=0, atol=1e-5)


def test_the_area_takes_part_in_the_published_algorithm(clip_and_model, jittered):
    small, *_ = published_step(*clip_and_model[::-1], 1, 0.05, jittered, 3)
    large, *_ = published_step(*clip_and_model[::-1], 1, 0.3, jittered, 3)
    assert (small - large)[-1].abs().max() > 1e-2


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": 12},
        {"coldness": 22.0},
        {"margin": False},
        {"max_blur": 18.0},
        {"n_levels": 7},
        {"blur_renormalized": True},
        {"reward": "probability"},
        {"reward_weight": 1.1},
        {"area_weight": 303.0},
        {"area_growth": 1.0},
        {"smoothness_weight": 330.0},
        {"smoothness_start": 4},
        {"kernel": (7, 11, 9)},
        {"stride": (1, 10, 10)},
        {"kernel_count": "volume"},
        {"kernel_to_the_edges": True},
        {"balanced": False},
        {"tie_tolerance": 1e-3},
        {"learning_rate": 0.045},
        {"momentum": 0.8},
        {"dampening": 0.0},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_the_comparison_rejects_every_other_setting(wrong, clip_and_model, jittered, published_masks):
    masks, _ = ours(clip_and_model, jittered, replace(EARLY, **wrong), "step")
    assert (masks - published_masks).abs().max() > 3e-5


def test_the_comparison_rejects_the_masks_of_the_last_seeds(clip_and_model, jittered, published_masks):
    _, found = ours(clip_and_model, jittered, replace(EARLY, last_forward=False), "step")
    assert (found.masks[0, 0] - published_masks[-1]).abs().max() > 1e-2


@pytest.mark.parametrize("smoothness", ["evenly", "gaussian"])
def test_the_comparison_rejects_other_kinds_of_smoothness(smoothness, clip_and_model, jittered):
    masks, _ = ours(clip_and_model, jittered, UNCHANGED, smoothness)
    expected, *_ = published_step(*clip_and_model[::-1], 1, AREA, jittered, None)
    assert (masks - expected).abs().max() > 1e-3


def test_the_comparison_rejects_another_target(clip_and_model, jittered, published_masks):
    masks, _ = ours(clip_and_model, jittered, EARLY, "step", target=2)
    assert (masks - published_masks).abs().max() > 1e-3
