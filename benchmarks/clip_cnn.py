"""A small 3-D CNN for generated clips."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.fitting import fit

__all__ = ["clip_cnn_of", "train_clip_cnn"]


def clip_cnn_of(num_classes: int) -> nn.Sequential:
    """A 3-D CNN of the form that Saliency Tubes needs; the layer ``features`` is its last convolution.

    Shape:
        (N, 3, 16, 64, 64) to (N, K).
    """
    features = nn.Sequential(
        nn.Conv3d(3, 16, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2)),
        nn.ReLU(),
        nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(16, 32, 3, stride=(2, 1, 1), padding=1),
        nn.BatchNorm3d(32),
        nn.ReLU(),
        nn.Conv3d(32, 48, 3, padding=1),
        nn.BatchNorm3d(48),
        nn.ReLU(),
    )
    parts = {
        "features": features,
        "pool": nn.AdaptiveAvgPool3d(1),
        "flat": nn.Flatten(),
        "classifier": nn.Linear(48, num_classes),
    }
    return nn.Sequential(OrderedDict(parts))


def train_clip_cnn(model: nn.Module, clips: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Cross-entropy of whole clips."""

    def loss(chosen: Tensor) -> Tensor:
        return F.cross_entropy(model(clips[chosen]), labels[chosen])

    generator = torch.Generator().manual_seed(seed)
    model.train()
    fit(model.parameters(), loss, len(clips), epochs, generator, "training the 3-D CNN", learning_rate=1e-2)
    model.eval()
