"""Lightning callbacks of captum_ext, for ``lightning`` and ``pytorch_lightning`` alike."""

from lightning_callbacks.adaptive_dropout import AdaptiveDropout
from lightning_callbacks.curriculum_dropout import CurriculumDropout
from lightning_callbacks.excitation_dropout import ExcitationDropout
from lightning_callbacks.saliency_logger import SaliencyLogger
from lightning_callbacks.utilization_monitor import UtilizationMonitor

__all__ = [
    "AdaptiveDropout",
    "CurriculumDropout",
    "ExcitationDropout",
    "SaliencyLogger",
    "UtilizationMonitor",
]
