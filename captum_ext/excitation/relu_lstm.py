"""An LSTM layer with ReLU in place of both tanh, as one call that the engine has a rule for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

__all__ = ["relu_lstm"]


def relu_lstm(
    input: Tensor,  # noqa: A002
    h_0: Tensor,
    c_0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""One LSTM layer whose cell input and cell output non-linearities are ReLU.

    With gates :math:`i, f, o` (sigmoids, as in :class:`torch.nn.LSTM`):
    :math:`g_t = \max(0, W_g x_t + U_g h_{t-1} + b_g)`, :math:`c_t = f_t c_{t-1} + i_t g_t`,
    :math:`h_t = o_t \max(0, c_t)`. All states are non-negative, which is what Excitation Backprop assumes.

    Args:
        input (Tensor): the sequence.
        h_0 (Tensor): initial hidden state.
        c_0 (Tensor): initial cell state.
        weight_ih (Tensor): input weights, rows in the order i, f, g, o.
        weight_hh (Tensor): recurrent weights, rows in the same order.
        bias (Tensor, optional): sum of both biases.

    Shape:
        input (N, T, D); h_0, c_0 (N, H); weight_ih (4H, D); weight_hh (4H, H); bias (4H,). Returns the
        outputs (N, T, H) and the last hidden and cell state (N, H).

    Returns:
        *tuple* of outputs, last hidden state, last cell state.

    Example:
        >>> x, state = torch.rand(2, 5, 3), torch.zeros(2, 4)
        >>> outputs, h, c = relu_lstm(x, state, state, torch.rand(16, 3), torch.rand(16, 4))
        >>> outputs.shape, bool((outputs >= 0).all())
        (torch.Size([2, 5, 4]), True)

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 4 (assumptions A1 and A2).
    """
    tensors = (input, h_0, c_0, weight_ih, weight_hh, bias)
    if has_torch_function(tensors):
        outputs: tuple[Tensor, Tensor, Tensor] = handle_torch_function(relu_lstm, tensors, *tensors)
        return outputs
    projected = F.linear(input, weight_ih, bias)
    h, c, hidden = h_0, c_0, []
    for t in range(input.shape[1]):
        i, f, g, o = (projected[:, t] + h @ weight_hh.T).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.relu()
        h = o.sigmoid() * c.relu()
        hidden.append(h)
    return torch.stack(hidden, dim=1), h, c
