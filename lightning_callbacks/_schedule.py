"""Drop rates by the Trainer's step, and whether a model is ready to be changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import nn

from captum_ext.dropout import curriculum_drop_rate
from captum_ext.dropout.swap import find_module

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

__all__ = ["RateSchedule", "has_modules"]


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
        self._auto: float | None = None

    def rate(self, p: float, trainer: Trainer) -> float:
        """The rate at the Trainer's step, ``p`` in the end."""
        step = trainer.global_step - self.warmup_steps
        if step < 0:
            return 0.0
        if self.gamma is None:
            return p
        gamma = self._gamma_of(trainer) if self.gamma == "auto" else float(self.gamma)
        return curriculum_drop_rate(step, p, gamma)

    def _gamma_of(self, trainer: Trainer) -> float:
        if self._auto is None:
            steps = trainer.estimated_stepping_batches
            if not 0 < steps < float("inf"):
                raise ValueError(
                    "gamma='auto' needs a run of known length; set max_steps or max_epochs, or gamma"
                )
            self._auto = 10 / steps
        return self._auto


def has_modules(model: nn.Module, names: Sequence[str]) -> bool:
    """Whether the model has the modules yet; False if ``configure_model`` may still make them.

    Raises:
        ValueError: it has not, and nothing will make them.
    """
    try:
        for name in names:
            find_module(model, name)
    except ValueError:
        if "configure_model" in {name for kind in type(model).__mro__[:-1] for name in _own_methods(kind)}:
            return False
        raise
    return True


def _own_methods(kind: type) -> list[str]:
    """Names of what a class defines, unless it is one of Lightning's own."""
    is_lightning = kind.__module__.partition(".")[0] in ("pytorch_lightning", "lightning")
    return [] if is_lightning else list(vars(kind))
