"""Tiny LightningModules that know nothing of dropout callbacks, their data, and a quiet Trainer."""

import dataclasses

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, batch_norm=False):
        super().__init__()
        self.fc1, self.drop, self.fc2, self.fc3 = (
            nn.Linear(5, 12), nn.Dropout(0.5), nn.Linear(12, 9), nn.Linear(9, 4),
        )  # fmt: skip
        self.bn = nn.BatchNorm1d(9) if batch_norm else nn.Identity()

    def below(self, x):
        return F.relu(self.fc1(x))

    def above(self, h):
        return self.fc3(F.relu(self.bn(self.fc2(h))))

    def forward(self, x):
        return self.above(self.drop(self.below(x)))


class Module(pl.LightningModule):
    """Cross entropy on (x, y), called as ``self(x)``."""

    def __init__(self, net=None, lr=0.1):
        super().__init__()
        self.net, self.lr = net if net is not None else Net(), lr

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y))

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def train_dataloader(self):
        return loader()

    def val_dataloader(self):
        return loader(n=4)


class InSetup(Module):
    """Makes its network in ``setup``, in the place of another."""

    def setup(self, stage):
        self.net = Net()


class Late(Module):
    """Makes its network in ``configure_model``."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.net = None

    def configure_model(self):
        if self.net is None:
            self.net = Net()


def data(n=12):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 5, generator=generator), torch.randint(4, (n,), generator=generator)


def loader(n=12, batch_size=4):
    return DataLoader(TensorDataset(*data(n)), batch_size=batch_size)


@dataclasses.dataclass
class Sample:
    image: torch.Tensor
    label: torch.Tensor


def trainer(tmp_path=None, **settings):
    settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **settings}
    return pl.Trainer(
        accelerator="cpu",
        devices=settings.pop("devices", 1),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **settings,
    )
