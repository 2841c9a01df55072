"""Saliency Tubes: class activation maps of 3-D CNNs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard, cast

import torch
import torch.nn.functional as F
from captum.attr import LayerAttribution
from torch import Tensor, nn

from captum_ext._compat import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
    select_targets,
)
from captum_ext.attr._base import check_map
from captum_ext.attr._forward import Captured, find_layer
from captum_ext.attr._plain import PlainPass, plain_pass
from captum_ext.attr._video import Layout, VideoAttribution, check_model
from captum_ext.excitation import unwrap

__all__ = ["SaliencyTubes"]

_NEEDS = "Saliency Tubes need a model of the form conv -> global pool -> linear"


class SaliencyTubes(VideoAttribution, LayerAttribution):
    r"""Saliency Tubes: the last activations of a 3-D CNN, weighted by the classifier.

    .. math:: S = \operatorname{norm}\Big(\operatorname{up}\Big(\sum_{k:\, w_{c,k} > \tau}
              w_{c,k} A_k\Big)\Big) \qquad
              \operatorname{norm}(S) = \frac{S - \min S}{\max S - \min S}

    with the activations :math:`A_k` in front of the global pool, the classifier's weights :math:`w_{c,k}` of
    the target class c, and enlargement to the clip's size by trilinear interpolation. Minimum and maximum
    are those of each clip. It costs one forward pass and no gradient.

    The model must be conv -> global (average or maximum) pool -> linear, as r3d_18 or r2plus1d_18 are. That
    is checked on the values of every call. For other models there is
    :class:`~captum_ext.attr.VideoGradCam`.

    The map is enlarged to the clip as the method defines it; resize it further with
    ``captum.attr.LayerAttribution.interpolate``.

    Args:
        model (nn.Module): the model, in evaluation mode.
        layer (nn.Module or str): the layer whose output is pooled, or its dotted name.
        classifier (nn.Module or str, optional): the ``nn.Linear`` or 1x1x1 ``nn.Conv3d`` that makes the
            scores. Default: the last one of the model's modules.
        layout (str, optional): axes of the clip, ``"NCTHW"`` (torchvision's) or ``"NTCHW"``.
            Default: ``"NCTHW"``

    References:
        Stergiou et al., Saliency Tubes: Visual Explanations for Spatio-Temporal Convolutions, ICIP 2019.

    Example:
        >>> import torch
        >>> model = nn.Sequential(
        ...     nn.Conv3d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 4)
        ... ).eval()
        >>> tubes = SaliencyTubes(model, "1")
        >>> clip = torch.rand(2, 3, 7, 9, 11)
        >>> tubes.attribute(clip, target=1, return_input_shape=False).shape
        torch.Size([2, 1, 7, 9, 11])
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str,
        classifier: nn.Module | str | None = None,
        layout: Layout = "NCTHW",
    ) -> None:
        check_model(model)
        LayerAttribution.__init__(self, model, find_layer(model, layer))
        self.model = model
        self.set_layout(layout)
        self.classifier = (
            _last_classifier(model)
            if classifier is None
            else _check_classifier(find_layer(model, classifier, "classifier"))
        )

    @log_usage()  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        threshold: float | None = None,
        return_input_shape: bool = True,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor]): the clips.
            target (int, tuple, Tensor or list, optional): the class, in any of Captum's forms.
            additional_forward_args (Any, optional): further arguments of the model.
            threshold (float, optional): only channels whose weight for the class is above it take part.
                Default: all channels, as in the authors' code.
            return_input_shape (bool, optional): repeat the map over the channels of the clip.
                Default: True

        Shape:
            inputs (N, C, T, H, W) or (N, T, C, H, W), by ``layout``; the map has the shape of the inputs, or
            is (N, 1, T, H, W) with ``return_input_shape=False``.

        Returns:
            *Tensor* (or tuple of one, as the inputs) of **attributions** in [0, 1]; 0 everywhere for a clip
            whose map is constant.

        Raises:
            ValueError: clips of the wrong rank or with frames and channels swapped, a model of another form,
                a threshold above all weights of the class.
            TypeError: inputs, layer or model outputs of a wrong type.
            AssertionError, IndexError: a target that Captum refuses.
        """
        was_tuple = is_tuple(inputs)
        clips = self.check_clips(format_tensor_into_tuples(inputs))
        captured = {"layer": Captured(self.layer), "classifier": Captured(self.classifier, of_input=True)}
        with plain_pass(
            self.model, (clips,), target, additional_forward_args, captured, differentiable=False
        ) as run:
            activations = self._pooled_activations(run)
            weights = self._weights_of_target(run, target)
            if threshold is not None:
                weights = _above(weights, threshold)
            tubes = torch.einsum("nc,ncthw->nthw", weights, activations)
            size = [clips.shape[self.layout.index(axis)] for axis in "THW"]
            tubes = F.interpolate(tubes.unsqueeze(1), size=size, mode="trilinear").squeeze(1)
            maps = self.spread(_min_max(tubes), clips, return_input_shape)
            attributions = (check_map(maps, clips.dtype),)
        return cast(TensorOrTupleOfTensorsGeneric, format_output(was_tuple, attributions))

    def _pooled_activations(self, run: PlainPass) -> Tensor:
        """The layer's output (N, C, T', h, w), once the classifier is seen to take its global pool."""
        layer = _only_call(run.calls["layer"], "layer")
        features = _only_call(run.calls["classifier"], "classifier")
        if layer.dim() != 5 or len(layer) != run.n_examples:
            raise ValueError(
                f"the layer ({type(self.layer).__name__}) returns the shape {tuple(layer.shape)} for "
                f"{run.n_examples} clips, not (N, C, T', h, w); {_NEEDS}, so choose the last 3-D convolution "
                "or the activation behind it (for CNNs that run on frames there is VideoGradCam)"
            )
        n_channels = self.classifier.weight.shape[1]
        if layer.shape[1] != n_channels:
            raise ValueError(
                f"the layer ({type(self.layer).__name__}) has {layer.shape[1]} channels, the classifier "
                f"({type(self.classifier).__name__}) takes {n_channels}; {_NEEDS}, so choose the layer right "
                "in front of the pool, or pass classifier="
            )
        if not _is_global_pool(layer, features):
            raise ValueError(
                f"the classifier ({type(self.classifier).__name__}) takes the shape {tuple(features.shape)}, "
                f"which is neither the mean nor the maximum of the layer ({type(self.layer).__name__}) over "
                f"its {tuple(layer.shape[2:])} positions: something else lies between them. {_NEEDS}, so "
                "choose the layer right in front of the pool, or use VideoGradCam"
            )
        return _at_least_float32(layer)

    def _weights_of_target(self, run: PlainPass, target: TargetType) -> Tensor:
        """The classifier's weights (N, C) of the class of each example."""
        weights = _at_least_float32(self.classifier.weight.detach()).flatten(1)
        n_classes = len(weights)
        if run.output.numel() != run.n_examples * n_classes:
            raise ValueError(
                f"the model returns the shape {tuple(run.output.shape)} for {run.n_examples} clips, the "
                f"classifier ({type(self.classifier).__name__}) makes {n_classes} scores; {_NEEDS}, so pass "
                "classifier=, the layer that makes the scores"
            )
        classes = torch.arange(n_classes, device=weights.device).expand(run.n_examples, -1)
        return weights[select_targets(classes.reshape(run.output.shape), target).flatten()]


