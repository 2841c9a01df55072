"""Adaptive Dropout in a Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from captum_ext.dropout import AdaptiveAttachment, attach_adaptive
from lightning_callbacks._layers import layer_names, makes_layers_late
from lightning_callbacks._lightning import Callback
from lightning_callbacks._training_step import TrainingStep, act_around

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["AdaptiveDropout"]


class AdaptiveDropout(Callback):
    """Adaptive Dropout (standout): drop the least active units.

    During ``fit``, ``validate``, ``test`` and ``predict`` the named dropout layers are replaced by
    :class:`~captum_ext.dropout.AdaptiveDropoutLayer`, which acts in evaluation, too: there it multiplies by
    the expectation of the mask. So a trained model is right only with this callback in the Trainer, or under
    :func:`~captum_ext.dropout.attach_adaptive`.

    Args:
        layers (str or list[str]): dotted names of dropout layers, or of activations to drop from.
        preactivations (str or list[str]): for each of them the linear or convolutional layer below the
            activation.
        alpha (float, optional): slope. Default: 1.0
        beta (float, optional): offset. Default: 0.0

    Raises:
        ValueError: names that the model does not have, or more of one than of the other.
        TypeError: layers that are not given by name.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> trainer = Trainer(callbacks=[AdaptiveDropout("net.classifier.2", "net.classifier.0")])

    References:
        Ba and Frey, Adaptive dropout for training deep neural networks, NIPS 2013.
    """

    def __init__(
        self,
        layers: str | Sequence[str],
        preactivations: str | Sequence[str],
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers, self.preactivations = layer_names(layers), layer_names(preactivations)
        if len(self.layers) != len(self.preactivations):
            raise ValueError(
                f"each layer needs its preactivation: got {len(self.layers)} layers, "
                f"{len(self.preactivations)} of those"
            )
        self.alpha, self.beta = alpha, beta
        self._attachment: AdaptiveAttachment | None = None
        self._step: TrainingStep | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the layers in, unless the model may still make others."""
        self._detach()
        if not makes_layers_late(pl_module):
            self._attach(pl_module)
        if stage == "fit":
            self._step = act_around(pl_module, self)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the layers into what the model's ``setup`` and ``configure_model`` made."""
        self._attach(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the layers into what the model's ``setup`` and ``configure_model`` made."""
        self._attach(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the layers into what the model's ``setup`` and ``configure_model`` made."""
        self._attach(pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the layers into what the model's ``setup`` and ``configure_model`` made."""
        self._attach(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the model."""
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the model."""
        self._detach()

    def _attach(self, pl_module: LightningModule) -> None:
        if self._attachment is None:
            self._attachment = attach_adaptive(
                pl_module, self.layers, self.preactivations, self.alpha, self.beta
            )

    def _detach(self) -> None:
        if self._step is not None:
            self._step.leave(self)
        if self._attachment is not None:
            self._attachment.detach()
        self._attachment = self._step = None

    def before_step(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        """Put the layers in if a tuner trains, which is before ``on_fit_start``."""
        self._attach(pl_module)

    def after_step(self, completed: bool, result: Any) -> None:
        """Leave them in."""
