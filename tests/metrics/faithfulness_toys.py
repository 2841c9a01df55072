"""A model and explanations for the metrics that run them; importable, so that processes can be spawned."""

import torch
from torch import nn

C, T, H, W = 2, 5, 3, 4
N_CLASSES = 6


def clips(seed, n, t=T, dtype=torch.float32):
    return torch.randn(n, C, t, H, W, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def random_maps(seed, *shape, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Toy(nn.Module):
    """Depends on content, place and time; for clips of T frames."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv3d(C, 3, kernel_size=(2, 2, 2), dtype=dtype)
            self.norm = nn.BatchNorm3d(3, dtype=dtype)
            self.scale = nn.Parameter(torch.tensor(1.5, dtype=dtype))
            self.head = nn.Linear(3 * (T - 1) * (H - 1) * (W - 1), N_CLASSES, dtype=dtype)
        self.eval()

    def forward(self, x):
        return self.head(self.scale * self.norm(self.conv(x)).relu().flatten(1))


class GradientTimesInput:
    def __init__(self, model):
        self.model = model

    def __call__(self, x, target):
        x.requires_grad_()
        scores = self.model(x)
        selected = scores.gather(1, target[:, None]).sum()
        (gradient,) = torch.autograd.grad(selected, x)
        return (gradient * x.detach()).sum(1)


def brightness(x, target):
    """Never looks at the model, the class or the time."""
    return x.sum(1)