def _is_classifier(module: nn.Module) -> TypeGuard[nn.Linear | nn.Conv3d]:
    if isinstance(module, nn.Conv3d):
        return module.kernel_size == (1, 1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _last_classifier(model: nn.Module) -> nn.Linear | nn.Conv3d:
    found = [module for module in unwrap(model).modules() if _is_classifier(module)]
    if not found:
        raise ValueError(f"the model has no nn.Linear and no 1x1x1 nn.Conv3d; {_NEEDS}")
    return found[-1]


def _check_classifier(classifier: nn.Module) -> nn.Linear | nn.Conv3d:
    if not _is_classifier(classifier):
        raise ValueError(
            f"the classifier is a {type(classifier).__name__}, not an nn.Linear or 1x1x1 nn.Conv3d; {_NEEDS}"
        )
    return classifier


def _only_call(calls: Sequence[Tensor], what: str) -> Tensor:
    if len(calls) != 1:
        raise ValueError(f"the {what} ran {len(calls)} times in one forward pass; {_NEEDS}")
    return calls[0]


def _is_global_pool(layer: Tensor, features: Tensor) -> bool:
    """Whether the classifier's input (N, C) or (N, C, *) is the mean or the maximum over positions.

    A classifier that runs at several positions, whose scores are averaged, is the same linear map.
    """
    if features.shape[:2] != layer.shape[:2]:
        return False
    tolerance = max(torch.finfo(tensor.dtype).eps for tensor in (layer, features)) ** 0.5
    positions = _at_least_float32(layer).flatten(2)
    found = _at_least_float32(features).reshape(*features.shape[:2], -1)
    pools = [positions.mean(2)]
    if found.shape[2] == 1:
        pools.append(positions.amax(2))
    scale = float(positions.abs().max())
    return any(float((found.mean(2) - pool).abs().max()) <= tolerance * scale for pool in pools)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _above(weights: Tensor, threshold: float) -> Tensor:
    """The weights above a threshold, the others 0."""
    largest = weights.amax(1)
    if bool((largest <= threshold).any()):
        raise ValueError(
            f"no weight of the target class is above threshold={threshold} (the largest is "
            f"{float(largest.min()):.3g})"
        )
    return weights * (weights > threshold)


def _min_max(maps: Tensor) -> Tensor:
    """Each map moved and scaled to [0, 1]; a constant map is 0."""
    low, high = maps.flatten(1).amin(1).view(-1, 1, 1, 1), maps.flatten(1).amax(1).view(-1, 1, 1, 1)
    spread = high - low
    return (maps - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
