"""Excitation Dropout in a Trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from captum_ext.dropout import (
    Attachment,
    ExcitationDropoutLayer,
    attach,
    find_scores,
)
from captum_ext.dropout.attach import Head
from captum_ext.dropout.consumed import weight_above
from captum_ext.dropout.layer import Unit
from captum_ext.dropout.rescale import Rescale
from captum_ext.dropout.targets import OutputFn
from lightning_callbacks._layers import layer_names, makes_layers_late
from lightning_callbacks._lightning import Callback, refuse_sharded_models, should_log
from lightning_callbacks._schedule import RateSchedule
from lightning_callbacks._training_step import TrainingStep, act_around
from lightning_callbacks.batches import find_labels

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["ExcitationDropout"]

_MUCH = 0.9
"""Lost mass on average over a batch, from which on to warn."""


class ExcitationDropout(Callback):
    """Train with Excitation Dropout: units are dropped the more, the more they contribute to the label.

    During ``fit`` the named dropout layers are replaced, or dropout is added behind the named modules; the
    LightningModule and its ``training_step`` need no change. See :class:`~captum_ext.dropout.
    ExcitationDropoutLayer` for the method and :func:`~captum_ext.dropout.attach` for how a training step
    runs: the network above the lowest of the layers runs twice, everything below it once. The network must be
    called as a module in ``training_step``, as in ``self(x)`` or ``self.net(x)``. In validation, test and
    prediction the layers do nothing, and checkpoints are those of a model with plain dropout.

    Works with mixed precision, gradient accumulation, manual optimisation, DDP, activation checkpointing that
    is not reentrant, weight averaging and the tuners. Sharded strategies (FSDP, DeepSpeed stage 3) are
    refused.

    From scratch, a constant rate holds training up at first: while the network knows little, the few units
    that carry evidence are dropped nearly always. Give it time, or let the rate grow with ``gamma`` or
    ``warmup_steps``.

    Args:
        layers (str or list[str]): dotted names of dropout layers, or of modules to drop from the output of.
        p (float, optional): base drop rate. Default: that of the layer whose place is taken, 0.5 behind
            others
        rescale (str, optional): ``"fraction"``, ``"none"``, ``"unit"`` or ``"mass"``, see
            :class:`~captum_ext.dropout.ExcitationDropoutLayer`. Default: ``"fraction"``
        target (str, optional): what the evidence is for: ``"label"`` or ``"predicted"``. Default: ``"label"``
        target_fn (Callable, optional): takes the labels (N,), or soft labels (N, K), out of a batch. Negative
            labels leave their example alone; if it returns None the whole batch is left alone. Default: the
            second element of a tuple, or what is called label(s), target(s) or y
        output_fn (Callable, optional): takes the scores (N, K) out of what the network returns. Default: the
            tensor itself, ``logits``, ``scores`` or ``out``, or the first of a tuple
        gamma (float or str, optional): let the rate grow as p (1 - exp(-gamma t)) with the number t of
            optimiser steps after the warm-up; ``"auto"``: 10 / the number of steps of the run. Default: a
            constant rate
        warmup_steps (int, optional): optimiser steps without dropout at the beginning. Default: 0
        unit (str, optional): ``"element"`` or ``"channel"``. Default: ``"channel"`` in the place of
            :class:`torch.nn.Dropout2d` and its kin
        n (str, optional): N of eq. 5.1: all units (``"layer"``) or those that are not 0 (``"active"``).
            Default: ``"layer"``
        inverse (bool, optional): drop the units with the least evidence, as a control. Default: False
        max_scale (float, optional): largest factor of ``"unit"`` and ``"mass"``. Default: 10.0
        head (str, list[str] or Callable, optional): the part of the network above the layer, see
            :func:`~captum_ext.dropout.attach`; needed to train compiled. Default: found while training
        strict (bool, optional): whether an operation without an Excitation Backprop rule above the layer is
            an error. Default: True
        log (bool, optional): log ``peak_p_eb``, ``dropped_units``, ``dropped_evidence`` and ``lost_mass``
            (see :meth:`~captum_ext.dropout.Dropped.statistics`), and the rate ``p``, at first and every
            ``log_every_n_steps``. Default: True

    Raises:
        ValueError: settings that make no sense, or no layer.
        TypeError: layers that are not given by name.
        MisconfigurationException: a sharded strategy.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> trainer = Trainer(callbacks=[ExcitationDropout("net.classifier.2", gamma="auto")])

    References:
        Zunino et al., Excitation Dropout: Encouraging Plasticity in Deep Neural Networks, IJCV 2021; Bargal,
        thesis 2019, chapter 5.
    """

    def __init__(
        self,
        layers: str | Sequence[str],
        p: float | None = None,
        rescale: Rescale = "fraction",
        target: Literal["label", "predicted"] = "label",
        target_fn: Callable[[Any], Tensor | None] = find_labels,
        output_fn: OutputFn = find_scores,
        gamma: float | Literal["auto"] | None = None,
        warmup_steps: int = 0,
        unit: Unit | None = None,
        n: Literal["layer", "active"] = "layer",
        inverse: bool = False,
        max_scale: float = 10.0,
        head: Head | None = None,
        strict: bool = True,
        log: bool = True,
    ) -> None:
        super().__init__()
        self.layers = layer_names(layers)
        if target not in ("label", "predicted"):
            raise ValueError(f"target must be 'label' or 'predicted', got {target!r}")
        # Raises what is to be raised for settings that make no sense.
        ExcitationDropoutLayer(0.5 if p is None else p, rescale, unit or "element", n, inverse, max_scale)
        self.p, self.rescale, self.unit, self.n, self.inverse = p, rescale, unit, n, inverse
        self.target, self.target_fn, self.output_fn = target, target_fn, output_fn
        self.max_scale, self.head, self.strict, self.log_statistics = max_scale, head, strict, log
        self.schedule = RateSchedule(gamma, warmup_steps)
        self._attachment: Attachment | None = None
        self._step: TrainingStep | None = None
        self._rates: dict[str, float] = {}
        self._has_measured: set[str] = set()
        self._has_checked: set[str] = set()
        self._has_warned: set[str] = set()

    @property
    def state_key(self) -> str:
        """One state per choice of layers."""
        return self._generate_state_key(layers=self.layers)

    def state_dict(self) -> dict[str, Any]:
        """The settings; the state of the schedule is the Trainer's step."""
        return {
            "p": self.p,
            "rescale": self.rescale,
            "target": self.target,
            "gamma": self.schedule.gamma,
            "warmup_steps": self.schedule.warmup_steps,
            "unit": self.unit,
            "n": self.n,
            "inverse": self.inverse,
            "max_scale": self.max_scale,
            "strict": self.strict,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Warn if training goes on with other settings."""
        changed = {k: v for k, v in state_dict.items() if self.state_dict().get(k, v) != v}
        if changed:
            was = ", ".join(f"{name}={value!r}" for name, value in changed.items())
            warnings.warn(
                f"ExcitationDropout({self.layers}) goes on with other settings than the checkpoint's {was}",
                stacklevel=2,
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the layers in, unless the model may still make others."""
        if stage == "fit":
            refuse_sharded_models(trainer, type(self).__name__)
            self._detach()
            self._has_measured.clear()
            self._has_checked.clear()
            self.schedule.begin(trainer)
            if not makes_layers_late(pl_module):
                self._attach(pl_module)
            self._step = act_around(pl_module, self)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the layers into what the model's ``setup`` and ``configure_model`` made."""
        self._attach(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the model."""
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the model."""
        self._detach()

    def _attach(self, pl_module: LightningModule) -> Attachment:
        if self._attachment is not None:
            return self._attachment
        self._attachment = attach(
            pl_module,
            self.layers,
            self.p,
            self.rescale,
            self.unit,
            self.n,
            self.inverse,
            self.max_scale,
            self.output_fn,
            self.head,
            self.strict,
        )
        self._rates = {name: layer.p for name, layer in self._attachment.layers.items()}
        for layer in self._attachment.layers.values():
            layer.has_run = True  # that it does not is told here, by its name
        return self._attachment

    def _detach(self) -> None:
        if self._step is not None:
            self._step.leave(self)
        if self._attachment is not None:
            self._attachment.detach()
        self._attachment = self._step = None

    def before_step(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        """Arm the layers for a training step."""
        # Tuners train before on_fit_start.
        attachment = self._attach(pl_module)
        for name, layer in attachment.layers.items():
            layer.p = self.schedule.rate(self._rates[name], trainer)
            layer.last = None
        if self.target == "predicted":
            attachment.arm("predicted")
            return
        targets = self.target_fn(batch)
        if isinstance(targets, Tensor):
            attachment.arm(targets)
        elif targets is not None:
            raise TypeError(f"target_fn must return a tensor of labels or None, got {type(targets).__name__}")

    def after_step(self, completed: bool, result: Any) -> None:
        """Disarm them."""
        if self._attachment is not None:
            was_armed = any(layer.is_armed for layer in self._attachment.layers.values())
            self._attachment.disarm()
            if was_armed and completed:
                self._warn_of_idle_layers(self._attachment)
                self._refuse_features(self._attachment, result)

    def _refuse_features(self, attachment: Attachment, result: Any) -> None:
        loss = result.get("loss") if isinstance(result, Mapping) else result
        for name, layer in attachment.layers.items():
            if layer.scores_number is None or name in self._has_checked or not isinstance(loss, Tensor):
                continue
            self._has_checked.add(name)
            weight = weight_above(loss, layer.scores_number)
            if weight is not None:
                raise RuntimeError(
                    f"what was taken for the class scores above layer {name!r} meets further weights, "
                    f"{tuple(weight.shape)}, on its way to the loss, so it is features, whose number k says "
                    "nothing of class k. Have training_step call the whole network as one module, self(x), "
                    "or say where the scores are with output_fn="
                )

    def _warn_of_idle_layers(self, attachment: Attachment) -> None:
        for name, layer in attachment.layers.items():
            if layer.last is None and layer.p > 0 and name not in self._has_warned:
                self._has_warned.add(name)
                why = "did not run with gradients" if layer.training else "is in evaluation mode"
                warnings.warn(
                    f"layer {name!r} {why} in the training step, so ExcitationDropout did nothing there",
                    stacklevel=2,
                )

    def _warn_of_lost_mass(self, name: str, lost_mass: float) -> None:
        if lost_mass > _MUCH and f"mass of {name}" not in self._has_warned:
            self._has_warned.add(f"mass of {name}")
            warnings.warn(
                f"{lost_mass:.0%} of the evidence for the target does not reach layer {name!r}, so next to "
                "nothing is dropped there: it goes around the layer, no unit above it is excited, or the "
                "last layer begins with weights of 0",
                stacklevel=2,
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what was dropped, and look whether evidence arrives: at first, and when it is time to log."""
        if self._attachment is None:
            return
        is_due = should_log(trainer)
        for name, layer in self._attachment.layers.items():
            values: dict[str, Any] = {"p": layer.p}
            # Asking for values makes a GPU wait, so it is not done in every step.
            is_asked = is_due or name not in self._has_measured
            if layer.last is not None and is_asked and bool(layer.last.has_target.any()):
                values |= layer.last.statistics()
                self._has_measured.add(name)
                self._warn_of_lost_mass(name, float(values["lost_mass"]))
            if is_asked and self.log_statistics:
                pl_module.log_dict(
                    {f"excitation_dropout/{name}/{key}": value for key, value in values.items()},
                    on_step=True,
                    on_epoch=False,
                    batch_size=1,
                )
