"""The Lightning that the process uses: ``pytorch_lightning`` and ``lightning.pytorch`` are two packages.

Their classes are twins that know nothing of each other. Ours build on ``lightning.pytorch`` if that alone has
been imported before, else on ``pytorch_lightning``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "pytorch_lightning" in sys.modules or "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback, LightningModule, Trainer
    from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
    from pytorch_lightning.utilities.rank_zero import rank_zero_warn  # type: ignore[attr-defined]
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
]


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
    if stage_3 or names & {"FSDPStrategy", "ModelParallelStrategy"}:
        raise MisconfigurationException(
            f"{callback} needs the whole model in one process, but {type(trainer.strategy).__name__}"
            f"{' (ZeRO stage 3)' if stage_3 else ''} spreads its weights over several. Use DDP or "
            f"DeepSpeed's stages 1 and 2, or remove the callback"
        )
