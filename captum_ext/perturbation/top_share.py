"""Which values of a row are among its largest, ties shared."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["top_share"]


def top_share(rows: Tensor, count: int, tolerance: float = 0.0) -> Tensor:
    """1 for the ``count`` largest values of each row, 0 for the others; values that tie share what is left.

    Any loss of a row against the sorted template of ones and zeros has the value of a full sort, and its
    gradient treats equal values alike. No row is sorted: the value of that rank is enough.

    Args:
        rows (Tensor): values.
        count (int): how many, from 1 to n.
        tolerance (float, optional): values that differ from the ``count``-th by no more tie with it; so
            rounding does not choose among values that are alike. Default: 0

    Shape:
        rows (..., n); the share has the same shape.

    Returns:
        Tensor: between 0 and 1, with the sum ``count`` along each row.
    """
    rows = rows.detach()
    threshold = torch.kthvalue(rows, rows.shape[-1] - count + 1, dim=-1, keepdim=True).values
    above = rows > threshold + tolerance
    tied = (rows >= threshold - tolerance) & ~above
    left = (count - above.sum(-1, keepdim=True)).to(rows.dtype) / tied.sum(-1, keepdim=True)
    return torch.where(tied, left, above.to(rows.dtype))
