"""Excitation Backprop and its contrastive form, read at the inputs."""

from __future__ import annotations

from typing import Literal, cast, overload

from torch import Tensor, nn

from captum_ext._compat import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
)
from captum_ext.attr._base import ExcitationAttribution, check_map
from captum_ext.attr._contrast import read_evidence
from captum_ext.attr._forward import Captured, find_layer, forward_pass
from captum_ext.attr._time import per_example
from captum_ext.excitation.operand import Negative

__all__ = ["ExcitationBackprop"]


class ExcitationBackprop(ExcitationAttribution):
    r"""Excitation Backprop (EB) and contrastive EB (cEB), read at the model's inputs.

    One unit of probability mass starts at the target's output unit and is handed down, layer by layer, to
    the units that excite it. A child :math:`a_i` receives from a parent :math:`a_j` the share

    .. math:: P(a_i | a_j) = (s_j a_i w_{ij})^+ / \sum_k (s_j a_k w_{kj})^+

    with :math:`s_j` the sign of the parent's state: the paper's rule, which assumes non-negative activations,
    without that assumption. The map is a probability distribution over the inputs; mass of units that nothing
    excites (driven by their bias alone) is dropped and reported as the convergence delta.

    The contrastive form subtracts the map of the dual output unit, whose weights are negated, at the
    *contrast layer*; what is left sums to zero there and shows what speaks for the target and not for others.

    The model may be any module of supported operations: image and video CNNs, CNN-LSTM models. It is neither
    changed nor does it need changes. An operation without a rule is an error, never a silent gradient.

    Args:
        model (nn.Module): the model, in evaluation mode; returns scores (before or after a softmax).
        negative (str, optional): what negative activations do. ``"support"``: the rule above; ``"clamp"``:
            children below zero receive nothing and every parent counts as positive, as in the papers' code.
            Default: ``"support"``
        contrast_layer (nn.Module or str, optional): where the two maps of the contrastive form are
            subtracted (at the layer's output). Default: the input of the classifier, the last weighted layer.

    References:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016; Bargal et al., Excitation
        Backprop for RNNs, CVPR 2018, eqs. 1-4.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 7, 5)).eval()
        >>> images = torch.rand(2, 3, 8, 9)
        >>> eb = ExcitationBackprop(model)
        >>> attributions, delta = eb.attribute(images, target=1, return_convergence_delta=True)
        >>> attributions.shape
        torch.Size([2, 3, 8, 9])
        >>> torch.allclose(attributions.sum((1, 2, 3)) + delta, torch.ones(2))
        True
    """

    def __init__(
        self,
        model: nn.Module,
        negative: Negative = "support",
        contrast_layer: nn.Module | str | None = None,
    ) -> None:
        ExcitationAttribution.__init__(self, model, negative)
        self.contrast_layer = (
            None if contrast_layer is None else find_layer(model, contrast_layer, "contrast layer")
        )

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        contrastive: bool = False,
        return_convergence_delta: Literal[False] = False,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        contrastive: bool = False,
        return_convergence_delta: Literal[True],
    ) -> tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

    @log_usage()  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        contrastive: bool = False,
        return_convergence_delta: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): what the model takes first; axis 0 is the batch.
            target (int, tuple, Tensor or list, optional): the output unit, in any of Captum's forms; for
                outputs (N, T, K) the tuple ``(t, k)``.
            additional_forward_args (Any, optional): further arguments of the model; they get no attribution.
            contrastive (bool, optional): compute cEB. Default: False
            return_convergence_delta (bool, optional): also return the mass that was dropped. Default: False

        Shape:
            each attribution has the shape of its input; the delta is (N,).

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**: per example they sum to 1 minus the delta,
            for the contrastive form to 0 minus the delta. With ``return_convergence_delta`` a pair of
            attributions and **delta**. One of several inputs that no evidence reaches gets zeros.

        Raises:
            UnsupportedOperationError: evidence flows through an operation that has no rule.
            ValueError: an empty batch, NaN or infinity in the inputs, a module in training mode that would
                make the explanation random.
            TypeError: inputs or model outputs of a wrong type.
            AssertionError, IndexError: a target that Captum refuses.
        """
        was_tuple = is_tuple(inputs)
        tensors = format_tensor_into_tuples(inputs)
        captured = {}
        if contrastive and self.contrast_layer is not None:
            captured["contrast layer"] = Captured(self.contrast_layer)
        with forward_pass(
            self.model,
            tensors,
            target,
            additional_forward_args,
            self.negative,
            captured,
            contrastive,
            weights=self._weights,
        ) as run:
            run.recording.check([])
            masses = read_evidence(run, run.inputs, "the inputs", contrastive)
            maps = [mass.total for mass in masses]
            delta = float(not contrastive) - per_example(maps, run.n_examples)
            attributions = tuple(check_map(found, x.dtype) for found, x in zip(maps, tensors, strict=True))
        formatted = cast(TensorOrTupleOfTensorsGeneric, format_output(was_tuple, attributions))
        return (formatted, delta.detach()) if return_convergence_delta else formatted
