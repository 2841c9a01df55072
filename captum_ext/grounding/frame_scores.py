"""One score per frame: the sum of its saliency map."""

from typing import Literal

import torch
from torch import Tensor

_LAYOUTS = {"NCTHW": (1, 3, 4), "NTCHW": (2, 3, 4)}  # layout -> the axes that are summed away


def frame_scores(attributions: Tensor, layout: Literal["NCTHW", "NTCHW"] = "NCTHW") -> Tensor:
    r"""Score each frame by the sum of its signed saliency map.

    .. math:: S_t = \sum_{c, y, x} \mathrm{Map}^t_{c, y, x}

    Nothing is clamped: with contrastive maps a negative score says that the frame speaks against the class,
    and that is where :func:`~captum_ext.grounding.greedy_window` stops. A map with fewer time steps than
    the clip has frames gives one score per time step of the map; resample it along time beforehand, and
    divide by the factor so that its sum stays what it was.

    Args:
        attributions (Tensor): Saliency maps, floating point, at any spatial resolution.
        layout (str): Order of the axes, ``"NCTHW"`` or ``"NTCHW"``.

    Shape:
        - attributions: (N, C, T, h, w), or (N, T, C, h, w) with ``layout="NTCHW"``
        - returns: (N, T)

    Returns:
        Tensor: The scores, in the units of the map (probability mass for Excitation Backprop), in its dtype
        but at least float32.

    Raises:
        TypeError: If the map is not a floating-point tensor.
        ValueError: If the layout is unknown, the rank is not 5, an axis is empty, or a value is not finite.

    Example:
        >>> maps = torch.zeros(1, 3, 4, 2, 5)
        >>> maps[0, :, 2] = 0.5  # frame 2: 3 channels of 2 x 5
        >>> frame_scores(maps)
        tensor([[ 0.,  0., 15.,  0.]])

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 4.1.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(_LAYOUTS)}, got {layout!r}.")
    if not isinstance(attributions, Tensor) or not attributions.is_floating_point():
        what = str(attributions.dtype) if isinstance(attributions, Tensor) else type(attributions).__name__
        raise TypeError(f"attributions must be a floating-point tensor of layout {layout}, got {what}.")
    if attributions.dim() != 5:
        raise ValueError(
            f"attributions must have the 5 axes {layout}, got shape {tuple(attributions.shape)}; "
            "give maps without channels a channel axis of size 1."
        )
    for axis, size in zip(layout, attributions.shape, strict=True):
        if size == 0:
            raise ValueError(f"attributions is empty: axis {axis} of {layout} has size 0.")
    if not bool(torch.isfinite(attributions).all()):
        raise ValueError("attributions must be finite, but holds NaN or infinite values.")
    # Half precision would lose the small differences on which a contrastive map's sign depends.
    dtype = torch.promote_types(attributions.dtype, torch.float32)
    return attributions.sum(dim=_LAYOUTS[layout], dtype=dtype)
