"""One network, trained with one kind of dropout."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.excitation_dropout.evaluation import Evaluation, evaluate
from benchmarks.excitation_dropout.methods import LAYER, METHODS
from benchmarks.excitation_dropout.task import Images
from captum_ext.models import CNN2
from lightning_callbacks import UtilizationMonitor

__all__ = ["Outcome", "Recipe", "train"]


_LOOKS = 7


@dataclass(frozen=True)
class Recipe:
    """How every network is trained.

    Args:
        image_size (int): H and W, pixels.
        hidden_size (int): units of the linear layers.
        epochs (int): passes over the training images.
        batch_size (int): images per step.
        learning_rate (float): of Adam, falling to 0 as a half cosine.
        n_measured (int): test images whose utilisation and compression are measured.
        accelerator (str): of the Trainer.
    """

    image_size: int
    hidden_size: int
    epochs: int
    batch_size: int
    learning_rate: float
    n_measured: int
    accelerator: str


@dataclass(frozen=True)
class Outcome:
    """What came out of one run.

    Args:
        final (Evaluation): of the trained network.
        history (dict): ``"epoch"`` to the epochs after which it was looked at, and each name to its values.
        cpu_s (float): CPU seconds of training and evaluation.
    """

    final: Evaluation
    history: dict[str, list[float]]
    cpu_s: float


class _Classifier(LightningModule):
    def __init__(self, net: CNN2, learning_rate: float) -> None:
        super().__init__()
        self.net = net
        self.learning_rate = learning_rate

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.net(images)
        return scores

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("accuracy", (self(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Record(Callback):
    """Keeps what is logged per epoch, and looks at the network while the trainer's callbacks are in place."""

    def __init__(self, images: Images, recipe: Recipe, initial: Tensor) -> None:
        self.images, self.recipe, self.initial = images, recipe, initial
        self.history: dict[str, list[float]] = {}
        self.final: Evaluation | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.history.setdefault("epoch", []).append(float(trainer.current_epoch + 1))
        prefix = f"utilization/val/{LAYER}/"
        for name, value in trainer.callback_metrics.items():
            self.history.setdefault(name.removeprefix(prefix), []).append(float(value))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, _Classifier)  # noqa: S101
        pl_module.eval()
        self.final = evaluate(
            pl_module.net,
            self.images,
            self.initial,
            self.recipe.n_measured,
        )


def _fresh_network(n_classes: int, recipe: Recipe) -> CNN2:
    """With weights after He et al.: torch's own are so small that training rests for many epochs first."""
    net = CNN2(n_classes, recipe.image_size, recipe.hidden_size)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.constant_(module.bias, 0.0)  # type: ignore[arg-type]
    nn.init.normal_(net.classifier.weight, std=0.01)
    return net


def train(images: Images, recipe: Recipe, method: str, rate: float, seed: int) -> Outcome:
    """Train and look at one network; the seed fixes its first weights, the order of images and all masks."""
    start = time.process_time()
    torch.manual_seed(seed)
    net = _fresh_network(images.n_classes, recipe)
    METHODS[method].prepare(net, rate)
    record = _Record(images, recipe, net.fc1.weight.detach().clone())
    monitor = UtilizationMonitor(LAYER, max_batches=1)
    trainer = Trainer(
        accelerator=recipe.accelerator,
        devices=1,
        max_epochs=recipe.epochs,
        callbacks=[*METHODS[method].callbacks(rate), monitor, record],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=max(1, recipe.epochs // _LOOKS),
    )
    loader = DataLoader(
        TensorDataset(images.train, images.train_labels),
        recipe.batch_size,
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
    )
    n = recipe.n_measured
    validation = DataLoader(TensorDataset(images.test[:n], images.test_labels[:n]), 100)
    trainer.fit(_Classifier(net, recipe.learning_rate), loader, validation)
    assert record.final is not None  # noqa: S101
    return Outcome(record.final, record.history, time.process_time() - start)
