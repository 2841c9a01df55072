"""Plain backpropagation through a CNN-RNN, the papers' baseline BP-R."""

from __future__ import annotations

from typing import cast

from captum.attr import GradientAttribution
from torch import nn

from captum_ext._compat import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
)
from captum_ext.attr._base import check_map
from captum_ext.attr._plain import plain_pass
from captum_ext.attr._video import Layout, VideoAttribution, check_model

__all__ = ["RecurrentGradient"]


class RecurrentGradient(VideoAttribution, GradientAttribution):
    r"""The gradient of a score by every pixel of every frame: BP-R, the baseline of EB-R.

    .. math:: G_{c,t,y,x} = \frac{\partial s}{\partial v_{c,t,y,x}} \qquad
              M_{t,y,x} = \max_c |G_{c,t,y,x}|

    G is returned, or with ``max_channels`` the saliency map M. It goes through all time steps of recurrent
    layers, also on a GPU in evaluation mode, where cuDNN alone would refuse.

    The map has the resolution of the clip; ``captum.attr.LayerAttribution.interpolate`` resizes it to another
    one for comparison.

    Args:
        model (nn.Module): the model, in evaluation mode.
        layout (str, optional): axes of the clip, ``"NCTHW"`` (torchvision's) or ``"NTCHW"``.
            Default: ``"NCTHW"``

    References:
        Simonyan et al., Deep Inside Convolutional Networks, 2014, section 3.1; Bargal et al., Excitation
        Backprop for RNNs, CVPR 2018, section 5 (BP-R).

    Example:
        >>> import torch
        >>> from captum_ext.models import FrameCNNLSTM
        >>> gradient = RecurrentGradient(FrameCNNLSTM(num_classes=4, output="steps").eval())
        >>> clip = torch.rand(2, 3, 5, 64, 64)
        >>> gradient.attribute(clip, target=(2, 1)).shape
        torch.Size([2, 3, 5, 64, 64])
        >>> attributions = gradient.attribute(clip, target=(2, 1), max_channels=True)
        >>> attributions.shape
        torch.Size([2, 1, 5, 64, 64])
        >>> attributions.sum((1, 3, 4))[:, 3:]  # frames after the step
        tensor([[0., 0.],
                [0., 0.]])
    """

    def __init__(self, model: nn.Module, layout: Layout = "NCTHW") -> None:
        check_model(model)
        GradientAttribution.__init__(self, model)
        self.model = model
        self.set_layout(layout)

    @log_usage()  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        max_channels: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor]): the clips.
            target (int, tuple, Tensor or list, optional): the output unit, in any of Captum's forms; for
                outputs (N, T, K) the tuple ``(t, k)``.
            additional_forward_args (Any, optional): further arguments of the model.
            max_channels (bool, optional): return the largest absolute value over the channels.
                Default: False

        Shape:
            inputs (N, C, T, H, W) or (N, T, C, H, W), by ``layout``; the gradient has the shape of the
            inputs, with ``max_channels`` the map is (N, 1, T, H, W).

        Returns:
            *Tensor* (or tuple of one, as the inputs) of **attributions**.

        Raises:
            ValueError: clips of the wrong rank or with frames and channels swapped, a score that does not
                depend on the clips.
            TypeError: inputs or model outputs of a wrong type.
            AssertionError, IndexError: a target that Captum refuses.
        """
        was_tuple = is_tuple(inputs)
        clips = self.check_clips(format_tensor_into_tuples(inputs))
        with plain_pass(self.model, (clips,), target, additional_forward_args, {}) as run:
            (attribution,) = run.gradients(run.inputs, "the clips")
            if max_channels:
                attribution = attribution.abs().amax(self.channel_axis(clips)).unsqueeze(1)
            attributions = (check_map(attribution, clips.dtype),)
        return cast(TensorOrTupleOfTensorsGeneric, format_output(was_tuple, attributions))
