"""Small siblings of the reference model that train in a minute on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

from captum_ext.models.vgg_lstm import Activation, Output, recurrent_layer, run_recurrent

__all__ = ["FrameCNN", "FrameCNNLSTM"]


def _features() -> nn.Sequential:
    """Three convolutions, (N, 3, 64, 64) to (N, 48, 16, 16)."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 48, 3, padding=1),
        nn.ReLU(),
    )


def _embedding(size: int) -> nn.Sequential:
    """A coarse grid of positions, so that the recurrent layer can see motion."""
    return nn.Sequential(nn.AdaptiveMaxPool2d(4), nn.Flatten(), nn.Linear(48 * 16, size), nn.ReLU())


class FrameCNN(nn.Module):
    """A small image classifier, the per-frame counterpart of :class:`FrameCNNLSTM`.

    Args:
        num_classes (int): K.
        embedding_size (int, optional): units of the hidden layer. Default: 96

    Shape:
        images (N, 3, 64, 64); returns scores (N, K). ``features`` has the shape (N, 48, 16, 16).

    Example:
        >>> import torch
        >>> FrameCNN(num_classes=4)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 4])
    """

    def __init__(self, num_classes: int, embedding_size: int = 96) -> None:
        super().__init__()
        self.features, self.embedding = _features(), _embedding(embedding_size)
        self.classifier = nn.Linear(embedding_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits)."""
        scores: Tensor = self.classifier(self.embedding(self.features(images)))
        return scores


class FrameCNNLSTM(nn.Module):
    """A small CNN-LSTM: three convolutions per frame, one LSTM layer, scores at every time step.

    Args:
        num_classes (int): K.
        hidden_size (int, optional): units of the LSTM. Default: 64
        activation (str, optional): ``"tanh"`` or ``"relu"``. Default: ``"tanh"``
        output (str, optional): ``"average"`` or ``"steps"``, as in
            :class:`~captum_ext.models.VGGLSTM`. Default: ``"average"``
        embedding_size (int, optional): size of a frame's feature vector. Default: 96
        dropout (float, optional): probability of dropout before the classifier. Default: 0.0

    Shape:
        clips (N, 3, T, 64, 64); returns (N, K) or (N, T, K).

    Example:
        >>> import torch
        >>> FrameCNNLSTM(num_classes=4, output="steps")(torch.rand(2, 3, 5, 64, 64)).shape
        torch.Size([2, 5, 4])
    """

    def __init__(
        self,
        num_classes: int,
        hidden_size: int = 64,
        activation: Activation = "tanh",
        output: Output = "average",
        embedding_size: int = 96,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features, self.embedding = _features(), _embedding(embedding_size)
        self.lstm = recurrent_layer(embedding_size, hidden_size, activation)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden_size, num_classes)
        self.output: Output = output

    def forward(self, clips: Tensor) -> Tensor:
        """Class scores (logits)."""
        frames = clips.transpose(1, 2)
        features = self.embedding(self.features(frames.flatten(0, 1)))
        return run_recurrent(
            self.lstm, self.dropout, self.classifier, features, frames.shape[:2], self.output
        )
