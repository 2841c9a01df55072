"""The training loop of the small models that benchmarks explain."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from tqdm import tqdm

__all__ = ["fit"]

_BATCH_SIZE = 16


def fit(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    n_clips: int,
    epochs: int,
    generator: torch.Generator,
    title: str,
    learning_rate: float = 3e-3,
) -> None:
    """Adam with one cycle of the learning rate; ``loss`` takes the numbers of a batch's clips."""
    parameters = list(parameters)
    batches = max(1, n_clips // _BATCH_SIZE)
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * batches)
    with tqdm(total=epochs * batches, desc=title, file=sys.stderr) as progress:
        for _ in range(epochs):
            order = torch.randperm(n_clips, generator=generator)
            for chosen in torch.split(order[: batches * _BATCH_SIZE], _BATCH_SIZE):
                value = loss(chosen)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                progress.set_postfix(loss=f"{value.item():.4f}")
                progress.update()
