"""Colour lookup tables: 256 RGB colours for an 8-bit map value, on any device."""

from functools import cache

import torch
from torch import Tensor

SEQUENTIAL = "inferno"
"""Evidence that is only positive: perceptually uniform, readable in grey and by colour-blind readers."""

DIVERGING = "bwr"
"""Signed evidence: blue below zero, red above, with bright ends, so that over a dark clip more stays more."""


@cache
def _sample(name: str) -> Tensor:
    import matplotlib  # not at module level: it costs a newcomer's `import captum_ext` 0.1 s

    if name not in matplotlib.colormaps:
        raise ValueError(
            f"Unknown colour map {name!r}: use a name matplotlib knows, such as {SEQUENTIAL!r} for positive "
            f"or {DIVERGING!r} for signed maps."
        )
    colours = matplotlib.colormaps[name].resampled(256)(range(256), bytes=True)
    return torch.tensor(colours[:, :3], dtype=torch.uint8)


def lookup_table(name: str = SEQUENTIAL, device: torch.device | str | None = None) -> Tensor:
    """Return the 256 colours of a matplotlib colour map.

    Args:
        name (str): A colour map matplotlib knows. Default: ``"inferno"``.
        device (torch.device or str, optional): Where the table is to lie. Default: the CPU.

    Returns:
        Tensor: uint8 RGB colours, shape (256, 3); row 0 is the lowest map value, row 255 the highest.

    Raises:
        ValueError: If matplotlib has no colour map of that name.

    Example:
        >>> lookup_table("gray")[[0, 128, 255]].tolist()
        [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    """
    return _sample(name).to(device or "cpu", copy=True)
