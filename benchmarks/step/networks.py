"""The two kinds of networks that the STEP paper compares."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from benchmarks.action_maps import last_step
from benchmarks.suite.actions import Actions
from benchmarks.suite.batches import Batch

__all__ = ["NAMES", "Network", "networks"]

_CLIP_CNN, _CNN_LSTM = "3-D CNN", "CNN-LSTM"
NAMES = (_CLIP_CNN, _CNN_LSTM)


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network whose decisions are explained.

    Args:
        name (str): one of :data:`NAMES`.
        module (nn.Module): returns scores, (N, K) of the 3-D CNN and (N, T, K) of the CNN-LSTM.
    """

    name: str
    module: nn.Module

    @property
    def is_recurrent(self) -> bool:
        """Whether it has a score for every time step."""
        return self.name == _CNN_LSTM

    def target(self, batch: Batch) -> list[tuple[int, ...]] | list[int]:
        """Captum's targets: the class of each clip, of the CNN-LSTM at the last time step."""
        return last_step(batch.clips, batch.labels) if self.is_recurrent else batch.labels.tolist()

    def scores(self, clips: Tensor) -> Tensor:
        """The scores that are explained, (N, K): of the CNN-LSTM those of the last time step."""
        found: Tensor = self.module(clips)
        return found[:, -1] if self.is_recurrent else found


def networks(actions: Actions) -> list[Network]:
    """Both networks; with ``--checkpoint`` the given CNN-LSTM alone, whose input the 3-D CNN does not fit."""
    cnn_lstm = Network(_CNN_LSTM, actions.cnn_lstm())
    if actions.arguments.checkpoint is not None:
        return [cnn_lstm]
    return [Network(_CLIP_CNN, actions.clip_cnn()), cnn_lstm]
