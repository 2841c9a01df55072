"""Short training runs of the demo's two models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.fitting import fit
from captum_ext.models import FrameCNN, FrameCNNLSTM
from captum_ext.models.vgg_lstm import Activation

__all__ = ["accuracy", "train_frame_cnn", "train_frame_cnn_lstm", "trained_pair"]

# Frames at the start of a clip show no motion yet, so their scores are not trained.
_FIRST_TRAINED_STEP = 4


def train_frame_cnn(model: FrameCNN, clips: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Train on single frames; a frame shows the shape but not the motion.

    Shape:
        clips (N, 3, T, H, W), labels (N,).
    """

    def loss(batch: Tensor, target: Tensor) -> Tensor:
        # Every second frame is enough: neighbours look alike.
        frames = batch[:, :, ::2].transpose(1, 2)
        scores = model(frames.flatten(0, 1))
        return F.cross_entropy(scores, target.repeat_interleave(frames.shape[1]))

    _train(model, clips, labels, loss, epochs, seed, "training the frame CNN")


def train_frame_cnn_lstm(model: FrameCNNLSTM, clips: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """Train the scores of every time step but the first few.

    Shape:
        clips (N, 3, T, H, W), labels (N,).
    """

    def loss(batch: Tensor, target: Tensor) -> Tensor:
        scores = model(batch)[:, _FIRST_TRAINED_STEP:]
        return F.cross_entropy(scores.flatten(0, 1), target.repeat_interleave(scores.shape[1]))

    _train(model, clips, labels, loss, epochs, seed, "training the CNN-LSTM")


def trained_pair(
    clips: Tensor, labels: Tensor, epochs: int, seed: int, activation: Activation = "tanh"
) -> tuple[FrameCNN, FrameCNNLSTM]:
    """A CNN trained on frames, and a CNN-LSTM that starts from it, as in the paper.

    Shape:
        clips (N, 3, T, H, W), labels (N,).
    """
    n_classes = int(labels.max()) + 1
    frame_cnn = FrameCNN(n_classes)
    train_frame_cnn(frame_cnn, clips, labels, epochs, seed)
    cnn_lstm = FrameCNNLSTM(n_classes, activation=activation, output="steps")
    cnn_lstm.features.load_state_dict(frame_cnn.features.state_dict())
    cnn_lstm.embedding.load_state_dict(frame_cnn.embedding.state_dict())
    train_frame_cnn_lstm(cnn_lstm, clips, labels, epochs, seed)
    return frame_cnn, cnn_lstm


def accuracy(model: nn.Module, clips: Tensor, labels: Tensor) -> float:
    """Share of clips whose scores, averaged over time, are highest for the label."""
    model.eval()
    with torch.no_grad():
        scores = torch.cat([model(batch) for batch in torch.split(clips, 32)])
    if scores.dim() == 3:
        scores = scores.mean(1)
    return float((scores.argmax(1) == labels).double().mean())


def _train(
    model: nn.Module,
    clips: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    epochs: int,
    seed: int,
    title: str,
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def loss_of_mirrored(chosen: Tensor) -> Tensor:
        batch = clips[chosen]
        for axis in (3, 4):  # mirroring a clip changes no class
            if torch.rand((), generator=generator) < 0.5:
                batch = batch.flip(axis)
        return loss(batch, labels[chosen])

    model.train()
    fit(model.parameters(), loss_of_mirrored, len(clips), epochs, generator, title)
    model.eval()
