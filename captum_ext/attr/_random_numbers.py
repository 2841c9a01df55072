"""An explanation must not depend on random numbers that the model draws, nor use up the caller's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["no_random_numbers"]


@contextmanager
def no_random_numbers(device: torch.device, again: Callable[[], object]) -> Iterator[None]:
    """Restore torch's random state, and raise if the model drew from it.

    The state is that of the whole process. Where it has moved and other threads run, which may have moved
    it, the model is run once more and watched; if it draws nothing, the state is left to the other threads.

    Args:
        device (torch.device): where the model runs.
        again (Callable): runs the model.
    """
    before = _states(device)
    drawn = False
    try:
        yield
    finally:
        if _moved(before, device):
            drawn = threading.active_count() == 1 or _draws(again, device)
        if drawn:
            torch.set_rng_state(before[0])
            for state in before[1:]:
                torch.cuda.set_rng_state(state, device)
    if drawn:
        raise ValueError(
            "the model draws random numbers in its forward pass (stochastic depth or noise in training "
            "mode?), so its explanation would be random; call model.eval() first"
        )


def _states(device: torch.device) -> list[Tensor]:
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


def _moved(before: Sequence[Tensor], device: torch.device) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, _states(device), strict=True))


def _draws(run: Callable[[], object], device: torch.device) -> bool:
    # What goes wrong has been raised by the first run.
    watch = _Watch(device)
    with torch.no_grad(), watch, suppress(Exception):
        run()
    return watch.drawn


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether an operation of this thread draws from torch's generators."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.drawn = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        # Attention has the tag and draws nothing in evaluation mode, nor do generators of the model's own.
        before = _states(self.device)
        result = func(*args, **(kwargs or {}))
        self.drawn |= _moved(before, self.device)
        return result
