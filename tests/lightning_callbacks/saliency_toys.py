"""Tiny models, data and trainers for the tests of SaliencyLogger."""

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

K, C, T, H, W = 4, 3, 5, 12, 10
N_VAL, BATCH = 7, 3


def inputs(n=N_VAL, seed=0, clips=False):
    shape = (n, C, T, H, W) if clips else (n, C, H, W)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(n=N_VAL):
    return torch.arange(n) % K


def loader(n=N_VAL, seed=0, clips=False, **kwargs):
    return DataLoader(TensorDataset(inputs(n, seed, clips), labels(n)), batch_size=BATCH, **kwargs)


class Toy(LightningModule):
    """A CNN of images or clips with batch norm and dropout, trained by plain SGD."""

    def __init__(self, clips=False, lr=0.1):
        super().__init__()
        torch.manual_seed(1)
        convolution, norm = (nn.Conv3d, nn.BatchNorm3d) if clips else (nn.Conv2d, nn.BatchNorm2d)
        self.features = nn.Sequential(convolution(C, 6, 3, stride=2, padding=1), norm(6), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, K))
        self.lr = lr

    def forward(self, x):
        return self.head(self.features(x).flatten(2).mean(2))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self(batch[0] if isinstance(batch, (tuple, list)) else batch["image"])

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)


def trainer(root, **kwargs):
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(default_root_dir=root, **(settings | kwargs))


def fit(root, model=None, val=None, **kwargs):
    """Train on two batches an epoch; returns model and trainer."""
    model = model or Toy()
    clips = isinstance(model.features[0], nn.Conv3d) if hasattr(model, "features") else False
    running = trainer(root, **kwargs)
    running.fit(model, loader(6, seed=9, clips=clips), val or loader(clips=clips))
    return model, running


class Spy:
    """An attribution that notes how it was called, and gives a map that rises from left to right."""

    def __init__(self, module, calls):
        self.forward_func, self.calls = module, calls

    def attribute(self, x, target=None, **kwargs):
        self.calls.append({"inputs": x.detach().clone(), "target": target, **kwargs})
        return torch.linspace(0, 1, x.shape[-1]).expand(x.shape).clone()


def spy(calls):
    """A function of the module, as users pass one."""
    return lambda module: Spy(module, calls)


class Broken:
    """An attribution that fails when it has already done harm to the module."""

    def __init__(self, module, error=RuntimeError):
        self.forward_func, self.error = module, error

    def attribute(self, x, target=None):
        self.forward_func.train()
        self.forward_func.features[0].register_forward_hook(lambda *_: None)
        self.forward_func(x).sum().backward()
        torch.rand(3)
        raise self.error("no evidence to be had")


def saliency_by_hand(model, x):
    """The gradient's size of each example's largest score, summed over channels: (n, [T,] H, W)."""
    model.eval()
    maps = []
    for i in range(len(x)):
        leaf = x[i : i + 1].clone().requires_grad_()
        scores = model(leaf)
        (gradient,) = torch.autograd.grad(scores.max(), leaf)
        maps.append(gradient[0].abs().sum(0))
    return torch.stack(maps)


def visible_by_hand(x):
    """One sample (C, ...) as uint8, smallest value black, largest white."""
    low, high = float(x.min()), float(x.max())
    return ((x - low) / (high - low) * 255).round().to(torch.uint8)
