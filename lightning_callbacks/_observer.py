"""What the callbacks share that look at validation batches and log at the end of an epoch."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from lightning_callbacks._lightning import (
    Callback,
    LightningModule,
    MisconfigurationException,
    Trainer,
    rank_zero_warn,
    refuse_sharded_models,
)

__all__ = ["Observer"]


class Observer(Callback):
    """Looks at validation and test batches in epochs that are due, and says so if it never did.

    A subclass sets ``key`` and ``every_n_epochs``, ``_was_due`` in an epoch that is due, and ``_has_logged``
    when there was something to log.
    """

    key: str
    every_n_epochs: int

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()
        self._was_due = self._has_logged = False

    def _refuse_unless(self, checks: Sequence[tuple[object, str]]) -> None:
        """Raise at the first of the conditions that does not hold."""
        for fits, words in checks:
            if not fits:
                raise MisconfigurationException(f"{type(self).__name__}: {words}")

    @property
    def state_key(self) -> str:
        """Tells several of these callbacks apart, by their keys; Lightning refuses two with one key."""
        return f"{type(self).__qualname__}[key={self.key}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse sharded models."""
        refuse_sharded_models(trainer, type(self).__name__)
        self._was_due = self._has_logged = False

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Warn if nothing was ever logged."""
        # Tuners stop runs before their first epoch ends.
        is_early = stage == "fit" and not trainer.fit_loop.epoch_progress.current.completed
        if stage != "predict" and not self._has_logged and not is_early:
            rank_zero_warn(f"{type(self).__name__} has logged nothing: {self._why_nothing(trainer, stage)}")

    def _is_due(self, trainer: Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        return trainer.state.fn != "fit" or (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _why_nothing(self, trainer: Trainer, stage: str) -> str:
        if self._was_due:
            return "the first data loader gave no example that counts; those with a negative label do not"
        if not sum(trainer.num_test_batches if stage == "test" else trainer.num_val_batches):
            return "there were no validation batches (no data loader for them, or limit_val_batches=0)"
        return (
            f"no validation fell on an epoch that is due (every_n_epochs={self.every_n_epochs}, and of the "
            f"Trainer check_val_every_n_epoch={trainer.check_val_every_n_epoch})"
        )

    # Errors

    def _try_to_log(self, place: object, action: Callable[[], None]) -> None:
        """Never raises: an error of one process would leave the others waiting."""
        try:
            action()
        except Exception as error:
            name = type(place).__name__
            self._warn_of(f"{name} {id(place)}", f"{name} failed to take pictures", error)

    def _warn_of(self, kind: str, what: str, error: Exception) -> None:
        reason = "".join(traceback.format_exception(error))
        self._warn_once(
            kind,
            f"{what}. The run goes on; further errors of this kind are not reported.\n{reason}",
        )

    def _warn_once(self, kind: str, words: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            rank_zero_warn(f"{type(self).__name__}: {words}")
