"""What a training step leaves behind: nothing."""

import gc

import torch
from torch import nn
from torch.nn import functional as F

from captum_ext.dropout import attach

N, IN, HIDDEN, K = 5, 7, 11, 3


def n_tensors():
    gc.collect()
    return sum(type(found) in (torch.Tensor, nn.Parameter) for found in gc.get_objects())


def test_steps_leave_no_tensors_behind():
    model = nn.Sequential(
        *(nn.Linear(IN, HIDDEN), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.Sigmoid()),
        nn.Linear(HIDDEN, K),
    )
    x, y = torch.rand(N, IN), torch.arange(N) % K
    counts = []
    with attach(model, "2") as dropout:
        for _ in range(6):
            dropout.arm(y)
            F.cross_entropy(model(x), y).backward()
            model.zero_grad()
            counts.append(n_tensors())
    assert len(set(counts[1:])) == 1, counts
