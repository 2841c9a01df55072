"""PyTorch Lightning callbacks of captum_ext."""

from lightning_callbacks.utilization_monitor import UtilizationMonitor

__all__ = ["UtilizationMonitor"]
