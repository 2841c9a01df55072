"""PyTorch Lightning under whichever of its two names the process uses."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric.utilities.exceptions import MisconfigurationException
    from pytorch_lightning import Callback
elif "lightning.pytorch" in sys.modules and "pytorch_lightning" not in sys.modules:
    from lightning.pytorch import Callback
    from lightning.pytorch.utilities.exceptions import MisconfigurationException
else:
    from pytorch_lightning import Callback
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    if "lightning.pytorch" in sys.modules:
        # Both are in use: the callbacks belong to either.
        Callback = type("Callback", (sys.modules["lightning.pytorch"].Callback, Callback), {})

__all__ = ["Callback", "MisconfigurationException", "refuse_sharded", "should_log"]

_SHARDED = {"FSDPStrategy", "ModelParallelStrategy", "XLAFSDPStrategy"}


def refuse_sharded(trainer: Any, name: str) -> None:
    """Raise for strategies that free weights outside of their module's own forward pass."""
    strategy = trainer.strategy
    kinds = {kind.__name__ for kind in type(strategy).__mro__}
    if kinds & _SHARDED or ("DeepSpeedStrategy" in kinds and getattr(strategy, "zero_stage_3", False)):
        raise MisconfigurationException(
            f"{name} does not support {type(strategy).__name__} (with DeepSpeed, stage 3): weights are "
            "sharded there, and the part of the network above a layer cannot run a second time outside of "
            "its modules. Use DDP, or DeepSpeed up to stage 2."
        )


def should_log(trainer: Any) -> bool:
    """Whether this batch is one of the every ``log_every_n_steps``."""
    return bool(trainer.loggers) and bool(trainer._logger_connector.should_update_logs)
