"""Random numbers of one's own: a known seed inside, the caller's state untouched outside."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_state(seed: int) -> Iterator[Callable[[], bool]]:
    """Seed torch's global generators, of the CPU and of all GPUs, and put them back whatever happens.

    Yields a function that tells whether anything was drawn since.
    """
    generators = [torch.default_generator, *torch.cuda.default_generators]  # none before CUDA is in use
    states = [generator.get_state() for generator in generators]
    try:
        seeded = [generator.manual_seed(seed).get_state() for generator in generators]

        def drew() -> bool:
            return any(
                not torch.equal(generator.get_state(), state)
                for generator, state in zip(generators, seeded, strict=True)
            )

        yield drew
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
