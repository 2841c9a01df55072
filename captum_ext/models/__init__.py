"""The papers' reference video models."""

from captum_ext.models.checkpoint import load_checkpoint, save_checkpoint
from captum_ext.models.frame_cnn_lstm import FrameCNN, FrameCNNLSTM
from captum_ext.models.relu_lstm import ReLULSTM
from captum_ext.models.vgg_lstm import VGGLSTM

__all__ = ["VGGLSTM", "FrameCNN", "FrameCNNLSTM", "ReLULSTM", "load_checkpoint", "save_checkpoint"]
