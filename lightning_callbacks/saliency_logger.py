"""Saliency of the same validation samples, epoch after epoch, in whatever logger the trainer has."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn

from captum_ext.visualization.overlay import Negative
from lightning_callbacks._attribution import AttributionLike, build, find_class, function_of, name_of
from lightning_callbacks._lightning import (
    LightningModule,
    MisconfigurationException,
    Trainer,
    rank_zero_warn,
)
from lightning_callbacks._observer import Observer
from lightning_callbacks._pictures import Layout, Pictures, draw, maps_of, share_outside, visible_frames
from lightning_callbacks._predictions import Target, check_target, predict
from lightning_callbacks._unchanged import unchanged
from lightning_callbacks.batches import find_inputs, find_labels
from lightning_callbacks.image_logging import (
    PictureFolder,
    log_image,
    log_video,
    takes_images,
    takes_videos,
)

__all__ = ["SaliencyLogger"]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Sample:
    """A sample as the model gets it, on the CPU: inputs (1, ...) and, where there is one, its label."""

    inputs: Tensor
    label: Tensor | None


class SaliencyLogger(Observer):
    """Show where a model looks while it is being trained.

    The same few validation samples are explained after every epoch and logged as pictures: an image beside
    its overlay; a clip as a strip of frames with the curve of its evidence over time, and as an animation.
    Each picture names the true and the predicted class with its probability. Colours are relative to the
    sample's own peak.

    TensorBoard, Weights & Biases, MLflow and Comet take the pictures themselves; for other loggers they are
    files under ``<key>/`` in the folder of the logger, without one in the Trainer's ``default_root_dir``.
    :func:`lightning_callbacks.image_logging.register` adds loggers.

    It works in ``fit``, ``validate`` and ``test``, for any model that is called with one tensor, on the
    trainer's device and with its precision. Maps are made at the end of a validation batch, where averaged
    weights (``WeightAveraging``, EMA) are in place, by the module as it is, in evaluation mode; afterwards
    its training flags, hooks, gradients and the random numbers are as they were. A logger that fails, or an
    attribution, is warned of once and never ends a run.

    With several processes only the first works, on the samples it gets itself, while the others wait for it
    where they next meet; keep ``num_samples`` small for slow methods. FSDP and DeepSpeed's stage 3 are
    refused.

    Args:
        attribution (str, type, callable or Attribution): how to explain. A function of the module that
            returns an attribution of ours or Captum's, ``lambda module: VideoGradCam(module, "features")``; a
            class or the name of one, such as ``"ExcitationBackprop"``; or an attribution made of the very
            module that is trained. The function or submodule it was made for is what is predicted and
            explained.
        num_samples (int): how many samples, the first ones. Default: 8.
        indices (sequence of int, optional): which samples instead: positions in the order in which the first
            process gets the first validation data loader. What is found there in the first epoch that is
            logged is kept for the rest of the run. Default: the first ``num_samples``.
        every_n_epochs (int): log after every n-th epoch of ``fit``. Default: 1.
        target (str, int or callable): what to explain: ``"predicted"``, the ``"label"``, a class, or a
            function ``(scores, label) -> target`` of one sample, in Captum's form. Of scores per time step
            (N, T, K) the last step is explained. Default: ``"predicted"``.
        init_kwargs (mapping, optional): further arguments of the class.
        attribute_kwargs (mapping, optional): further arguments of ``attribute``.
        class_names (sequence of str, or mapping): names of the classes, in their order or by their numbers.
            Default: their numbers.
        mean (float or sequence of float, optional): with ``std`` the normalisation of the inputs, for all or
            by channel, to be undone in the pictures. Default: each sample's smallest value is black, its
            largest white.
        std (float or sequence of float, optional): goes with ``mean``.
        layout (str): axes of a clip, ``"NCTHW"`` or ``"NTCHW"``. Default: ``"NCTHW"``.
        negative (str): ``"hide"`` or ``"show"`` evidence against, in blue. Default: ``"hide"``.
        fps (float): frames per second of the animations. Default: 8.
        input_fn (callable): finds the images or clips of a batch.
            Default: :func:`lightning_callbacks.batches.find_inputs`.
        target_fn (callable): finds the labels of a batch.
            Default: :func:`lightning_callbacks.batches.find_labels`; a batch without labels will do.
        probability_fn (callable, optional): from the scores (K,) of one sample to probabilities (K,).
            Default: the softmax, unless the scores sum to 1 already; of a single score the sigmoid.
        key (str): what the pictures are called: ``<key>/<index>``, and ``<key>/test/<index>`` in ``test``.
            Default: ``"saliency"``.
        strict (bool): raise the errors of an attribution instead of warning. Default: False.

    Raises:
        MisconfigurationException: an argument does not fit; in ``setup``, the strategy shards the model.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> from captum_ext.attr import VideoGradCam
        >>> saliency = SaliencyLogger(
        ...     lambda module: VideoGradCam(module, "features"),
        ...     attribute_kwargs={"relu_attributions": True},
        ...     class_names=["sit", "stand"],
        ... )
        >>> trainer = Trainer(callbacks=[saliency], max_epochs=30, logger=False)
        >>> saliency.state_dict()
        {'indices': [0, 1, 2, 3, 4, 5, 6, 7]}
    """

    def __init__(
        self,
        attribution: AttributionLike,
        *,
        num_samples: int = 8,
        indices: Sequence[int] | None = None,
        every_n_epochs: int = 1,
        target: Target = "predicted",
        init_kwargs: Mapping[str, Any] | None = None,
        attribute_kwargs: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | Mapping[int, str] = (),
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        layout: Layout = "NCTHW",
        negative: Negative = "hide",
        fps: float = 8.0,
        input_fn: Callable[[Any], Tensor] = find_inputs,
        target_fn: Callable[[Any], Tensor] = find_labels,
        probability_fn: Callable[[Tensor], Tensor] | None = None,
        key: str = "saliency",
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.attribution = attribution
        self.indices = list(range(num_samples)) if indices is None else self._whole(indices)
        self.every_n_epochs = every_n_epochs
        self.target = target
        self.init_kwargs = dict(init_kwargs or {})
        self.attribute_kwargs = dict(attribute_kwargs or {})
        self.class_names = _in_order(class_names)
        self.mean, self.std = _per_channel(mean), _per_channel(std)
        self.layout: Layout = layout
        self.negative: Negative = negative
        self.fps = fps
        self.input_fn = input_fn
        self.target_fn = target_fn
        self.probability_fn = probability_fn
        self.key = key
        self.strict = strict
        self._check_arguments()
        self._samples: dict[int, _Sample] = {}
        self._pictures: dict[int, Pictures | None] = {}  # of this epoch; none of a sample that failed
        self._n_seen = 0
        self._is_complete = False

    def _check_arguments(self) -> None:
        name = type(self).__name__
        try:
            check_target(self.target)
            if isinstance(self.attribution, str):
                find_class(self.attribution)
        except ValueError as error:
            raise MisconfigurationException(f"{name}: {error}") from None
        named = isinstance(self.attribution, (str, type))
        given = named or callable(self.attribution) or hasattr(self.attribution, "attribute")
        named_classes = all(isinstance(class_name, str) for class_name in self.class_names)
        different = len(set(self.indices)) == len(self.indices) and min(self.indices, default=0) >= 0
        normalised = len(self.mean or ()) == len(self.std or ()) and all(s > 0 for s in self.std or ())
        in_mlflow = re.fullmatch(r"(?!\.)[\w\-. ]+(/(?!\.)[\w\-. ]+)*", self.key, re.ASCII)
        self._refuse_unless(
            [
                (
                    given,
                    "attribution must be a class, its name, a function of the module, or have 'attribute'",
                ),
                (
                    named or not self.init_kwargs,
                    "init_kwargs are for a class; a function can give them itself",
                ),
                (self.indices, "num_samples must be positive, indices at least one"),
                (different, "indices must be different integers from 0"),
                (named_classes, "class_names must be strings, or a mapping from class to string"),
                (self.every_n_epochs >= 1, "every_n_epochs must be positive"),
                (normalised, "mean and std go together and must be of one length, std positive"),
                (self.layout in get_args(Layout), "layout must be 'NCTHW' or 'NTCHW'"),
                (self.negative in get_args(Negative), "negative must be 'hide' or 'show'"),
                (0 < self.fps < float("inf"), "fps must be positive and finite"),
                (in_mlflow, "key must be of letters, digits, '_-. ' and '/', and no part begin with a dot"),
            ]
        )

    def _whole(self, indices: Sequence[int]) -> list[int]:
        try:
            return [operator.index(index) for index in indices]
        except TypeError:
            raise MisconfigurationException(
                f"{type(self).__name__}: indices must be different integers from 0, not {indices!r}"
            ) from None

    # Where the trainer calls

    def state_dict(self) -> dict[str, Any]:
        """Which samples are shown."""
        return {"indices": self.indices}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the samples of this callback; warn if the checkpoint was made with others."""
        before = state_dict["indices"]
        if before != self.indices:
            rank_zero_warn(
                f"{type(self).__name__}: samples {self.indices} are logged from now on; the checkpoint was "
                f"made with {before}"
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse sharded models."""
        super().setup(trainer, pl_module, stage)
        self._forget()  # another stage may have another data loader

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the samples; warn if nothing was ever logged."""
        super().teardown(trainer, pl_module, stage)
        self._forget()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go of the samples."""
        self._forget()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count samples."""
        self._n_seen, self._pictures = 0, {}

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the samples of this batch, before a step can change them in place."""
        if dataloader_idx == 0 and self._is_due(trainer) and not self._is_complete:
            self._collect(batch)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Explain the samples of this batch, or those kept from an earlier epoch."""
        if dataloader_idx == 0 and self._is_due(trainer):
            for index, sample in self._samples.items():
                if index not in self._pictures:
                    what = f"sample {index} could not be explained by {name_of(self.attribution)}"
                    explain = partial(self._explain, trainer, pl_module, sample)
                    self._pictures[index] = self._try("attribution", what, explain)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the pictures to the loggers."""
        if not self._is_due(trainer):
            return
        self._was_due = True
        self._has_logged |= bool(self._samples or self._warned)
        if self._n_seen and not self._is_complete:
            rank_zero_warn(
                f"{type(self).__name__}: the first data loader gave this process {self._n_seen} samples; of "
                f"{self.indices} only {sorted(self._samples)} are shown"
            )
            self._is_complete = True
        self._log(trainer)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    # What happens then

    def _is_due(self, trainer: Trainer) -> bool:
        return trainer.is_global_zero and super()._is_due(trainer)

    def _forget(self) -> None:
        self._samples, self._pictures, self._n_seen, self._is_complete = {}, {}, 0, False

    def _collect(self, batch: Any) -> None:
        """Keep a batch's samples if they are among those to show."""
        inputs = self._try("inputs", "input_fn found no inputs", partial(self._inputs_of, batch))
        if inputs is None:
            return
        first, self._n_seen = self._n_seen, self._n_seen + len(inputs)
        rows = {index: index - first for index in self.indices if first <= index < self._n_seen}
        if not rows:
            return
        find = partial(self._labels_of, batch, len(inputs))
        labels = self._try("labels", "target_fn found no labels", find)
        with torch.inference_mode(False):  # copies that gradients may flow through
            for index, row in rows.items():
                label = None if labels is None else labels[row].detach().to("cpu", copy=True)
                kept = inputs[row : row + 1].detach().to("cpu", copy=True)
                self._samples[index] = _Sample(kept, label)
        self._is_complete = len(self._samples) == len(self.indices)

    def _inputs_of(self, batch: Any) -> Tensor:
        inputs = self.input_fn(batch)
        if not isinstance(inputs, Tensor) or inputs.dim() == 0:
            raise TypeError(f"the inputs must be one tensor with a batch axis, not {type(inputs).__name__}")
        return inputs

    def _labels_of(self, batch: Any, n: int) -> Tensor | None:
        try:
            labels = torch.as_tensor(self.target_fn(batch))
        except (TypeError, ValueError):
            if self.target_fn is find_labels and self.target != "label":
                return None  # none were asked for
            raise
        if labels.dim() == 0 or len(labels) != n:
            raise ValueError(
                f"labels of the shape {tuple(labels.shape)} do not belong to {n} inputs (axis N)"
            )
        return labels

    def _explain(self, trainer: Trainer, pl_module: LightningModule, sample: _Sample) -> Pictures:
        with (
            unchanged(pl_module),
            trainer.precision_plugin.forward_context(),  # hooks run outside of it
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            attribution = build(self.attribution, pl_module, self.init_kwargs)
            function = function_of(attribution, pl_module)
            if isinstance(function, nn.Module):
                function.eval()  # one that was made around the module
            inputs = sample.inputs.to(pl_module.device, copy=True)
            with torch.no_grad():
                scores = function(inputs.clone())
            prediction = predict(scores, sample.label, self.target, self.class_names, self.probability_fn)
            leaf = inputs.clone().requires_grad_(inputs.is_floating_point())
            found = self._attribute(attribution, leaf, prediction.target)
        maps = maps_of(found, inputs, self.layout)
        if share_outside(inputs, self.layout, self.mean, self.std) > 0.05:
            self._warn_once(
                "normalisation",
                f"mean {self.mean} and std {self.std} do not fit the inputs, which lie in "
                f"{float(inputs.min()):.4g}..{float(inputs.max()):.4g}: undone, many values are no colours. "
                f"The pictures show them black or white",
            )
        frames = visible_frames(inputs, self.layout, self.mean, self.std)
        return draw(frames, maps, prediction.caption, inputs.dim() == 5, self.negative)

    def _attribute(self, attribution: Any, inputs: Tensor, target: object) -> Any:
        try:
            return attribution.attribute(inputs, target=target, **self.attribute_kwargs)
        except Exception as error:
            if inputs.is_floating_point():
                raise
            raise TypeError(
                f"{type(attribution).__name__} could not explain inputs of {inputs.dtype}; if it needs "
                f"gradients, pass input_fn=lambda batch: batch[0].float()"
            ) from error

    def _log(self, trainer: Trainer) -> None:
        pictures = {index: found for index, found in self._pictures.items() if found is not None}
        self._pictures = {}
        key = f"{self.key}/test" if trainer.testing else self.key
        for place in self._places(trainer, takes_images):
            self._try_to_log(place, partial(self._send_stills, place, key, pictures, trainer.global_step))
        if any(found.moving is not None for found in pictures.values()):
            for place in self._places(trainer, takes_videos):
                self._try_to_log(place, partial(self._send_moving, place, key, pictures, trainer.global_step))

    def _send_stills(self, place: object, key: str, pictures: Mapping[int, Pictures], step: int) -> None:
        for index, found in pictures.items():
            log_image(place, f"{key}/{index}", found.still, step, found.caption)

    def _send_moving(self, place: object, key: str, pictures: Mapping[int, Pictures], step: int) -> None:
        for index, found in pictures.items():
            if found.moving is not None:
                log_video(place, f"{key}/{index}/animation", found.moving, step, found.caption, self.fps)

    def _places(self, trainer: Trainer, takes: Callable[[object], bool]) -> list[object]:
        """The loggers that take such pictures and the folders of those that do not, or of the run."""
        places: list[object] = []
        for logger in trainer.loggers:
            folder = getattr(logger, "log_dir", None) or logger.save_dir or trainer.default_root_dir
            places.append(logger if takes(logger) else PictureFolder(Path(folder)))
        if not trainer.loggers and not getattr(trainer, "fast_dev_run", False):
            places.append(PictureFolder(Path(trainer.default_root_dir)))
        return [place for n, place in enumerate(places) if place not in places[:n]]

    # Errors

    def _try(self, kind: str, what: str, action: Callable[[], _Result]) -> _Result | None:
        """The result of ``action``, or of one that fails nothing but a warning, unless ``strict``."""
        try:
            return action()
        except Exception as error:
            if self.strict:
                raise
            self._warn_of(kind, f"{what} (strict=True raises this)", error)
            return None


def _in_order(class_names: Sequence[str] | Mapping[int, str]) -> tuple[str, ...]:
    """Names by class; the number of one that a mapping leaves out."""
    if isinstance(class_names, Mapping):
        return tuple(class_names.get(k, str(k)) for k in range(max(class_names, default=-1) + 1))
    return tuple(class_names)


def _per_channel(values: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    return (float(values),) if isinstance(values, (int, float)) else tuple(float(value) for value in values)
