"""Calling the user's attribution method, as often as needed and each time under the same conditions."""

from collections.abc import Callable

import torch
from torch import Tensor

from captum_ext.metrics.functional.random_state import own_random_state

ExplanationFunction = Callable[[Tensor, Tensor | None], Tensor]


def explain(explanation_func: ExplanationFunction, clips: Tensor, target: Tensor | None) -> Tensor:
    """Maps (N, ...) of copies of the clips, with gradients available and the same random numbers each time.

    So that two maps of a method that draws (RISE, SmoothGrad) differ by what is measured, not by its noise.
    """
    with torch.inference_mode(False), torch.enable_grad(), own_random_state(0):
        maps = explanation_func(clips.detach().clone(), None if target is None else target.clone())
    if not isinstance(maps, Tensor) or not maps.is_floating_point():
        what = str(maps.dtype) if isinstance(maps, Tensor) else type(maps).__name__
        raise TypeError(f"explanation_func must return a floating-point tensor of maps, got {what}.")
    if maps.dim() < 2 or len(maps) != len(clips) or maps.numel() == 0:
        raise ValueError(
            f"explanation_func must return one map per clip, (N, ...) with N = {len(clips)}, "
            f"got {tuple(maps.shape)}."
        )
    finite = torch.isfinite(maps).flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise ValueError(f"the map of clip {int((~finite).nonzero()[0])} holds NaN or infinite values.")
    return maps.detach()
