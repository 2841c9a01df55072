"""Peak of p_EB: how far a decision hangs on one unit."""

import torch
from torch import Tensor

from captum_ext.metrics.functional._units import probabilities_of


def peak_excitation(excitation: Tensor) -> Tensor:
    r"""Largest winning probability of a layer, :math:`\max_i p_i`; low where the evidence is spread.

    Args:
        excitation (Tensor): Map of Excitation Backprop at the layer, p_EB, started at one class per example:
            its label (as a rule) or the predicted one. Rows sum to 1, or to less where mass was lost.

    Shape:
        - excitation: (N, U) or (N, *)
        - returns: (N,)

    Returns:
        Tensor: Probability in 0..1, float64; NaN for an example without any excitation.

    Raises:
        TypeError: If the map is not floating point.
        ValueError: If it has no batch axis, is empty, not finite or negative, or a row sums to more than 1.

    Example:
        >>> peak_excitation(torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.0, 0.0]]))
        tensor([0.5000,    nan], dtype=torch.float64)

    References:
        Bargal, Grounding Deep Models of Visual Data, PhD thesis, Boston University, 2019, section 5.2.3.
    """
    peak = probabilities_of(excitation, "excitation").amax(1).double()
    return torch.where(peak > 0, peak, torch.nan)
