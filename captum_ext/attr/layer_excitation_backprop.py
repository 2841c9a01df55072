"""Excitation Backprop and its contrastive form, read at a layer."""

from __future__ import annotations

from typing import Literal, overload

from captum.attr import LayerAttribution
from torch import Tensor, nn

from captum_ext._compat import TargetType, TensorOrTupleOfTensorsGeneric, format_tensor_into_tuples, log_usage
from captum_ext.attr._base import ExcitationAttribution, check_map
from captum_ext.attr._contrast import check_rows, read_evidence
from captum_ext.attr._forward import Captured, ForwardPass, find_layer, forward_pass
from captum_ext.attr._sequences import axis_of_examples
from captum_ext.attr._time import FrameOrder, check_order, per_example, unfold_time
from captum_ext.excitation.operand import Negative

__all__ = ["LayerExcitationBackprop"]


class LayerExcitationBackprop(LayerAttribution, ExcitationAttribution):
    """Excitation Backprop (EB) and contrastive EB (cEB), read at a layer.

    See :class:`~captum_ext.attr.ExcitationBackprop` for the method. Maps of convolutional layers show where
    the evidence is; sum them over channels and enlarge them with ``LayerAttribution.interpolate``. A layer
    that sees the frames of a clip as a batch, or is called once per frame, gets its time axis back.

    Args:
        model (nn.Module): the model, in evaluation mode.
        layer (nn.Module or str): the layer, or its dotted name.
        negative (str, optional): ``"support"`` or ``"clamp"``. Default: ``"support"``
        contrast_layer (nn.Module or str, optional): where the contrast is taken, at or above ``layer``.
            Default: the input of the classifier.
        frame_order (str, optional): how a per-frame layer's batch is ordered: ``"NT"``, all frames of one
            clip in a row, or ``"TN"``, one frame of all clips in a row. Default: ``"NT"``

    References:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 7, 5)).eval()
        >>> layer_eb = LayerExcitationBackprop(model, "1")
        >>> attributions = layer_eb.attribute(torch.rand(2, 3, 8, 9), target=[0, 4], contrastive=True)
        >>> attributions.shape
        torch.Size([2, 4, 6, 7])
        >>> torch.allclose(attributions.sum((1, 2, 3)), torch.zeros(2), atol=1e-5)
        True
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str,
        negative: Negative = "support",
        contrast_layer: nn.Module | str | None = None,
        frame_order: FrameOrder = "NT",
    ) -> None:
        ExcitationAttribution.__init__(self, model, negative)
        LayerAttribution.__init__(self, model, find_layer(model, layer))
        self.contrast_layer = (
            None if contrast_layer is None else find_layer(model, contrast_layer, "contrast layer")
        )
        check_order(frame_order)
        self.frame_order: FrameOrder = frame_order

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        *,
        contrastive: bool = False,
        return_convergence_delta: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        *,
        contrastive: bool = False,
        return_convergence_delta: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    @log_usage()  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        *,
        contrastive: bool = False,
        return_convergence_delta: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): what the model takes first; axis 0 is the batch.
            target (int, tuple, Tensor or list, optional): the output unit, in any of Captum's forms.
            additional_forward_args (Any, optional): further arguments of the model.
            attribute_to_layer_input (bool, optional): read the map at the layer's input instead of its
                output. Default: False
            contrastive (bool, optional): compute cEB. Default: False
            return_convergence_delta (bool, optional): also return the mass that was dropped. Default: False

        Shape:
            the shape of the layer's output (input); (N, C, T, *) where the layer ran on frames (N * T, C, *)
            or once per frame; (N, T, D) where it ran on sequences (T, N, D).

        Returns:
            *Tensor* of **attributions**, or a pair of attributions and **delta** (N,).

        Raises:
            UnsupportedOperationError: evidence flows through an operation that has no rule.
            ValueError: as in :class:`~captum_ext.attr.ExcitationBackprop`, or a layer that does not run, or
                does not lie on the way from the contrast layer to the inputs.
        """
        captured = {"layer": Captured(self.layer, attribute_to_layer_input)}
        if contrastive and self.contrast_layer is not None:
            captured["contrast layer"] = Captured(self.contrast_layer)
        with forward_pass(
            self.model,
            format_tensor_into_tuples(inputs),
            target,
            additional_forward_args,
            self.negative,
            captured,
            contrastive,
            weights=self._weights,
        ) as run:
            calls, n = run.calls["layer"], run.n_examples
            run.recording.check(calls)
            masses = read_evidence(run, calls, "the layer", contrastive)
            maps = [mass.total for mass in masses]
            if n > 1 and len(calls) == 1 and _is_time_first(run, calls[0]):
                maps = [maps[0].transpose(0, 1)]
            elif n > 1 and len(calls) == 1 and (len(calls[0]) != n or calls[0].dim() == 3):
                check_rows(run, calls, self.frame_order, "the layer")
            delta = float(not contrastive) - per_example(maps, n, self.frame_order)
            attribution = unfold_time(maps, n, self.frame_order)
            attribution = check_map(attribution, run.inputs[0].dtype)
        return (attribution, delta.detach()) if return_convergence_delta else attribution


def _is_time_first(run: ForwardPass, call: Tensor) -> bool:
    sizes_fit = call.dim() == 3 and call.shape[1] == run.n_examples
    return sizes_fit and axis_of_examples(run, call, "the layer") == 1
