"""Images to classify: generated ones, which a small training set does not pin down, or CIFAR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["DATASETS", "Images", "load_images"]

DATASETS = ("generated", "cifar10", "cifar100")

_N_CLASSES, _N_CUES, _SHOWN, _OTHER = 10, 4, 2, 1
_GRID, _CHECKS = 3, 2  # cells along a side of the image, and checks along a side of a cue
_CONTRAST, _SPREAD, _NOISE = 1.5, 0.5, 0.3


@dataclass(frozen=True)
class Images:
    """Training and test images, normalised by the training set.

    Args:
        train (Tensor): (N, 3, H, W).
        train_labels (Tensor): (N,).
        test (Tensor): (M, 3, H, W).
        test_labels (Tensor): (M,).
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    @property
    def n_classes(self) -> int:
        """K."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1


def load_images(
    dataset: str, data_root: Path | None, n_train: int | None, n_test: int | None, image_size: int
) -> Images:
    """The images of a data set, the same ones for every seed of training.

    Args:
        dataset (str): one of ``DATASETS``.
        data_root (Path, optional): where torchvision finds CIFAR.
        n_train (int, optional): number of training images; None: all of CIFAR.
        n_test (int, optional): number of test images.
        image_size (int): H and W of generated images, pixels.
    """
    if dataset == "generated":
        if n_train is None or n_test is None:
            raise ValueError("generated images need n_train and n_test")
        train, train_labels = _generated(n_train, 1, image_size)
        test, test_labels = _generated(n_test, 2, image_size)
    else:
        train, train_labels = _cifar(dataset, data_root, True, n_train)
        test, test_labels = _cifar(dataset, data_root, False, n_test)
    mean, std = (f(train, dim=(0, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
    return Images((train - mean) / std, train_labels, (test - mean) / std, test_labels)


def _generated(n: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
    """Two of the four cues of a class, one cue of another class, on smooth noise.

    A cue is a square of 2 x 2 coloured checks in a cell of its own of a 3 x 3 grid, with random contrast. Any
    one cue tells the class but for the stray one, so that a network may lean on few units, or on many.
    """
    side = size // _GRID - 1
    world = torch.Generator().manual_seed(0)
    cues = torch.randn(_N_CLASSES * _N_CUES, 3, _CHECKS, _CHECKS, generator=world)
    places = torch.rand(_N_CLASSES, _GRID**2, generator=world).argsort(1)[:, :_N_CUES]
    cues = F.interpolate(cues / cues.std((1, 2, 3), keepdim=True), size=(side, side))
    cues = cues.reshape(_N_CLASSES, _N_CUES, 3, side, side)
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % _N_CLASSES
    smooth = torch.randn(n, 3, size // 4, size // 4, generator=random)
    images = F.interpolate(smooth, size=(size, size), mode="bilinear")
    images += _NOISE * torch.randn(n, 3, size, size, generator=random)
    strange = torch.randint(1, _N_CLASSES, (n, _OTHER), generator=random)
    classes = torch.cat([labels[:, None].expand(n, _SHOWN), (labels[:, None] + strange) % _N_CLASSES], 1)
    own = torch.rand(n, _N_CUES, generator=random).argsort(1)[:, :_SHOWN]
    chosen = torch.cat([own, torch.randint(_N_CUES, (n, _OTHER), generator=random)], 1)
    cells = places[classes, chosen]
    contrast = _CONTRAST * (1 - _SPREAD + 2 * _SPREAD * torch.rand(cells.shape, generator=random))
    top, left = (place * (size // _GRID) for place in (cells // _GRID, cells % _GRID))
    patches = cues[classes, chosen] * contrast[..., None, None, None]
    for i in range(n):
        for j in range(cells.shape[1]):
            y, x = int(top[i, j]), int(left[i, j])
            images[i, :, y : y + side, x : x + side] += patches[i, j]
    return images, labels


def _cifar(dataset: str, data_root: Path | None, train: bool, n: int | None) -> tuple[Tensor, Tensor]:
    from torchvision import datasets

    if data_root is None:
        raise SystemExit(f"--dataset {dataset} needs --data-root, the folder in which torchvision finds it")
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[dataset]
    try:
        found = kind(str(data_root), train=train, download=False)
    except RuntimeError:
        raise SystemExit(
            f"{data_root} does not hold {dataset} as torchvision unpacks it ({kind.base_folder}); download "
            f"it once with torchvision.datasets.{kind.__name__}(root, download=True)"
        ) from None
    images = torch.from_numpy(found.data[:n]).permute(0, 3, 1, 2).float() / 255
    return images, torch.tensor(found.targets[:n])
