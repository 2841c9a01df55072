"""Grad-CAM for clips: one map per frame, whatever the model does with time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from captum.attr import GradientAttribution, LayerAttribution
from torch import Tensor, nn

from captum_ext._compat import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
)
from captum_ext.attr._base import check_map
from captum_ext.attr._forward import Captured, find_layer
from captum_ext.attr._plain import PlainPass, plain_pass
from captum_ext.attr._time import FrameOrder, check_order, example_of_row, unfold_time
from captum_ext.attr._video import Layout, VideoAttribution, check_model

__all__ = ["VideoGradCam"]


class VideoGradCam(VideoAttribution, LayerAttribution, GradientAttribution):
    r"""Grad-CAM at a convolutional layer of a video model, with its time axis.

    The channels :math:`A_k` of the layer are summed with the mean of the score's gradient over their
    positions as weights:

    .. math:: \alpha_k = \frac{1}{Z} \sum_i \frac{\partial y}{\partial A_{k,i}} \qquad
              L_i = \sum_k \alpha_k A_{k,i}

    The positions are those of one row of the layer, as in Captum's ``LayerGradCam``: time and space of a 3-D
    CNN; the space of one frame where a CNN runs on frames, so that every frame has weights of its own.
    ``LayerGradCam`` itself returns the rows of a folded layer as (N * T, 1, h, w) and of a layer that is
    called once per frame only the last call; where neither happens the two are equal.

    Maps have the layer's resolution. ``captum.attr.LayerAttribution.interpolate(maps, (T, H, W),
    "trilinear")`` enlarges them.

    Args:
        model (nn.Module): the model, in evaluation mode. Recurrent layers may run on a GPU.
        layer (nn.Module or str): a convolutional layer, or its dotted name.
        layout (str, optional): axes of the clip, ``"NCTHW"`` (torchvision's) or ``"NTCHW"``.
            Default: ``"NCTHW"``
        frame_order (str, optional): how a per-frame CNN's batch is ordered: ``"NT"``, all frames of one clip
            in a row, or ``"TN"``. It is checked against the gradients. Default: ``"NT"``

    References:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization,
        ICCV 2017, eqs. 1 and 2.

    Example:
        >>> import torch
        >>> from captum_ext.models import FrameCNNLSTM
        >>> grad_cam = VideoGradCam(FrameCNNLSTM(num_classes=4).eval(), "features")
        >>> attributions = grad_cam.attribute(torch.rand(2, 3, 5, 64, 64), target=1, relu_attributions=True)
        >>> attributions.shape
        torch.Size([2, 1, 5, 16, 16])
        >>> LayerAttribution.interpolate(attributions, (5, 64, 64), "trilinear").shape
        torch.Size([2, 1, 5, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str,
        layout: Layout = "NCTHW",
        frame_order: FrameOrder = "NT",
    ) -> None:
        check_model(model)
        LayerAttribution.__init__(self, model, find_layer(model, layer))
        GradientAttribution.__init__(self, model)
        self.model = model
        self.set_layout(layout)
        check_order(frame_order)
        self.frame_order: FrameOrder = frame_order

    @log_usage()  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor]): the clips.
            target (int, tuple, Tensor or list, optional): the output unit, in any of Captum's forms; for
                outputs (N, T, K) the tuple ``(t, k)``.
            additional_forward_args (Any, optional): further arguments of the model.
            attribute_to_layer_input (bool, optional): take the layer's input instead of its output.
                Default: False
            relu_attributions (bool, optional): keep only what speaks for the target, as in the paper.
                Default: False

        Shape:
            inputs (N, C, T, H, W) or (N, T, C, H, W), by ``layout``; the map is (N, 1, T, h, w), for a layer
            of a 3-D CNN (N, 1, T', h, w) with the layer's own length T'.

        Returns:
            *Tensor* (or tuple of one, as the inputs) of **attributions**.

        Raises:
            ValueError: clips of the wrong rank or with frames and channels swapped, a layer without space or
                time, a layer the score does not depend on, a wrong ``frame_order``.
            TypeError: inputs, layer or model outputs of a wrong type.
            AssertionError, IndexError: a target that Captum refuses.
        """
        was_tuple = is_tuple(inputs)
        clips = self.check_clips(format_tensor_into_tuples(inputs))
        n_frames = clips.shape[self.layout.index("T")]
        captured = {"layer": Captured(self.layer, attribute_to_layer_input)}
        with plain_pass(self.model, (clips,), target, additional_forward_args, captured) as run:
            calls = run.calls["layer"]
            _check_axes(calls, run.n_examples, n_frames)
            gradients = run.gradients(calls, "the layer")
            self._check_frame_order(run, calls[0])
            maps = [
                _grad_cam(activations.detach(), gradient)
                for activations, gradient in zip(calls, gradients, strict=True)
            ]
            if relu_attributions:
                maps = [found.relu() for found in maps]
            attribution = unfold_time(maps, run.n_examples, self.frame_order, n_frames)
            attributions = (check_map(attribution, clips.dtype),)
        return cast(TensorOrTupleOfTensorsGeneric, format_output(was_tuple, attributions))

    def _check_frame_order(self, run: PlainPass, activations: Tensor) -> None:
        """Raise if the rows of a layer that sees the frames as a batch are not ordered as declared.

        Where the scores of example i count i times, so do the gradients of its rows. All scores take part,
        since that of an early step reaches few frames; they count differently, since the sum behind a
        softmax has no gradient.
        """
        n, rows, output = run.n_examples, len(activations), run.output
        if rows == n or n == 1:
            return
        ramp = torch.linspace(1, 2, output.numel() // n).to(output).expand(n, -1)
        numbers = torch.arange(1, n + 1).to(output).view(n, 1)
        plain, numbered = (
            torch.autograd.grad(output, activations, factors.reshape(output.shape), retain_graph=True)[0]
            for factors in (ramp, ramp * numbers)
        )

        def distance(order: FrameOrder) -> float:
            example = example_of_row(rows, n, order, activations.device).view(-1, 1, 1, 1)
            return float((numbered - plain * (example + 1)).abs().sum())

        other: FrameOrder = "TN" if self.frame_order == "NT" else "NT"
        if distance(self.frame_order) > 2 * distance(other):
            raise ValueError(
                f"the rows of the layer do not follow frame_order={self.frame_order!r}; pass "
                f"frame_order={other!r}, or choose a layer that runs once per frame or on whole clips"
            )


def _grad_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """Eqs. 1 and 2 without the ReLU: (rows, C, *) to (rows, 1, *)."""
    weights = gradient.flatten(2).mean(2).view(*gradient.shape[:2], *[1] * (gradient.dim() - 2))
    return (weights * activations).sum(1, keepdim=True)


def _check_axes(calls: Sequence[Tensor], n_examples: int, n_frames: int) -> None:
    """Raise unless the calls of the layer are clips, frames folded into the batch, or one frame each."""
    first = calls[0]
    if len(calls) == 1:
        folded = first.dim() == 4 and len(first) == n_examples * n_frames
        whole = first.dim() == 5 and len(first) == n_examples
        if whole and first.shape[1] == n_frames < first.shape[2]:
            raise ValueError(
                f"the layer has the shape {tuple(first.shape)} for clips of {n_frames} frames, so its axes 1 "
                "and 2 look like time and channels; choose the layer in front, which has channels first"
            )
        if folded or whole:
            return
    elif len(calls) == n_frames and first.dim() == 4:
        return
    raise ValueError(
        f"the layer ran {len(calls)} times with the shape {tuple(first.shape)} on {n_examples} clips of "
        f"{n_frames} frames. Grad-CAM needs a convolutional layer that runs on whole clips (N, C, T', h, w), "
        "on all frames as a batch (N * T, C, h, w), or once per frame (N, C, h, w)"
    )
