"""Tiny models, data and trainers for the tests of UtilizationMonitor."""

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

K, C, H, W = 4, 3, 7, 6
N_VAL, BATCH, N_UNITS = 8, 2, 9


def inputs(n=N_VAL, seed=0):
    return torch.randn(n, C, H, W, generator=torch.Generator().manual_seed(seed))


def labels(n=N_VAL):
    return torch.arange(n) % K


def loader(n=N_VAL, seed=0):
    return DataLoader(TensorDataset(inputs(n, seed), labels(n)), batch_size=BATCH)


class Toy(LightningModule):
    """A CNN with a hidden linear layer, batch norm and dropout, trained by plain SGD."""

    def __init__(self, lr=0.1):
        super().__init__()
        torch.manual_seed(1)
        self.features = nn.Sequential(nn.Conv2d(C, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
        self.fc1 = nn.Linear(5 * (H - 2) * (W - 2), N_UNITS)
        self.relu1 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.fc2 = nn.Linear(N_UNITS, N_UNITS)
        self.classifier = nn.Linear(N_UNITS, K)
        self.lr = lr

    def forward(self, x):
        hidden = self.drop(self.relu1(self.fc1(self.features(x).flatten(1))))
        return self.classifier(self.fc2(hidden).relu() + hidden)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("loss", F.cross_entropy(self(batch[0]), batch[1]), sync_dist=True)

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr)

    def head(self, hidden):
        return self.classifier(self.fc2(hidden).relu() + hidden)


def trainer(root, **kwargs):
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(default_root_dir=root, **(settings | kwargs))


def fit(root, callbacks, model=None, **kwargs):
    """Train on three batches an epoch; returns model and trainer."""
    model = model or Toy()
    running = trainer(root, callbacks=callbacks, **kwargs)
    running.fit(model, loader(6, seed=9), loader())
    return model, running


def labels_of_the_first_process(batch):
    """All labels of the second process are to be ignored."""
    second = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
    return torch.full_like(batch[1], -1) if second else batch[1]
