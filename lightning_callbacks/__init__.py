"""PyTorch Lightning callbacks of captum_ext."""

from lightning_callbacks.saliency_logger import SaliencyLogger

__all__ = ["SaliencyLogger"]
