"""The Lightning that the process uses: ``pytorch_lightning`` and ``lightning.pytorch`` are two packages.

Their classes are twins that know nothing of each other. Ours build on ``lightning.pytorch`` if that alone has
been imported before, on ``pytorch_lightning`` if that alone has, else on both, or on what is installed.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING or "pytorch_lightning" in sys.modules or "lightning.pytorch" not in sys.modules:
    if not TYPE_CHECKING and "pytorch_lightning" not in sys.modules:
        # Which one will be used is not known yet.
        with suppress(ImportError):
            import_module("lightning.pytorch")

    from pytorch_lightning import Callback, LightningModule, Trainer
    from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
    from pytorch_lightning.utilities.rank_zero import rank_zero_warn  # type: ignore[attr-defined]

    if not TYPE_CHECKING and "lightning.pytorch" in sys.modules:
        # Both may be in use: the callbacks belong to either.
        Callback = type("Callback", (sys.modules["lightning.pytorch"].Callback, Callback), {})
else:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.utilities.rank_zero import rank_zero_warn

__all__ = [
    "Callback",
    "LightningModule",
    "MisconfigurationException",
    "Trainer",
    "rank_zero_warn",
    "refuse_sharded_models",
    "should_log",
]

_SHARDED = {"FSDPStrategy", "ModelParallelStrategy", "XLAFSDPStrategy"}


def refuse_sharded_models(trainer: Trainer, callback: str) -> None:
    """Raise if the strategy leaves no process with all of the model's weights.

    Args:
        trainer (Trainer): whose strategy is looked at.
        callback (str): the name of the callback, for the message.

    Raises:
        MisconfigurationException: the strategy is FSDP, model parallel, or DeepSpeed's stage 3.
    """
    # By name: the other package's strategies count as well, and DeepSpeed need not be installed.
    names = {cls.__name__ for cls in type(trainer.strategy).__mro__}
    stage_3 = "DeepSpeedStrategy" in names and getattr(trainer.strategy, "zero_stage_3", False)
    if stage_3 or names & _SHARDED:
        raise MisconfigurationException(
            f"{callback} needs the whole model in one process, but {type(trainer.strategy).__name__}"
            f"{' (ZeRO stage 3)' if stage_3 else ''} spreads its weights over several. Use DDP or "
            f"DeepSpeed's stages 1 and 2, or remove the callback"
        )


def should_log(trainer: Trainer) -> bool:
    """Whether this batch is one of the every ``log_every_n_steps``, with or without a logger."""
    return bool(trainer._logger_connector.should_update_logs)
