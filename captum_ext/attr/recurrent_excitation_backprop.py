"""Excitation Backprop for recurrent video models: where and when is the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import torch
from captum.attr import LayerAttribution
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
from captum_ext.attr._contrast import check_rows, contrast, normalized_evidence
from captum_ext.attr._forward import NOT_BELOW, Captured, ForwardPass, find_layer, forward_pass
from captum_ext.attr._sequences import axis_of_examples, channels_first
from captum_ext.attr._time import FrameOrder, check_order, unfold_time
from captum_ext.attr._video import Layout, VideoAttribution
from captum_ext.attr._warning import warn
from captum_ext.excitation import Mass
from captum_ext.excitation.operand import Negative, Recurrence

__all__ = ["RecurrentExcitationBackprop"]

_BOUNDARY = "the boundary of CNN and recurrent layers"


class RecurrentExcitationBackprop(LayerAttribution, ExcitationAttribution, VideoAttribution):
    r"""EB-R and contrastive EB-R (cEB-R): grounding of a CNN-RNN's output in space and time.

    Mass starts at one class at one time step, goes back through the recurrent layers and time to the frame
    features, the *boundary* of CNN and RNN, and is normalised there to sum 1 over all frames and neurons
    (eqs. 5-6). The contrastive form subtracts the equally normalised mass of the dual unit at the boundary
    (eq. 7). The result goes on through the CNN to ``layer`` (eqs. 8-9). Sum the map over channels and space
    for the evidence S_t of each frame; for cEB-R the S_t of a clip sum to 0, frames above 0 speak for the
    class.

    Through an LSTM, mass follows the value path: :math:`h_t = o_t \phi(c_t)` hands all to the cell,
    :math:`c_t = f_t c_{t-1} + i_t g_t` shares between its two summands, and :math:`g_t` between
    :math:`x_t` and :math:`h_{t-1}` jointly by eq. 1. The gates receive nothing.

    Args:
        model (nn.Module): a CNN followed by ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``, one of their cells or
            :class:`captum_ext.models.ReLULSTM`, in evaluation mode.
        layer (nn.Module or str): the CNN layer whose map is read, or its dotted name.
        boundary (nn.Module or str, optional): the module whose output are the frame features, for models with
            hand-written recurrence and for captioners, whose decoder reads the frames pooled. Default: the
            input of the lowest recurrent layer.
        layout (str, optional): axes of the clip, ``"NCTHW"`` (torchvision's) or ``"NTCHW"``.
            Default: ``"NCTHW"``
        frame_order (str, optional): how a per-frame CNN's batch is ordered: ``"NT"``, all frames of one clip
            in a row, or ``"TN"``. It is checked against the masses. Default: ``"NT"``
        negative (str, optional): ``"support"`` or ``"clamp"``, as in
            :class:`~captum_ext.attr.ExcitationBackprop`. Default: ``"support"``
        recurrence (str, optional): ``"value"``, the equations of the paper, or ``"published"``, what its
            released code does instead: gradients inside the LSTM unit, nothing back through h_{t-1}. The
            latter is for comparison and for LSTMs only. Default: ``"value"``

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, eqs. 1-9 and algorithm 1. The gates and the
        joint step are those of its equations; its released code propagates gradients through the LSTM unit.

    Example:
        >>> import torch
        >>> from captum_ext.models import FrameCNNLSTM
        >>> model = FrameCNNLSTM(num_classes=4).eval()
        >>> ceb_r = RecurrentExcitationBackprop(model, "features")
        >>> clip = torch.rand(2, 3, 5, 64, 64)
        >>> attributions = ceb_r.attribute(clip, target=1, contrastive=True, sum_channels=True)
        >>> attributions.shape
        torch.Size([2, 1, 5, 16, 16])
        >>> scores = attributions.sum((1, 3, 4))  # S_t
        >>> torch.allclose(scores.sum(1), torch.zeros(2), atol=1e-4)
        True
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str,
        boundary: nn.Module | str | None = None,
        layout: Layout = "NCTHW",
        frame_order: FrameOrder = "NT",
        negative: Negative = "support",
        recurrence: Recurrence = "value",
    ) -> None:
        ExcitationAttribution.__init__(self, model, negative)
        LayerAttribution.__init__(self, model, find_layer(model, layer))
        self.boundary = None if boundary is None else find_layer(model, boundary, "boundary")
        self.set_layout(layout)
        check_order(frame_order)
        if recurrence not in ("value", "published"):
            raise ValueError(f"recurrence must be 'value' or 'published', got {recurrence!r}")
        self.frame_order: FrameOrder = frame_order
        self.recurrence: Recurrence = recurrence

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        contrastive: bool = False,
        sum_channels: bool = False,
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
        sum_channels: bool = False,
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
        sum_channels: bool = False,
        return_convergence_delta: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor]): the clips.
            target (int, tuple, Tensor or list, optional): the output unit, in any of Captum's forms; the
                n-th time step of the papers is the tuple ``(n, k)`` for outputs (N, T, K).
            additional_forward_args (Any, optional): further arguments of the model.
            contrastive (bool, optional): compute cEB-R. Default: False
            sum_channels (bool, optional): return the sum over channels. Default: False
            return_convergence_delta (bool, optional): also return the mass dropped between the boundary and
                the layer. Default: False

        Shape:
            inputs (N, C, T, H, W) or (N, T, C, H, W), by ``layout``; the map is (N, C', T, h, w) with the
            layer's channels C' (1 with ``sum_channels``).

        Returns:
            *Tensor* (or tuple of one, as the inputs) of **attributions**: per clip they sum to 1 (cEB-R: 0)
            minus the delta; with ``return_convergence_delta`` a pair of attributions and **delta** (N,).

        Raises:
            ValueError: clips of the wrong rank or with frames and channels swapped, a model in which no
                recurrent layer runs, a layer that is not below the boundary, a wrong ``frame_order``.
            UnsupportedOperationError: evidence flows through an operation that has no rule.
        """
        was_tuple = is_tuple(inputs)
        ((attribution,), (delta,)) = self._explain(
            inputs, [target], additional_forward_args, contrastive, sum_channels
        )
        formatted = format_output(was_tuple, (attribution,))
        return (formatted, delta) if return_convergence_delta else formatted

    @overload
    def attribute_targets(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        targets: Sequence[TargetType],
        additional_forward_args: object = None,
        *,
        contrastive: bool = False,
        sum_channels: bool = False,
        return_convergence_delta: Literal[False] = False,
    ) -> list[TensorOrTupleOfTensorsGeneric]: ...

    @overload
    def attribute_targets(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        targets: Sequence[TargetType],
        additional_forward_args: object = None,
        *,
        contrastive: bool = False,
        sum_channels: bool = False,
        return_convergence_delta: Literal[True],
    ) -> tuple[list[TensorOrTupleOfTensorsGeneric], list[Tensor]]: ...

    @log_usage()  # type: ignore[untyped-decorator]
    def attribute_targets(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        targets: Sequence[TargetType],
        additional_forward_args: object = None,
        *,
        contrastive: bool = False,
        sum_channels: bool = False,
        return_convergence_delta: bool = False,
    ) -> list[TensorOrTupleOfTensorsGeneric] | tuple[list[TensorOrTupleOfTensorsGeneric], list[Tensor]]:
        """Compute one map for each of several targets, such as the words of a caption, from one forward pass.

        Args:
            inputs (Tensor or tuple[Tensor]): the clips.
            targets (Sequence): output units, each in any form that :meth:`attribute` takes.
            additional_forward_args (Any, optional): further arguments of the model, such as the captions.
            contrastive (bool, optional): compute cEB-R. Default: False
            sum_channels (bool, optional): return sums over channels. Default: False
            return_convergence_delta (bool, optional): also return the dropped masses. Default: False

        Shape:
            as in :meth:`attribute`, for every target.

        Returns:
            *list* of what :meth:`attribute` returns for each target; with ``return_convergence_delta`` a pair
            of a list of attributions and a list of deltas.

        Raises:
            TypeError: targets that are no list or tuple.
            ValueError: no targets, and whatever :meth:`attribute` raises.

        Example:
            >>> import torch
            >>> from captum_ext.models import FrameCNNLSTM
            >>> eb_r = RecurrentExcitationBackprop(FrameCNNLSTM(4, output="steps").eval(), "features")
            >>> maps = eb_r.attribute_targets(torch.rand(2, 3, 5, 64, 64), [(4, 0), (4, 3)])
            >>> len(maps), maps[1].shape
            (2, torch.Size([2, 48, 5, 16, 16]))
        """
        if not isinstance(targets, list | tuple):
            raise TypeError(
                f"targets must be a list of targets, got {type(targets).__name__}; for one use attribute"
            )
        if not targets:
            raise ValueError("targets must hold at least one target")
        was_tuple = is_tuple(inputs)
        maps, deltas = self._explain(inputs, targets, additional_forward_args, contrastive, sum_channels)
        attributions = [format_output(was_tuple, (attribution,)) for attribution in maps]
        return (attributions, deltas) if return_convergence_delta else attributions

    def _explain(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        targets: Sequence[TargetType],
        additional_forward_args: object,
        contrastive: bool,
        sum_channels: bool,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The map and the delta of each target, from one forward pass."""
        clips = self.check_clips(format_tensor_into_tuples(inputs))
        captured = {"layer": Captured(self.layer)}
        if self.boundary is not None:
            captured["boundary"] = Captured(self.boundary)
        with forward_pass(
            self.model,
            (clips,),
            targets[0],
            additional_forward_args,
            self.negative,
            captured,
            recurrence=self.recurrence,
            weights=self._weights,
        ) as run:
            run.recording.check(run.calls["layer"])
            maps, deltas = [], []
            for target in targets:
                found = self._map(run.at(target), clips, contrastive)
                deltas.append(float(not contrastive) - found.flatten(1).sum(1).detach())
                if sum_channels:
                    found = found.sum(1, keepdim=True)
                maps.append(check_map(found, clips.dtype))
            return maps, deltas

    def _map(self, run: ForwardPass, clips: Tensor, contrastive: bool) -> Tensor:
        """The map (N, C', T, h, w) of the target that the pass is at."""
        layer = run.calls["layer"]
        at, batch_axis = self._boundary(run)
        if contrastive:
            frames = contrast(run.recording, at, _BOUNDARY)
        else:
            frames, total = normalized_evidence(run.recording, at, _BOUNDARY)
            if (total <= 0).any():
                n_empty = int((total <= 0).sum())
                warn(
                    f"for {n_empty} of {len(total)} examples no evidence arrives at {_BOUNDARY}, so their "
                    "maps are 0 and their convergence delta is 1"
                )
        maps = [mass.total for mass in run.recording.propagate(at, frames, layer, NOT_BELOW)]
        n_frames = clips.shape[self.layout.index("T")]
        self._check_frame_order(run, maps, at, frames, batch_axis, n_frames)
        time_first = batch_axis == 1
        if run.n_examples == n_frames > 1 and len(layer) == 1 and layer[0].dim() == 3:
            # The sizes do not tell (N, T, D) from (T, N, D), nor need the layer be like the recurrent one.
            found = axis_of_examples(run, layer[0], "the layer")
            time_first = time_first if found is None else found == 1
        return unfold_time(
            maps, run.n_examples, self.frame_order, n_frames, time_first, channels_first(self.layer)
        )

    def _boundary(self, run: ForwardPass) -> tuple[list[Tensor], int | None]:
        """The frame features and their batch axis."""
        calls = run.recording.boundary
        if self.recurrence == "published" and not calls:
            raise ValueError(
                "recurrence='published' is only known for nn.LSTM, nn.LSTMCell and ReLULSTM, none of which "
                "reads the frames in this model; use recurrence='value'"
            )
        if self.boundary is not None:
            return run.calls["boundary"], 0
        if not calls:
            raise ValueError(
                "no recurrent layer (nn.LSTM, nn.GRU, nn.RNN, their cells, ReLULSTM) read the frames in the "
                "model's forward pass. For a hand-written recurrence pass boundary=, the module that makes "
                "the frame features; for a model without recurrence use LayerExcitationBackprop"
            )
        return [call.input for call in calls], calls[0].batch_axis

    def _check_frame_order(
        self,
        run: ForwardPass,
        maps: list[Tensor],
        at: list[Tensor],
        frames: list[Mass],
        batch_axis: int | None,
        n_frames: int,
    ) -> None:
        """Raise if the rows of a layer that sees the frames as a batch are not ordered as declared."""
        n = run.n_examples
        if n == 1 or n_frames == 1 or len(maps) > 1 or maps[0].shape[0] != n * n_frames:
            return
        if batch_axis is None or not _is_by_frame(at, batch_axis, n, n_frames):
            # Packed sequences, one call per clip: the rows say nothing, only the masses at the layer do.
            rows = run.calls["layer"]
            if batch_axis is not None and len(at) == 1 and at[0].shape[0] == n * n_frames:
                rows = at
            check_rows(run, rows, self.frame_order, "the layer")
        elif not self._masses_agree(maps[0], frames, batch_axis, n):
            # The steps of the boundary need not be frames: a caption may be as long as the clip.
            check_rows(run, run.calls["layer"], self.frame_order, "the layer")

    def _masses_agree(self, rows: Tensor, frames: list[Mass], batch_axis: int, n: int) -> bool:
        """Whether the mass of each frame at the layer is clearly the boundary's, less what was dropped."""
        if len(frames) > 1:
            per_call = [mass.total.movedim(batch_axis, 0).flatten(1).sum(1) for mass in frames]
            expected = torch.stack(per_call, dim=1)
        else:
            expected = frames[0].total.movedim(batch_axis, 0).flatten(2).sum(2)
        totals = rows.flatten(1).sum(1)
        if totals.numel() != expected.numel():
            return False
        found = {"NT": totals.view(n, -1), "TN": totals.view(-1, n).T}
        distance = {order: float((expected - value).abs().sum()) for order, value in found.items()}
        declared = distance.pop(self.frame_order)
        return declared < 1e-3 or declared < 0.5 * min(distance.values())


def _is_by_frame(at: Sequence[Tensor], batch_axis: int, n: int, n_frames: int) -> bool:
    """Whether the boundary is one call with a batch and a time axis, or one call per frame."""
    time_axes = (1 - batch_axis,) if len(at) == 1 else ()
    return all(
        tensor.dim() > len(time_axes) + 1
        and tensor.shape[batch_axis] == n
        and all(tensor.shape[axis] == n_frames for axis in time_axes)
        for tensor in at
    ) and (len(at) == 1 or len(at) == n_frames)
