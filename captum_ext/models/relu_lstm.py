"""A one-layer LSTM without tanh."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_ext.excitation import relu_lstm

__all__ = ["ReLULSTM"]


class ReLULSTM(nn.Module):
    """One LSTM layer with ReLU in place of both tanh; the rest is as in :class:`torch.nn.LSTM`.

    Its states are non-negative, which is what Excitation Backprop assumes and the papers train.

    Args:
        input_size (int): D.
        hidden_size (int): H.

    Shape:
        input (N, T, D); returns the outputs (N, T, H) and the last states, each (N, H).

    Example:
        >>> outputs, (h, c) = ReLULSTM(3, 4)(torch.rand(2, 5, 3))
        >>> outputs.shape, torch.equal(outputs[:, -1], h)
        (torch.Size([2, 5, 4]), True)

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 4.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as :class:`torch.nn.LSTM` does; the forget gates start open."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            self.bias[self.hidden_size : 2 * self.hidden_size] = 1.0

    def forward(
        self,
        input: Tensor,  # noqa: A002
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run over the sequence, from zero states unless given."""
        if state is None:
            zeros = input.new_zeros(input.shape[0], self.hidden_size)
            state = zeros, zeros
        outputs, h, c = relu_lstm(input, *state, self.weight_ih, self.weight_hh, self.bias)
        return outputs, (h, c)
