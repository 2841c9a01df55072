"""Several LSTM layers without tanh, called as torch.nn.LSTM is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_ext.models.relu_lstm import ReLULSTM

__all__ = ["StackedReLULSTM"]


class StackedReLULSTM(nn.Module):
    """Layers and directions of :class:`~captum_ext.models.ReLULSTM` behind the signature of ``nn.LSTM``.

    Args:
        input_size (int): D.
        hidden_size (int): H.
        num_layers (int, optional): L. Default: 1
        batch_first (bool, optional): sequences are (N, T, D) and not (T, N, D). Default: False
        dropout (float, optional): probability of dropout between the layers. Default: 0.0
        bidirectional (bool, optional): also run backwards in time; K = 2 and not 1 directions.
            Default: False

    Shape:
        input (T, N, D), (N, T, D) with ``batch_first``, or (T, D) for one sequence; the initial states
        (L * K, N, H), or (L * K, H) for one sequence. Returns the outputs, of K * H features, and the pair of
        last states.

    Example:
        >>> lstm = StackedReLULSTM(3, 4, num_layers=2)
        >>> outputs, (h, c) = lstm(torch.rand(5, 2, 3))
        >>> outputs.shape, h.shape, torch.equal(outputs[-1], h[-1])
        (torch.Size([5, 2, 4]), torch.Size([2, 2, 4]), True)

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 4.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        self.n_directions = 2 if bidirectional else 1
        self.layers = nn.ModuleList(
            ReLULSTM(input_size if layer == 0 else self.n_directions * hidden_size, hidden_size)
            for layer in range(num_layers)
            for _ in range(self.n_directions)
        )

    def flatten_parameters(self) -> None:
        """Nothing to do; models call it on an ``nn.LSTM``."""

    def forward(
        self,
        input: Tensor,  # noqa: A002
        hx: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over the sequence, from zero states unless given."""
        if not isinstance(input, Tensor):
            raise TypeError(
                f"StackedReLULSTM takes a tensor, not a {type(input).__name__}; pad the sequences instead of "
                "packing them"
            )
        batch_axis = 0 if self.batch_first else 1
        if input.dim() == 2:
            states = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
            outputs, (h, c) = self(input.unsqueeze(batch_axis), states)
            return outputs.squeeze(batch_axis), (h.squeeze(1), c.squeeze(1))
        sequence = input if self.batch_first else input.transpose(0, 1)
        last = []
        for layer in range(self.num_layers):
            if layer > 0:
                sequence = nn.functional.dropout(sequence, self.dropout, self.training)
            directions = []
            for direction in range(self.n_directions):
                k = layer * self.n_directions + direction
                steps = sequence.flip(1) if direction else sequence
                outputs, state = self.layers[k](steps, None if hx is None else (hx[0][k], hx[1][k]))
                directions.append(outputs.flip(1) if direction else outputs)
                last.append(state)
            sequence = torch.cat(directions, dim=-1) if self.bidirectional else directions[0]
        h, c = (torch.stack(states) for states in zip(*last, strict=True))
        return sequence if self.batch_first else sequence.transpose(0, 1), (h, c)
