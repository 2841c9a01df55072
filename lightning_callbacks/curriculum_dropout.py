"""Curriculum Dropout in a Trainer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from captum_ext.dropout import ExcitationDropoutLayer
from captum_ext.dropout.keep import check_drop_rate
from captum_ext.dropout.swap import find_module
from lightning_callbacks._lightning import Callback
from lightning_callbacks._schedule import RateSchedule, has_modules
from lightning_callbacks._training_step import act_around, stop_acting

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["CurriculumDropout"]


class CurriculumDropout(Callback):
    """Let the rate of dropout layers grow during training, as p (1 - exp(-gamma t)) after t optimiser steps.

    The layers stay what they are, :class:`torch.nn.Dropout` or its kin for channels; their rate is set
    before each step and restored when ``fit`` ends. The rate follows the Trainer's step, so a resumed run
    goes on where it was.

    Args:
        layers (str or list[str]): dotted names of dropout layers.
        p (float, optional): the final drop rate. Default: that of each layer
        gamma (float or str, optional): speed; ``"auto"``: 10 / the number of steps of the run, as in the
            paper. Default: 5e-4
        log (bool, optional): log the rate every ``log_every_n_steps``. Default: True

    Raises:
        ValueError: settings that make no sense, or a layer that is no dropout layer.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> trainer = Trainer(callbacks=[CurriculumDropout("net.classifier.2", gamma="auto")])

    References:
        Morerio et al., Curriculum Dropout, ICCV 2017.
    """

    def __init__(
        self,
        layers: str | Sequence[str],
        p: float | None = None,
        gamma: float | Literal["auto"] = 5e-4,
        log: bool = True,
    ) -> None:
        super().__init__()
        self.layers = [layers] if isinstance(layers, str) else list(layers)
        check_drop_rate(0.5 if p is None else p)
        self.p, self.log_rate = p, log
        self.schedule = RateSchedule(gamma)
        self._dropouts: dict[str, nn.modules.dropout._DropoutNd] = {}
        self._own_rates: dict[str, float] = {}
        self._module: LightningModule | None = None
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to set the rates."""
        if stage == "fit":
            self._detach()
            if has_modules(pl_module, self.layers):
                self._attach(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the layers that ``configure_model`` made."""
        if self._module is None:
            self._attach(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the rates."""
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the rates."""
        self._detach()

    def _attach(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._dropouts = {name: self._dropout(pl_module, name) for name in self.layers}
        self._own_rates = {name: layer.p for name, layer in self._dropouts.items()}
        if getattr(pl_module, "_compiler_ctx", None) is not None:
            warnings.warn(
                "the model is compiled, and the rate that CurriculumDropout sets is a constant of compiled "
                "code: it is compiled anew at each step, until torch gives up; train without torch.compile",
                stacklevel=2,
            )
        self._trainer, self._module = trainer, pl_module
        act_around(pl_module, self)

    def _detach(self) -> None:
        if self._module is not None:
            stop_acting(self._module, self)
            for name, layer in self._dropouts.items():
                layer.p = self._own_rates[name]
        self._module = self._trainer = None
        self._dropouts.clear()

    @staticmethod
    def _dropout(module: nn.Module, name: str) -> nn.modules.dropout._DropoutNd:
        layer = find_module(module, name)
        if isinstance(layer, ExcitationDropoutLayer):
            raise ValueError(
                f"layer {name!r} belongs to ExcitationDropout, which sets its rate; pass gamma= there instead"
            )
        if not isinstance(layer, nn.modules.dropout._DropoutNd):
            raise ValueError(f"layer {name!r} is {type(layer).__name__}, which has no drop rate to set")
        return layer

    def before_step(self, batch: Any) -> None:
        """Set the rates for a training step."""
        assert self._trainer is not None  # noqa: S101
        assert self._module is not None  # noqa: S101
        for name, own in self._own_rates.items():
            self._dropout(self._module, name).p = self.schedule.rate(
                own if self.p is None else self.p, self._trainer
            )

    def after_step(self, completed: bool) -> None:
        """Leave the rates until the next step."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates."""
        if self.log_rate and self._module is not None:
            rates = {f"curriculum_dropout/{name}/p": layer.p for name, layer in self._dropouts.items()}
            pl_module.log_dict(rates, on_step=True, on_epoch=False, batch_size=1)
