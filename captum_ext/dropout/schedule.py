"""Drop rates that grow during training."""

from __future__ import annotations

import math

from captum_ext.dropout.keep import check_drop_rate

__all__ = ["curriculum_drop_rate"]


def curriculum_drop_rate(step: int, p: float = 0.5, gamma: float = 5e-4) -> float:
    """The drop rate of Curriculum Dropout after some updates: p (1 - exp(-gamma t)).

    It starts at 0, as training without dropout, and grows towards ``p``. In the paper's terms the keep
    probability is theta(t) = (1 - theta) exp(-gamma t) + theta with theta = 1 - p.

    Args:
        step (int): t, the number of updates of the optimiser so far, from 0.
        p (float, optional): the final drop rate, in 0..1, below 1. Default: 0.5
        gamma (float, optional): how fast; after 1 / gamma updates 63 % of ``p`` is reached, after 3 / gamma
            95 %. The paper takes 10 / the number of updates. Default: 5e-4

    Returns:
        *float*, the drop rate.

    Raises:
        ValueError: a negative ``step``, a ``gamma`` that is not positive, a ``p`` outside of 0..1.

    Example:
        >>> curriculum_drop_rate(0), round(curriculum_drop_rate(2000, p=0.5, gamma=5e-4), 4)
        (0.0, 0.3161)

    References:
        Morerio et al., Curriculum Dropout, ICCV 2017, eq. 4.
    """
    check_drop_rate(p)
    if step < 0:
        raise ValueError(f"step counts updates from 0, got {step}")
    if gamma <= 0:
        raise ValueError(f"gamma must be positive, got {gamma}")
    return p * -math.expm1(-gamma * step)
