"""How much of a layer a network uses, logged while it is being trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from captum_ext.attr import LayerExcitationBackprop
from captum_ext.metrics import CompressionCurve, CompressionResilience, ConservativeFilters
from captum_ext.metrics.functional.compression import Order
from lightning_callbacks._layer_metrics import layer_metrics, update_layer_metrics
from lightning_callbacks._lightning import MisconfigurationException
from lightning_callbacks._network import Scores, goes_into_relus, outputs_of, scores_with
from lightning_callbacks._observer import Observer
from lightning_callbacks._pictures import draw_curves
from lightning_callbacks._unchanged import unchanged
from lightning_callbacks.batches import find_inputs, find_labels
from lightning_callbacks.image_logging import log_image, takes_images

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["UtilizationMonitor"]


@dataclass(frozen=True)
class _Layer:
    """What a layer did with a batch: activations (N, U, *) and p_EB, (N, U) or (N, U, *)."""

    activations: Tensor
    excitation: Tensor


class UtilizationMonitor(Observer):
    """Log how much of a layer is used: neurons on, where p_EB lies, what is left if units go.

    For every layer, over the first batches of the first validation (test) data loader:

    - ``neurons_on``, ``neurons_ever_on``, ``dead_neurons``: units with activations above 0, per example, for
      any example, for none;
    - ``peak_p_eb``: the largest winning probability of Excitation Backprop;
    - ``entropy_activations_shannon``, ``entropy_p_eb_shannon``: over units, nats;
    - ``entropy_activations_histogram``, ``entropy_p_eb_histogram``: over examples, nats;
    - with ``compression``, ``compression_most`` (``_least``, ``_random``): area under the curve of the
      class's probability while units are switched off; the curves themselves are in :attr:`curves`, and
      loggers that take pictures get them as ``<key>/val/<layer>/compression``;
    - with ``filters``, ``conservative_filters``: those whose weights moved by less than a threshold since
      the start of ``fit``.

    They are logged as ``<key>/val/<layer>/<name>`` and ``<key>/test/<layer>/<name>``, as metrics that
    Lightning resets and adds up over processes. :mod:`captum_ext.metrics` defines them.

    It works in ``fit``, ``validate`` and ``test``, on the trainer's device and with its precision, at the end
    of validation batches, where averaged weights (``WeightAveraging``, EMA) are in place, on the inputs as
    they were before the step, and leaves the module as it is. Of the sanity check the first batch is tried
    and nothing logged. FSDP and DeepSpeed's stage 3 are refused.

    Args:
        layers (str or sequence of str): dotted names of layers whose *output* is looked at: the ReLU behind
            the layer, or the dropout behind that.
        every_n_epochs (int): at the end of every n-th epoch of ``fit``. Default: 1
        max_batches (int, optional): batches of an epoch that are looked at; None: all. Default: 10
        target (str): the class that p_EB starts from and whose probability is followed: ``"label"``, or
            ``"predicted"``. Default: ``"label"``
        unit (str): what a unit of a convolutional layer is: ``"element"`` or ``"channel"`` (activations and
            p_EB summed over space). Default: ``"element"``
        rectify (bool): set negative activations to 0, for layers with a functional ReLU right behind them
            (a normalisation in between is an error). Default: False, which refuses them.
        num_bins (int): bins of the histograms. Default: 100
        compression (sequence of str): orders of the compression curves, of ``"most"``, ``"least"`` and
            ``"random"``. Each runs the network 20 (``"random"``: 33) times per batch. Default: none
        filters (str or sequence of str): dotted names of layers whose ``weight`` is compared with that at
            the start of ``fit``, which is kept in checkpoints. Default: none
        threshold (float): change below which a filter is conservative. Default: 0.25
        relative (bool): divide the change by the norm of the filter at the start. Default: False
        model (str): dotted name of the part of the module that takes the inputs and returns the scores.
            Default: ``""``, the module itself.
        input_fn (callable): finds the inputs of a batch.
            Default: :func:`lightning_callbacks.batches.find_inputs`
        target_fn (callable): finds the labels of a batch: classes (N,) or (N, 1), of which negative ones are
            left out, or soft labels (N, K), of which the largest counts.
            Default: :func:`lightning_callbacks.batches.find_labels`
        output_fn (callable, optional): finds the scores (N, K) in what the model returns. Default: that must
            be the scores.
        key (str): first part of the logged names. Default: ``"utilization"``

    Attributes:
        metrics (dict): layer to name to :class:`torchmetrics.Metric`, copies of those of the last epoch. With
            several processes all must call ``compute`` or ``plot``, which add them up.
        curves (dict): layer to order to :class:`~captum_ext.metrics.CompressionCurve`, of the last epoch.

    Raises:
        MisconfigurationException: an argument does not fit, the strategy shards the model, or the module has
            no such layer.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> monitor = UtilizationMonitor("relu1", filters="fc1", compression=["most"], max_batches=4)
        >>> trainer = Trainer(callbacks=[monitor], max_epochs=30, logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        layers: str | Sequence[str],
        *,
        every_n_epochs: int = 1,
        max_batches: int | None = 10,
        target: Literal["label", "predicted"] = "label",
        unit: Literal["element", "channel"] = "element",
        rectify: bool = False,
        num_bins: int = 100,
        compression: Sequence[Order] = (),
        filters: str | Sequence[str] = (),
        threshold: float = 0.25,
        relative: bool = False,
        model: str = "",
        input_fn: Callable[[Any], Tensor] = find_inputs,
        target_fn: Callable[[Any], Tensor] = find_labels,
        output_fn: Callable[[Any], Tensor] | None = None,
        key: str = "utilization",
    ) -> None:
        super().__init__()
        self.layers = _names(layers)
        self.every_n_epochs = every_n_epochs
        self.max_batches = max_batches
        self.target = target
        self.unit = unit
        self.rectify = rectify
        self.num_bins = num_bins
        self.compression: tuple[Order, ...] = tuple(compression)
        self.filters = _names(filters)
        self.threshold = threshold
        self.relative = relative
        self.model = model
        self.input_fn = input_fn
        self.target_fn = target_fn
        self.output_fn = output_fn
        self.key = key
        self._check_arguments()
        self.metrics: dict[str, dict[str, Metric]] = {}
        self._running: dict[str, dict[str, Metric]] = {}  # of this epoch; Lightning resets them at its end
        self._examples: tuple[Tensor, Tensor | None] | None = None  # of this batch
        self.curves: dict[str, dict[str, CompressionCurve]] = {}
        self._num_units: dict[str, int] = {}
        self._reference: dict[str, Tensor] = {}
        self._is_restored = False

    def _check_arguments(self) -> None:
        orders = set(get_args(Order))
        self._refuse_unless(
            [
                (
                    len(self.layers) == len(set(self.layers)) > 0,
                    "layers must be different names, at least one",
                ),
                (len(self.filters) == len(set(self.filters)), "filters must be different names"),
                (self.every_n_epochs >= 1, "every_n_epochs must be positive"),
                (self.max_batches is None or self.max_batches >= 1, "max_batches must be positive, or None"),
                (self.target in ("label", "predicted"), "target must be 'label' or 'predicted'"),
                (self.unit in ("element", "channel"), "unit must be 'element' or 'channel'"),
                (self.num_bins >= 2, "num_bins must be at least 2"),
                (set(self.compression) <= orders, "compression takes 'most', 'least' and 'random'"),
                (0 < self.threshold < float("inf"), "threshold must be positive and finite"),
                (bool(self.key), "key must not be empty"),
            ]
        )

    # Where the trainer calls

    def state_dict(self) -> dict[str, Any]:
        """The weights of ``filters`` at the start of ``fit``."""
        return {"reference": self._reference}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the weights at the start of the run that is resumed."""
        before = state_dict["reference"]
        self._reference = {name: before[name] for name in self.filters if name in before}
        self._is_restored = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse sharded models."""
        super().setup(trainer, pl_module, stage)
        self.metrics, self.curves, self._num_units = {}, {}, {}
        self._running = {name: {} for name in (*self.layers, *self.filters)}
        self._is_restored = False  # a checkpoint of this run is loaded after this

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights that training starts from; of a resumed run they are in the checkpoint."""
        known = self._reference if self._is_restored else {}
        if self._is_restored and (missing := [name for name in self.filters if name not in known]):
            warnings.warn(
                f"{type(self).__name__}: the checkpoint holds no weights of {', '.join(missing)} from the "
                "start of the run; the change of these filters counts from here",
                stacklevel=2,
            )
        self._reference = {
            name: known[name] if name in known else self._weight(pl_module, name).detach().cpu().clone()
            for name in self.filters
        }
        self._is_restored = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look for the layers, and begin to count."""
        for name in self.layers:
            self._module(pl_module, name, "layer")
        for metric in self._all_metrics():
            metric.reset()
            metric.to(pl_module.device)

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Copy the inputs, before a step can change them in place."""
        self._examples = None
        last = 1 if trainer.sanity_checking else self.max_batches
        wanted = last is None or batch_idx < last
        if wanted and dataloader_idx == 0 and (trainer.sanity_checking or self._is_due(trainer)):
            with torch.inference_mode(False):
                self._examples = self._examples_of(batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        if self._examples is None:
            return
        (x, labels), self._examples = self._examples, None
        if len(x):
            with unchanged(pl_module):
                self._count(trainer, pl_module, x, labels)
        if batch_idx == 0:
            for name, reference in self._reference.items():
                metric = self._filter_metric(name, pl_module.device)
                metric.update(self._weight(pl_module, name), reference)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the metrics to the trainer, and pictures of the curves to its loggers."""
        if not self._is_due(trainer):
            return
        self._was_due = True
        if trainer.world_size > 1:
            self._agree_on_metrics(pl_module)
        start = f"{self.key}/{'test' if trainer.testing else 'val'}"
        for layer, metrics in self._running.items():
            for name, metric in sorted(metrics.items()):  # in one order on all processes
                logged = f"{start}/{layer}/{name}"
                pl_module.log(logged, metric, on_step=False, on_epoch=True, metric_attribute=logged)
                self._has_logged = True
        self.metrics = {
            layer: {name: metric.clone() for name, metric in metrics.items()}
            for layer, metrics in self._running.items()
        }
        for layer in self._num_units if self.compression else ():
            found = [m for m in self._running[layer].values() if isinstance(m, CompressionResilience)]
            self.curves[layer] = {metric.order: metric.curve() for metric in found}
        if trainer.is_global_zero:
            for logger in filter(takes_images, trainer.loggers):
                self._try_to_log(logger, partial(self._send_curves, logger, start, trainer.global_step))

    on_test_batch_start = on_validation_batch_start
    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    # What happens then

    def _count(self, trainer: Trainer, pl_module: LightningModule, x: Tensor, labels: Tensor | None) -> None:
        network = Scores(self._module(pl_module, self.model, "model"), self.output_fn)

        def head(module: nn.Module, activations: Tensor) -> Tensor:
            with trainer.precision_plugin.forward_context():  # hooks run outside of it
                return scores_with(network, x, module, activations)

        with torch.inference_mode(False), trainer.precision_plugin.forward_context():
            target, layers = self._look(pl_module, network, x, labels)
        for name, layer in layers.items():
            metrics = self._metrics_of(name, layer.excitation[0].numel(), pl_module.device)
            module = self._module(pl_module, name, "layer")
            update_layer_metrics(metrics, partial(head, module), layer.activations, layer.excitation, target)

    def _send_curves(self, logger: object, start: str, step: int) -> None:
        for layer, curves in self.curves.items():
            caption = "; ".join(f"{order}: area {curve.area:.3f}" for order, curve in curves.items())
            log_image(logger, f"{start}/{layer}/compression", draw_curves(curves), step, caption)

    def _module(self, pl_module: LightningModule, name: str, what: str) -> nn.Module:
        try:
            return pl_module.get_submodule(name)
        except AttributeError:
            names = [found for found, _ in pl_module.named_modules() if found]
            raise MisconfigurationException(
                f"{type(self).__name__}: {type(pl_module).__name__} has no {what} named {name!r}; it has "
                f"{', '.join(names)}"
            ) from None

    def _weight(self, pl_module: LightningModule, name: str) -> Tensor:
        weight = getattr(self._module(pl_module, name, "layer"), "weight", None)
        if not isinstance(weight, Tensor) or weight.dim() < 2:
            raise MisconfigurationException(
                f"{type(self).__name__}: filters takes linear and convolutional layers; {name!r} has no "
                "weight with filters and their inputs as axes"
            )
        return weight

    def _all_metrics(self) -> list[Metric]:
        return [metric for metrics in self._running.values() for metric in metrics.values()]

    def _metrics_of(self, layer: str, num_units: int, device: torch.device) -> dict[str, Metric]:
        """The layer's metrics; made when the number of its units is known."""
        if layer not in self._num_units:
            self._num_units[layer] = num_units
            made = layer_metrics(num_units, self.num_bins, self.compression)
            self._running[layer] |= {name: metric.to(device) for name, metric in made.items()}
        return self._running[layer]

    def _examples_of(self, batch: Any) -> tuple[Tensor, Tensor | None]:
        """Inputs, and labels (N,) if they are asked for, without examples whose label is to be ignored."""
        x = self.input_fn(batch).detach().clone()  # not one that inference made
        if self.target == "predicted":
            return x, None
        labels = self.target_fn(batch)
        if labels.dim() == 2:
            labels = labels.argmax(1) if labels.shape[1] > 1 else labels.squeeze(1)
        if labels.shape != x.shape[:1]:
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} do not belong to {len(x)} inputs; pass target_fn to "
                "say where the labels are"
            )
        counted = labels >= 0
        return x[counted], labels[counted].long()

    def _look(
        self, pl_module: LightningModule, network: nn.Module, x: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, dict[str, _Layer]]:
        """The class of each example, and what each layer does."""
        modules = {name: self._module(pl_module, name, "layer") for name in self.layers}
        scores, activations = outputs_of(network, x, modules)
        target = scores.argmax(1) if labels is None else labels
        layers = {}
        for name, module in modules.items():
            h = activations[name]
            excitation = LayerExcitationBackprop(network, module).attribute(x, target=target)
            if excitation.shape != h.shape:
                raise ValueError(
                    f"layer {name!r} gives {tuple(h.shape)} for {len(x)} examples, which Excitation Backprop "
                    f"reads as {tuple(excitation.shape)}: choose a layer that runs once, on whole examples, "
                    "not on frames folded into the batch"
                )
            if self.rectify:
                if name not in self._num_units and not goes_into_relus(network, x, module):
                    raise ValueError(
                        f"rectify=True needs a ReLU right behind layer {name!r}, but something else reads "
                        "its output; name the layer that the ReLU reads, such as a normalisation, or the ReLU"
                    )
                h = h.relu()
            if self.unit == "channel" and h.dim() > 2:
                excitation = excitation.flatten(2).sum(2)
            layers[name] = _Layer(h, excitation)
        return target, layers

    def _filter_metric(self, name: str, device: torch.device) -> ConservativeFilters:
        metric = self._running[name].get("conservative_filters")
        if not isinstance(metric, ConservativeFilters):
            metric = ConservativeFilters(self.threshold, self.relative).to(device)
            self._running[name]["conservative_filters"] = metric
        return metric

    def _agree_on_metrics(self, pl_module: LightningModule) -> None:
        """Make the metrics of a process that saw no examples, since all must log the same."""
        sizes = torch.tensor([self._num_units.get(name, 0) for name in self.layers], device=pl_module.device)
        gathered = pl_module.all_gather(sizes)
        assert isinstance(gathered, Tensor)  # noqa: S101
        for name, size in zip(self.layers, gathered.amax(0).tolist(), strict=True):
            if size:
                self._metrics_of(name, size, pl_module.device)
        for name in self._reference:
            self._filter_metric(name, pl_module.device)


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
