"""The papers' reference models."""

from captum_ext.models.checkpoint import load_checkpoint, save_checkpoint
from captum_ext.models.cnn2 import CNN2
from captum_ext.models.cnn_lstm_captioner import CNNLSTMCaptioner
from captum_ext.models.conversion import to_relu_lstm
from captum_ext.models.frame_cnn_lstm import FrameCNN, FrameCNNLSTM
from captum_ext.models.relu_lstm import ReLULSTM
from captum_ext.models.stacked_relu_lstm import StackedReLULSTM
from captum_ext.models.vgg_lstm import VGGLSTM
from captum_ext.models.vocabulary import Vocabulary

__all__ = [
    "CNN2",
    "VGGLSTM",
    "CNNLSTMCaptioner",
    "FrameCNN",
    "FrameCNNLSTM",
    "ReLULSTM",
    "StackedReLULSTM",
    "Vocabulary",
    "load_checkpoint",
    "save_checkpoint",
    "to_relu_lstm",
]
