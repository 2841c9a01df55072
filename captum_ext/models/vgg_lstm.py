"""The CNN-LSTM action classifier of the EB-R paper."""

from __future__ import annotations

from typing import Literal

import torchvision
from torch import Size, Tensor, nn

from captum_ext.models.relu_lstm import ReLULSTM

__all__ = ["VGGLSTM", "Activation", "Output", "recurrent_layer", "run_recurrent"]

Activation = Literal["relu", "tanh"]
Output = Literal["average", "steps"]


class VGGLSTM(nn.Module):
    """VGG-16 up to fc7 on every frame, one LSTM layer over the frames, class scores at every time step.

    Args:
        num_classes (int): K.
        hidden_size (int, optional): units of the LSTM. Default: 256
        activation (str, optional): ``"tanh"``, an ordinary :class:`torch.nn.LSTM`, or ``"relu"``, the
            variant the papers train for Excitation Backprop. Default: ``"tanh"``
        output (str, optional): what :meth:`forward` returns: ``"average"``, the scores averaged over time, or
            ``"steps"``, those of every time step. May be changed at any time. Default: ``"average"``
        weights (str, optional): torchvision's name of VGG-16 weights, such as ``"IMAGENET1K_V1"``; random
            weights when None. Default: None
        dropout (float, optional): probability of dropout before the classifier. Default: 0.5

    Shape:
        clips (N, 3, T, H, W), normalised for the weights; returns (N, K) or (N, T, K).

    Example:
        >>> import torch
        >>> model = VGGLSTM(num_classes=7, hidden_size=8).eval()
        >>> model(torch.rand(1, 3, 2, 64, 64)).shape  # 224 x 224 for trained weights
        torch.Size([1, 7])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 4.1; Donahue et al., Long-term
        Recurrent Convolutional Networks, CVPR 2015.
    """

    def __init__(
        self,
        num_classes: int,
        hidden_size: int = 256,
        activation: Activation = "tanh",
        output: Output = "average",
        weights: str | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        vgg = torchvision.models.vgg16(weights=weights)
        self.features, self.avgpool = vgg.features, vgg.avgpool
        self.fc = vgg.classifier[:-1]  # fc6, ReLU, dropout, fc7, ReLU, dropout
        self.lstm = recurrent_layer(4096, hidden_size, activation)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, num_classes)
        self.output: Output = output

    def forward(self, clips: Tensor) -> Tensor:
        """Class scores (logits)."""
        frames = clips.transpose(1, 2)
        features = self.fc(self.avgpool(self.features(frames.flatten(0, 1))).flatten(1))
        return run_recurrent(
            self.lstm, self.dropout, self.classifier, features, frames.shape[:2], self.output
        )


def recurrent_layer(input_size: int, hidden_size: int, activation: Activation) -> nn.Module:
    """One LSTM layer, batch first, with the activation asked for."""
    if activation == "relu":
        return ReLULSTM(input_size, hidden_size)
    if activation == "tanh":
        return nn.LSTM(input_size, hidden_size, batch_first=True)
    raise ValueError(f"activation must be 'relu' or 'tanh', got {activation!r}")


def run_recurrent(
    lstm: nn.Module,
    dropout: nn.Module,
    classifier: nn.Module,
    features: Tensor,
    n_by_t: Size,
    output: Output,
) -> Tensor:
    """Scores (N, K) or (N, T, K) from the features (N * T, D) of all frames."""
    hidden, _ = lstm(features.view(*n_by_t, -1))
    scores: Tensor = classifier(dropout(hidden))
    if output == "average":
        return scores.mean(1)
    if output == "steps":
        return scores
    raise ValueError(f"output must be 'average' or 'steps', got {output!r}")
