"""STEP: the smallest smooth part of space-time that keeps a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, overload

import torch
from torch import Tensor

from captum_ext._compat import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
)
from captum_ext.attr._extremal import ExtremalAttribution
from captum_ext.attr._extremal_problem import ExtremalMasks, Hidden, MinimumArea, Request
from captum_ext.attr._scores import Scores
from captum_ext.perturbation import Smoothness, StepSettings, Variant

__all__ = ["SpatioTemporalExtremalPerturbation"]

_DEFAULT = StepSettings()


class SpatioTemporalExtremalPerturbation(ExtremalAttribution):
    r"""STEP and EP-3D: which small part of space-time keeps the prediction of a clip.

    For each area v, a mask m in 0..1 that keeps the share v of the clip is optimised:

    .. math:: \min_m \; -\log p(m \otimes x) + \lambda L_v(m) + \kappa L_K(m)

    where :math:`m \otimes x` shows the clip where m is 1 and blurs it where m is 0, :math:`L_v` is the
    distance of the mask's sorted values to the template of v ones and zeros, and :math:`L_K`, which only
    ``smoothness="step"`` has, gathers what is kept in ellipsoids of space-time. Masks are smooth in space:
    they are enlarged from a coarse grid of seeds per frame.

    The model is only called and differentiated by its input, never looked into: any callable that torch can
    follow will do. Each area costs ``settings.n_iter`` forward and input-gradient backward passes.

    The map is the sum of the masks of all areas, blurred a little and divided by its maximum in the clip: in
    0..1, the higher, the smaller the part that still holds the pixel.

    Args:
        forward_func (Callable): the model, or any function that returns scores.
        layout (str, optional): axes of clips, ``"NCTHW"`` (torchvision's) or ``"NTCHW"``.
            Default: ``"NCTHW"``

    References:
        Li et al., Towards Visually Explaining Video Understanding Networks with Perturbation, WACV 2021
        (EP-3D: eqs. 5-6; STEP: eqs. 7-9; per-frame areas: eqs. 10-11; Gaussian smoothing: eq. 12).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2), nn.Flatten(), nn.LazyLinear(5)).eval()
        >>> clip = torch.rand(1, 3, 8, 24, 32)
        >>> with torch.no_grad():
        ...     _ = model(clip)
        >>> step = SpatioTemporalExtremalPerturbation(model)
        >>> maps, found = step.attribute(clip, target=1, areas=(0.1, 0.2), return_masks=True)
        >>> maps.shape, found.masks.shape
        (torch.Size([1, 3, 8, 24, 32]), torch.Size([1, 2, 8, 24, 32]))
    """

    def _checked_input(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self.check_clips(inputs)

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        areas: float | Sequence[float] = ...,
        smoothness: Smoothness | None = ...,
        dt: int = ...,
        variant: Variant = ...,
        perturbation: Hidden = ...,
        scores: Scores = ...,
        settings: StepSettings = ...,
        initial_seeds: Tensor | None = ...,
        generator: torch.Generator | None = ...,
        perturbations_per_eval: int = ...,
        return_input_shape: bool = ...,
        return_masks: Literal[False] = ...,
        show_progress: bool = ...,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        areas: float | Sequence[float] = ...,
        smoothness: Smoothness | None = ...,
        dt: int = ...,
        variant: Variant = ...,
        perturbation: Hidden = ...,
        scores: Scores = ...,
        settings: StepSettings = ...,
        initial_seeds: Tensor | None = ...,
        generator: torch.Generator | None = ...,
        perturbations_per_eval: int = ...,
        return_input_shape: bool = ...,
        return_masks: Literal[True],
        show_progress: bool = ...,
    ) -> tuple[TensorOrTupleOfTensorsGeneric, ExtremalMasks]: ...

    @log_usage()  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        areas: float | Sequence[float] = (0.05, 0.1, 0.2),
        smoothness: Smoothness | None = "step",
        dt: int = 2,
        variant: Variant = "preserve",
        perturbation: Hidden = "blur",
        scores: Scores = "logits",
        settings: StepSettings = _DEFAULT,
        initial_seeds: Tensor | None = None,
        generator: torch.Generator | None = None,
        perturbations_per_eval: int = 1,
        return_input_shape: bool = True,
        return_masks: bool = False,
        show_progress: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, ExtremalMasks]:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor]): clips.
            baselines (float, Tensor or tuple, optional): what is shown where the mask is 0, in place of
                ``perturbation``. Default: None
            target (int, tuple, Tensor or list, optional): the score, in any of Captum's forms.
            additional_forward_args (Any, optional): further arguments of ``forward_func``; tensors are
                repeated with the examples.
            areas (float or sequence of float, optional): shares of the clip to keep, between 0 and 1.
                Default: (0.05, 0.1, 0.2)
            smoothness (str or None, optional): ``"step"`` (STEP), None (EP-3D), ``"evenly"`` (each frame
                keeps the same area) or ``"gaussian"`` (seeds smoothed along time). Default: ``"step"``
            dt (int, optional): reach of ``"gaussian"`` in frames. Default: 2
            variant (str, optional): ``"preserve"`` keeps p high with what the mask shows, ``"delete"`` makes
                it low with what is left without it, ``"dual"`` does both. Default: ``"preserve"``
            perturbation (str, optional): what hides the clip, ``"blur"``, ``"fade"`` (to zero, the mean
                colour of normalised clips) or ``"mean"`` (the mean frame). Default: ``"blur"``
            scores (str, optional): whether ``forward_func`` returns ``"logits"`` or ``"probabilities"``; the
                classes are on the last axis. A single logit stands for the sigmoid. Default: ``"logits"``
            settings (StepSettings, optional): iterations, weights and geometry; also
                :data:`~captum_ext.perturbation.STEP_PAPER` and
                :data:`~captum_ext.perturbation.STEP_REFERENCE`. Default: ours
            initial_seeds (Tensor, optional): where to start, such as ``seeds`` of another call.
                Default: all seeds at ``settings.initial_seed``
            generator (torch.Generator, optional): lowers the starting seeds by up to a twentieth at random,
                to see how far masks depend on their start. Default: None, all alike
            perturbations_per_eval (int, optional): areas per call of ``forward_func``, which then sees that
                many times the batch. It bounds the memory and does not change the map. Default: 1
            return_input_shape (bool, optional): repeat the map over the channels of the input.
                Default: True
            return_masks (bool, optional): return the masks, probabilities and losses too. Default: False
            show_progress (bool, optional): show a progress bar with the kept probability. Default: False

        Shape:
            inputs (N, C, T, H, W) or (N, T, C, H, W); initial_seeds (N, A, T, h, w). The map has the shape of
            the inputs, or is (N, 1, T, H, W) with ``return_input_shape=False``.

        Returns:
            *Tensor* (or tuple of one, as the inputs) of **attributions** in 0..1; with ``return_masks`` also
            the :class:`ExtremalMasks`.

        Raises:
            ValueError: inputs that are no clips, areas or settings out of range or that cannot be met, scores
                of another kind than declared, scores or gradients that are NaN or infinite, a model that
                draws random numbers or that torch cannot follow.
            TypeError: inputs, scores or settings of a wrong type.
            AssertionError, IndexError: a target that Captum refuses.
        """
        was_tuple = is_tuple(inputs)
        tensors = format_tensor_into_tuples(inputs)
        request = Request(
            inputs=tensors,
            baselines=baselines,
            target=target,
            additional_forward_args=additional_forward_args,
            variant=variant,
            perturbation=perturbation,
            scores=scores,
            settings=settings,
            smoothness=smoothness,
            dt=dt,
            perturbations_per_eval=perturbations_per_eval,
            show_progress=show_progress,
            generator=generator,
        )
        maps, masks = self._explain(request, areas, initial_seeds, return_input_shape)
        attributions = cast(TensorOrTupleOfTensorsGeneric, format_output(was_tuple, (maps,)))
        return (attributions, masks) if return_masks else attributions

    @log_usage()  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def minimum_area(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        threshold: float = 1.0,
        relative: bool = True,
        tolerance: float = 0.01,
        smoothness: Smoothness | None = "step",
        dt: int = 2,
        perturbation: Hidden = "blur",
        scores: Scores = "logits",
        settings: StepSettings = _DEFAULT,
        generator: torch.Generator | None = None,
        show_progress: bool = False,
    ) -> MinimumArea:
        r"""Find the smallest share of each clip that keeps its prediction.

        .. math:: a^* = \min \{a : p(m_a \otimes x) \geq \Phi_0\}

        by bisection of the area, in :math:`\lceil \log_2 (1 / tolerance) \rceil` optimisations, each of
        which goes on from the best seeds so far.

        Args:
            inputs (Tensor or tuple[Tensor]): see :meth:`attribute`, as the other arguments.
            baselines (float, Tensor or tuple, optional): as above.
            target (int, tuple, Tensor or list, optional): as above.
            additional_forward_args (Any, optional): as above.
            threshold (float, optional): what must be kept. Default: 1
            relative (bool, optional): ``threshold`` is a share of the probability for the whole clip, and
                :math:`\Phi_0` their product; otherwise it is :math:`\Phi_0`. Default: True
            tolerance (float, optional): width of the interval in which bisection ends. Default: 0.01
            smoothness (str or None, optional): as above.
            dt (int, optional): as above.
            perturbation (str, optional): as above.
            scores (str, optional): as above.
            settings (StepSettings, optional): as above.
            generator (torch.Generator, optional): as above.
            show_progress (bool, optional): as above.

        Returns:
            MinimumArea: areas, the probabilities they keep, and the masks.

        Raises:
            ValueError: as above, and a threshold or tolerance out of range.

        References:
            Li et al., WACV 2021, eq. 3 and Table 2.
        """
        tensors = format_tensor_into_tuples(inputs)
        request = Request(
            inputs=tensors,
            baselines=baselines,
            target=target,
            additional_forward_args=additional_forward_args,
            variant="preserve",
            perturbation=perturbation,
            scores=scores,
            settings=settings,
            smoothness=smoothness,
            dt=dt,
            perturbations_per_eval=1,
            show_progress=show_progress,
            generator=generator,
        )
        return self._minimum_area(request, threshold, relative, tolerance)
