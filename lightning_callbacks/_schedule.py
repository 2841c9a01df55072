"""Drop rates by the Trainer's step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from captum_ext.dropout import curriculum_drop_rate

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

__all__ = ["RateSchedule"]


class RateSchedule:
    """A rate that is constant or grows as in Curriculum Dropout, after some steps without dropout.

    Args:
        gamma (float or str, optional): speed per optimiser step; ``"auto"``: 10 / the number of steps of the
            run.
        warmup_steps (int): steps at rate 0.
    """

    def __init__(self, gamma: float | Literal["auto"] | None, warmup_steps: int = 0) -> None:
        if isinstance(gamma, str) and gamma != "auto":
            raise ValueError(f"gamma must be a positive number, 'auto' or None, got {gamma!r}")
        if isinstance(gamma, int | float):
            curriculum_drop_rate(0, gamma=gamma)
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {warmup_steps}")
        self.gamma, self.warmup_steps = gamma, warmup_steps
        self._max_steps = -1

    def begin(self, trainer: Trainer) -> None:
        """Note how many steps the run may take, before tuners set limits of their own."""
        self._max_steps = trainer.max_steps

    def rate(self, p: float, trainer: Trainer) -> float:
        """The rate at the Trainer's step, ``p`` in the end."""
        step = trainer.global_step - self.warmup_steps
        if self.gamma is None:
            return p if step >= 0 else 0.0
        if step <= 0:
            return 0.0
        gamma = 10 / self._steps_of_run(trainer) if self.gamma == "auto" else float(self.gamma)
        return curriculum_drop_rate(step, p, gamma)

    def _steps_of_run(self, trainer: Trainer) -> float:
        """Asked at each step, as it changes with the batch size and with the batches that are accumulated."""
        batches, epochs = trainer.num_training_batches, trainer.max_epochs
        limit = math.inf if self._max_steps == -1 else self._max_steps
        if batches == math.inf or epochs is None or epochs == -1:
            steps = limit
        elif trainer.lightning_module.automatic_optimization:
            steps = min(limit, epochs * math.ceil(batches / trainer.accumulate_grad_batches))
        else:
            # The model takes as many per batch as it likes: as many as up to now.
            steps = min(limit, epochs * batches * trainer.global_step / trainer.fit_loop.total_batch_idx)
        if steps == math.inf:
            raise ValueError(
                "gamma='auto' needs a run of known length; set max_steps or max_epochs, or gamma"
            )
        return steps
