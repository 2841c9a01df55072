"""RISE: which parts must be visible for a high score, from random masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, cast

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_ext._compat import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    expand_target,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
    run_forward,
)
from captum_ext.attr._arguments import repeated
from captum_ext.attr._base import check_map
from captum_ext.attr._forward import (
    check_output,
    check_running_statistics,
    check_scores,
    no_running_statistics,
    private_arguments,
)
from captum_ext.attr._grid_masks import GridMasks, draw_grid_masks
from captum_ext.attr._random_numbers import no_random_numbers
from captum_ext.attr._video import Layout, VideoAttribution, check_integers

__all__ = ["Rise"]


class Rise(VideoAttribution, PerturbationAttribution):
    r"""RISE for images and clips: the mean of random masks, weighted by the score of what they leave visible.

    .. math:: S = \frac{1}{n \, p} \sum_{i=1}^{n} f(v \odot M_i) \, M_i

    Each mask :math:`M_i` is a coarse grid whose cells are 1 with probability p, enlarged linearly (bilinear
    for images, trilinear for clips) and shifted at random by less than a cell. It is an estimate of the
    expected score, given that a pixel is visible. The model is only called, never looked into: any callable
    that returns scores will do. It costs n forward passes per example.

    All examples of a call see the same masks, so a batch gives the maps of its examples alone. Masks come
    from a generator of their own; torch's global random state is left alone.

    The map has the resolution of the input; ``captum.attr.LayerAttribution.interpolate`` resizes it.

    Args:
        forward_func (Callable): the model, or any function that returns scores.
        layout (str, optional): axes of clips, ``"NCTHW"`` (torchvision's) or ``"NTCHW"``. Images are
            (N, C, H, W). Default: ``"NCTHW"``

    References:
        Petsiuk et al., RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018, eqs.
        4-6 and section 3.2. Cells are rounded up, as in its code, so that they always cover the image.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 8 * 9, 5)).eval()
        >>> rise = Rise(model)
        >>> clip = torch.rand(2, 3, 4, 8, 9)
        >>> rise.attribute(clip, target=1, n_masks=20, grid=(2, 3, 3), perturbations_per_eval=10).shape
        torch.Size([2, 3, 4, 8, 9])
    """

    def __init__(self, forward_func: Callable[..., Any], layout: Layout = "NCTHW") -> None:
        if not callable(forward_func):
            raise TypeError(f"forward_func must be callable, got {type(forward_func).__name__}")
        PerturbationAttribution.__init__(self, forward_func)
        self.set_layout(layout)

    @log_usage()  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object = None,
        *,
        n_masks: int = 4000,
        keep_probability: float = 0.5,
        grid: int | tuple[int, ...] = 7,
        softmax: bool = False,
        seed: int = 0,
        generator: torch.Generator | None = None,
        perturbations_per_eval: int = 1,
        return_input_shape: bool = True,
        show_progress: bool = False,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Compute the map.

        Args:
            inputs (Tensor or tuple[Tensor]): images or clips.
            target (int, tuple, Tensor or list, optional): the score, in any of Captum's forms.
            additional_forward_args (Any, optional): further arguments of ``forward_func``; tensors are
                repeated with the examples.
            n_masks (int, optional): masks per example. The error falls with its square root.
                Default: 4000, the paper's for VGG16
            keep_probability (float, optional): p, the probability that a cell is visible. Default: 0.5
            grid (int or tuple[int, ...], optional): cells along each axis, (h, w) for images, (t, h, w) for
                clips; a single number counts for all axes, time too. Default: 7
            softmax (bool, optional): weight by the softmax over the last axis of the scores, as the paper
                does, instead of the scores as returned. Default: False
            seed (int, optional): start of the random numbers. Default: 0
            generator (torch.Generator, optional): draw from this generator instead of a new one with
                ``seed``; it moves on. Default: None
            perturbations_per_eval (int, optional): masks per call of ``forward_func``, which then sees that
                many times the batch. It bounds the memory and does not change the map. Default: 1
            return_input_shape (bool, optional): repeat the map over the channels of the input.
                Default: True
            show_progress (bool, optional): show a progress bar. Default: False

        Shape:
            inputs (N, C, H, W), (N, C, T, H, W) or (N, T, C, H, W); the map has the shape of the inputs, or
            is (N, 1, H, W) or (N, 1, T, H, W) with ``return_input_shape=False``.

        Returns:
            *Tensor* (or tuple of one, as the inputs) of **attributions**.

        Raises:
            ValueError: inputs that are neither images nor clips, settings out of range, scores that are NaN
                or infinite or, with ``softmax``, of no or a single class, a model that draws random numbers.
            TypeError: inputs, scores or settings of a wrong type.
            AssertionError, IndexError: a target that Captum refuses.
        """
        was_tuple = is_tuple(inputs)
        tensors = format_tensor_into_tuples(inputs)
        images_or_clips = self.check_images_or_clips(tensors)
        size = self._masked_size(images_or_clips)
        cells = tuple(grid) if isinstance(grid, Sequence) else (grid,) * len(size)
        _check_settings(n_masks, keep_probability, cells, len(size), perturbations_per_eval)
        if isinstance(self.forward_func, nn.Module):
            check_running_statistics(self.forward_func)
        with torch.inference_mode(False), torch.no_grad():
            x = images_or_clips.detach()
            if generator is None:
                generator = torch.Generator().manual_seed(seed)
            masks = draw_grid_masks(n_masks, cells, size, keep_probability, generator)
            extra = private_arguments(additional_forward_args)

            def again() -> object:
                return run_forward(self.forward_func, x.clone(), None, extra)

            with no_running_statistics(), no_random_numbers(x.device, again):
                total = self._weighted_sum(
                    x, masks, target, extra, softmax, perturbations_per_eval, show_progress
                )
            maps = self.spread(total / (n_masks * keep_probability), x, return_input_shape)
            attributions = (check_map(maps, x.dtype),)
        return cast(TensorOrTupleOfTensorsGeneric, format_output(was_tuple, attributions))

    def _masked_size(self, x: Tensor) -> tuple[int, ...]:
        """(H, W) of images, (T, H, W) of clips."""
        if x.dim() == 4:
            return tuple(x.shape[2:])
        return tuple(x.shape[self.layout.index(axis)] for axis in "THW")

    def _weighted_sum(
        self,
        x: Tensor,
        masks: GridMasks,
        target: TargetType,
        extra: tuple[object, ...] | None,
        softmax: bool,
        perturbations_per_eval: int,
        show_progress: bool,
    ) -> Tensor:
        """The sum of all masks times their scores, (N, *size)."""

        def forward(*args: object) -> Tensor:
            scores = check_scores(self.forward_func(*args))
            return _softmax(scores) if softmax else scores

        n, n_masks = len(x), len(masks.grids)
        exact = torch.empty(0, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        total = exact.new_zeros(n, *masks.size)
        with tqdm(total=n_masks, desc=self.get_name(), unit="mask", disable=not show_progress) as progress:
            for start in range(0, n_masks, perturbations_per_eval):
                some = masks.enlarged(start, min(start + perturbations_per_eval, n_masks), exact)
                m = len(some)
                # Rows (mask, example), the order in which targets and extra arguments are repeated.
                visible = x * some.to(x.dtype).unsqueeze(self.channel_axis(x)).unsqueeze(1)
                scores = run_forward(
                    forward,
                    visible.flatten(0, 1),
                    expand_target(target, m),
                    repeated(extra, m),
                )
                check_output(scores, m * n, differentiable=False)
                total += torch.einsum("mn,m...->n...", scores.reshape(m, n).to(exact), some)
                progress.update(m)
        return total


def _softmax(scores: Tensor) -> Tensor:
    if scores.dim() < 2 or scores.shape[-1] == 1:
        raise ValueError(
            f"softmax=True needs the scores of several classes along the last axis, got the shape "
            f"{tuple(scores.shape)}; use softmax=False, or return a sigmoid"
        )
    return scores.softmax(-1)


def _check_settings(
    n_masks: int, keep_probability: float, cells: tuple[int, ...], n_axes: int, perturbations_per_eval: int
) -> None:
    check_integers(n_masks=n_masks, perturbations_per_eval=perturbations_per_eval)
    if n_masks < 1:
        raise ValueError(f"n_masks must be at least 1, got {n_masks}")
    if perturbations_per_eval < 1:
        raise ValueError(f"perturbations_per_eval must be at least 1, got {perturbations_per_eval}")
    if not 0 < keep_probability <= 1:
        raise ValueError(f"keep_probability must be above 0 and at most 1, got {keep_probability}")
    if len(cells) != n_axes or not all(isinstance(cell, Integral) and int(cell) >= 1 for cell in cells):
        axes = "(h, w) for images" if n_axes == 2 else "(t, h, w) for clips"
        raise ValueError(f"grid must be a positive number of cells or one per axis, {axes}, got {cells}")
