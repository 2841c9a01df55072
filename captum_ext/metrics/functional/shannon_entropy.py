"""Shannon entropy of a layer: over how many units activity or evidence is spread."""

import torch
from torch import Tensor

from captum_ext.metrics.functional._units import non_negative_units_of


def shannon_entropy(values: Tensor) -> Tensor:
    r"""Entropy of an example's activity or evidence over the units of a layer, in nats.

    .. math:: -\sum_i q_i \ln q_i, \quad q_i = x_i / \sum_k x_k

    It is at most ln U; exp of it is the effective number of units. **Not comparable with Table 5.3 of the
    thesis**, whose values cannot be entropies over units (they are below the bound -ln max q); see
    :func:`~captum_ext.metrics.functional.histogram_entropy`.

    Args:
        values (Tensor): Activations behind a ReLU, or winning probabilities p_EB.

    Shape:
        - values: (N, U) or (N, *)
        - returns: (N,)

    Returns:
        Tensor: Nats in 0..ln U, float64; NaN for an example whose values are all 0.

    Raises:
        TypeError: If the values are not floating point.
        ValueError: If they have no batch axis, are empty, not finite or negative.

    Example:
        >>> shannon_entropy(torch.tensor([[1.0, 1.0, 0.0], [5.0, 0.0, 0.0]])).exp()
        tensor([2., 1.], dtype=torch.float64)
    """
    rows = non_negative_units_of(values, "values").double()
    # The largest first, since the sum of huge activations may overflow.
    shares = rows / rows.amax(1, keepdim=True)  # 0 / 0 is the NaN that is promised
    shares = shares / shares.sum(1, keepdim=True)
    entropy: Tensor = torch.special.entr(shares).sum(1)
    return entropy
