"""Toy models and clips shared by the tests of extremal perturbation."""

import torch
from torch import nn

from captum_ext.attr import ExtremalPerturbation, SpatioTemporalExtremalPerturbation
from captum_ext.perturbation import StepSettings

# Odd frames, and no two axes alike.
N, C, T, H, W, K = 2, 3, 5, 9, 11, 4
CLIP, IMAGE = (C, T, H, W), (C, H, W)

# Few and large steps: what is tested here is not how good the masks are.
FEW = {"areas": (0.4, 0.6), "settings": StepSettings(n_iter=4, learning_rate=0.2)}
CLASSES = [ExtremalPerturbation, SpatioTemporalExtremalPerturbation]


def classifier(*shape, dtype=torch.float32, n_scores=K):
    """Any scores of inputs of a shape."""
    torch.manual_seed(0)
    n = torch.Size(shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(n, 6), nn.Tanh(), nn.Linear(6, n_scores)).to(dtype)


def data(*shape, n=N, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64).to(dtype)


def masks_of(explainer, inputs, target=None, **options):
    """All that a call finds."""
    return explainer.attribute(inputs, target=target, return_masks=True, **{**FEW, **options})[1]


# A clip of 8 frames of 24 x 32 pixels with a bright box of 6 x 7 pixels in frames 3 to 6, of which alone the
# score depends.
BOX = (slice(None), slice(None), slice(3, 7), slice(8, 14), slice(18, 25))
BOX_SHARE = 4 * 6 * 7 / (8 * 24 * 32)


def clip_with_a_box():
    clip = 0.1 * data(3, 8, 24, 32, n=1)
    clip[BOX] += 1
    return clip


def box_scores(clips):
    """Logits of "there is a box" and "there is none": 0.98 for a bright box, 0.02 for a dark one."""
    logit = 8 * clips[BOX].flatten(1).mean(1) - 4
    return torch.stack([logit, torch.zeros_like(logit)], 1)


def share_in_box(masks):
    """How much of what masks (N, T, H, W) keep lies in the box."""
    return float(masks.unsqueeze(1)[BOX].sum() / masks.sum())


def shown_in_box(masks):
    """How much of the box masks (N, T, H, W) keep."""
    return float(masks.unsqueeze(1)[BOX].mean())
