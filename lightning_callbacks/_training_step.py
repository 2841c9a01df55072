"""Acting around ``training_step``, whoever calls it: the Trainer, a tuner, an optimiser's closure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from torch import nn

__all__ = ["Around", "act_around", "stop_acting"]

_NAME = "training_step"


class Around(Protocol):
    """What happens around a training step."""

    def before_step(self, batch: Any) -> None:
        """Called with the batch, which is on its device."""

    def after_step(self, completed: bool) -> None:
        """Called at the end, also of a step that raised an exception."""


def act_around(module: nn.Module, around: Around) -> None:
    """Call ``around`` at each training step of a LightningModule."""
    step = module.__dict__.get(_NAME)
    if not isinstance(step, _Step):
        step = _Step(module)
        object.__setattr__(module, _NAME, step)
    step.around.append(around)


def stop_acting(module: nn.Module, around: Around) -> None:
    """Call it no longer."""
    step = module.__dict__.get(_NAME)
    if isinstance(step, _Step):
        step.around = [other for other in step.around if other is not around]
        if not step.around:
            step.undo()


class _Step:
    """Stands for ``training_step`` on one LightningModule; a copy of the module has its plain one."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._own: Callable[..., Any] | None = module.__dict__.get(_NAME)
        self.around: list[Around] = []
        self.__wrapped__: Callable[..., Any]
        functools.update_wrapper(self, getattr(module, _NAME))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch = args[0] if args else kwargs.get("batch")
        completed = False
        try:
            for around in self.around:
                around.before_step(batch)
            result = self.__wrapped__(*args, **kwargs)
            completed = True
            return result
        finally:
            for around in self.around:
                around.after_step(completed)

    def undo(self) -> None:
        """Put back what was there."""
        if self._own is None:
            object.__delattr__(self._module, _NAME)
        else:
            object.__setattr__(self._module, _NAME, self._own)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self._module))
        return getattr(type(self._module), _NAME).__get__(copied) if copied is not None else self.__wrapped__
