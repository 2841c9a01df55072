"""Acting around ``training_step``, whoever calls it: the Trainer, a tuner, an optimiser's closure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

__all__ = ["Around", "TrainingStep", "act_around"]

_NAME = "training_step"


class Around(Protocol):
    """What happens around a training step."""

    def before_step(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        """Called with the batch, which is on its device."""

    def after_step(self, completed: bool, result: Any) -> None:
        """Called at the end with what the step returned; also of a step that raised an exception."""


def act_around(module: LightningModule, around: Around) -> TrainingStep:
    """Call ``around`` at each training step of a LightningModule, until :meth:`TrainingStep.leave`."""
    step = module.__dict__.get(_NAME)
    if not isinstance(step, TrainingStep):
        step = TrainingStep(module)
        object.__setattr__(module, _NAME, step)
    step.around.append(around)
    return step


class TrainingStep:
    """Stands for ``training_step`` on one LightningModule; a copy of the module has its plain one."""

    def __init__(self, module: LightningModule) -> None:
        self._module = module
        self._own: Callable[..., Any] | None = module.__dict__.get(_NAME)
        self.around: list[Around] = []
        self.__wrapped__: Callable[..., Any]
        functools.update_wrapper(self, getattr(module, _NAME))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Validation may run the step as well.
        if not self.around or not self._module.trainer.training:
            return self.__wrapped__(*args, **kwargs)
        batch = args[0] if args else kwargs.get("batch")
        completed, result = False, None
        try:
            for around in self.around:
                around.before_step(self._module.trainer, self._module, batch)
            result = self.__wrapped__(*args, **kwargs)
            completed = True
            return result
        finally:
            for around in self.around:
                around.after_step(completed, result)

    def leave(self, around: Around) -> None:
        """Call it no longer; after the last, put back what was there, unless others wrapped this since."""
        self.around = [other for other in self.around if other is not around]
        if self.around or self._module.__dict__.get(_NAME) is not self:
            return
        if self._own is None:
            object.__delattr__(self._module, _NAME)
        else:
            object.__setattr__(self._module, _NAME, self._own)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self._module))
        return getattr(type(self._module), _NAME).__get__(copied) if copied is not None else self.__wrapped__

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, str]]:
        # The module is being pickled, and has its class's step when this is asked for.
        return getattr, (self._module, _NAME)
