"""Curriculum Dropout in a Trainer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakSet

from torch import nn

from captum_ext.dropout import ExcitationDropoutLayer
from captum_ext.dropout.attach import is_compiled
from captum_ext.dropout.keep import check_drop_rate
from captum_ext.dropout.swap import find_module
from lightning_callbacks._layers import layer_names, makes_layers_late
from lightning_callbacks._lightning import Callback
from lightning_callbacks._schedule import RateSchedule
from lightning_callbacks._training_step import TrainingStep, act_around

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["CurriculumDropout"]

_TAKEN: WeakSet[nn.Module] = WeakSet()
"""Layers whose rate a callback sets."""


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
        ValueError: settings that make no sense, or a layer that is no dropout layer, has no rate between 0
            and 1, or follows another curriculum.
        TypeError: layers that are not given by name.

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
        self.layers = layer_names(layers)
        check_drop_rate(0.5 if p is None else p)
        self.p, self.log_rate = p, log
        self.schedule = RateSchedule(gamma)
        self._dropouts: dict[str, nn.modules.dropout._DropoutNd] = {}
        self._own_rates: dict[str, float] = {}
        self._step: TrainingStep | None = None
        self._has_warned = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to set the rates."""
        if stage == "fit":
            self._detach()
            self.schedule.begin(trainer)
            if not makes_layers_late(pl_module):
                self._attach(pl_module)
            self._step = act_around(pl_module, self)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the layers that the model's ``setup`` and ``configure_model`` made."""
        self._attach(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the rates."""
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the rates."""
        self._detach()

    def _attach(self, pl_module: LightningModule) -> None:
        if self._dropouts:
            return
        dropouts = {name: self._dropout(pl_module, name) for name in self.layers}
        for name, layer in dropouts.items():
            if layer in _TAKEN:
                raise ValueError(f"the rate of layer {name!r} is set by another CurriculumDropout already")
            if self.p is None and not 0 < layer.p < 1:
                raise ValueError(
                    f"layer {name!r} has the drop rate {layer.p}, for which there is no curriculum; pass p="
                )
        self._own_rates = {name: layer.p for name, layer in dropouts.items()}
        _TAKEN.update(dropouts.values())
        self._dropouts = dropouts

    def _detach(self) -> None:
        if self._step is not None:
            self._step.leave(self)
        for name, layer in self._dropouts.items():
            layer.p = self._own_rates[name]
            _TAKEN.discard(layer)
        self._step, self._dropouts = None, {}

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

    def before_step(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        """Set the rates for a training step."""
        # Tuners train before on_fit_start.
        self._attach(pl_module)
        for name, own in self._own_rates.items():
            rate = self.schedule.rate(own if self.p is None else self.p, trainer)
            self._dropout(pl_module, name).p = rate
        if not self._has_warned and is_compiled(pl_module, self.layers):
            self._has_warned = True
            warnings.warn(
                "the model is compiled, and the rate that CurriculumDropout sets is a constant of compiled "
                "code: it is compiled anew at each step, until torch gives up; train without torch.compile",
                stacklevel=2,
            )

    def after_step(self, completed: bool, result: Any) -> None:
        """Leave the rates until the next step."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the rates."""
        if self.log_rate:
            rates = {f"curriculum_dropout/{name}/p": layer.p for name, layer in self._dropouts.items()}
            pl_module.log_dict(rates, on_step=True, on_epoch=False, batch_size=1)
