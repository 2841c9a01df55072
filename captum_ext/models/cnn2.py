"""The small image classifier that dropout methods are compared on."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["CNN2"]


class CNN2(nn.Module):
    """CNN-2 of the Curriculum and Excitation Dropout papers: three convolutions, two hidden linear layers.

    ``dropout1`` follows the first linear layer (fc1), where the papers drop units; ``dropout2`` follows the
    second and drops nothing by default. Neither has parameters, so weights fit whatever stands there.

    Args:
        num_classes (int): K.
        image_size (int, optional): H and W of the images, from 15 pixels. Default: 32
        hidden_size (int, optional): units of either linear layer. Default: 2048
        dropout (float, optional): probability that ``dropout1`` drops a unit. Default: 0.5
        upper_dropout (float, optional): probability that ``dropout2`` drops a unit. Default: 0.0

    Shape:
        images (N, 3, H, W); returns scores (N, K). ``features`` has the shape (N, 256, h, w), with 3 for h
        and w where H and W are 32.

    Example:
        >>> import torch
        >>> CNN2(num_classes=10, hidden_size=64)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])

    References:
        Morerio et al., Curriculum Dropout, ICCV 2017, section 5; Zunino et al., Excitation Dropout, IJCV
        2021, section 4.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int = 32,
        hidden_size: int = 2048,
        dropout: float = 0.5,
        upper_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if image_size < 15:
            raise ValueError(f"image_size must be at least 15 pixels, got {image_size}")
        self.features = nn.Sequential(*_block(3, 96), *_block(96, 128), *_block(128, 256))
        side = image_size
        for _ in range(3):
            side = (side - 3) // 2 + 1
        self.fc1 = nn.Linear(256 * side * side, hidden_size)
        self.relu1 = nn.ReLU()
        self.dropout1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden_size, hidden_size)
        self.relu2 = nn.ReLU()
        self.dropout2 = nn.Dropout(upper_dropout)
        self.classifier = nn.Linear(hidden_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits)."""
        hidden = self.dropout1(self.relu1(self.fc1(self.features(images).flatten(1))))
        hidden = self.dropout2(self.relu2(self.fc2(hidden)))
        scores: Tensor = self.classifier(hidden)
        return scores


def _block(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    """Convolution, ReLU and a pool that halves height and width."""
    return nn.Conv2d(in_channels, out_channels, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2)
