"""Any number of boxes per frame as one tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext.data.records import Box


def pad(frames: Sequence[Sequence[Box]]) -> Tensor:
    """Lists of boxes, one per frame, as float64 (T, B, 4) with rows of NaN; B is at least 1."""
    most = max([1, *map(len, frames)])
    padded = torch.full((len(frames), most, 4), torch.nan, dtype=torch.float64)
    for t, boxes in enumerate(frames):
        if boxes:
            padded[t, : len(boxes)] = torch.tensor(boxes, dtype=torch.float64)
    return padded
