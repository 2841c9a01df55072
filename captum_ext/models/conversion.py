"""From a trained tanh LSTM to the ReLU LSTM that Excitation Backprop assumes, for fine-tuning."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from captum_ext.models.stacked_relu_lstm import StackedReLULSTM

__all__ = ["to_relu_lstm"]


def to_relu_lstm(model: nn.Module) -> nn.Module:
    """A copy of the model in which every ``nn.LSTM`` has ReLU in place of both tanh, with the same weights.

    The scores change, since the activation does; fine-tune the copy before it is explained. The calls of the
    new layers are those of ``nn.LSTM``, so the model runs as before. Both biases become one, their sum; a
    layer without biases gets one of zeros that is not trained.

    Args:
        model (nn.Module): a model with at least one ``nn.LSTM``; it may be one. It is not changed.

    Returns:
        nn.Module: the copy, in the same training mode, with
        :class:`~captum_ext.models.stacked_relu_lstm.StackedReLULSTM` layers.

    Raises:
        ValueError: no ``nn.LSTM`` in the model, or one with projections, with parametrized weights or of a
            class of its own, or an ``nn.LSTMCell``, which has no counterpart with ReLU.

    Example:
        >>> from captum_ext.models import FrameCNNLSTM
        >>> model = FrameCNNLSTM(num_classes=4)
        >>> relu_model = to_relu_lstm(model)
        >>> relu_model(torch.rand(2, 3, 5, 64, 64)).shape, type(model.lstm).__name__
        (torch.Size([2, 4]), 'LSTM')

    References:
        Bargal et al., Excitation Backprop for RNNs, CVPR 2018, section 4 (the papers replace the tanh of a
        trained LSTM and fine-tune).
    """
    found = {path: module for path, module in model.named_modules() if _is_recurrent_lstm(module)}
    if not found:
        raise ValueError(f"the model ({type(model).__name__}) has no nn.LSTM to convert")
    for path, module in found.items():
        reason = _obstacle(module)
        if reason is not None:
            raise ValueError(f"module '{path or type(model).__name__}' cannot be converted: {reason}")
    converted = copy.deepcopy(model)
    if isinstance(converted, nn.LSTM):
        return _converted(converted)
    layers = {module: _converted(module) for module in converted.modules() if isinstance(module, nn.LSTM)}
    for parent in list(converted.modules()):
        for name, child in list(parent._modules.items()):  # one layer may have several names
            if isinstance(child, nn.LSTM):
                setattr(parent, name, layers[child])
    return converted


def _is_recurrent_lstm(module: nn.Module) -> bool:
    return isinstance(module, nn.LSTM | nn.LSTMCell)


def _obstacle(module: nn.Module) -> str | None:
    """Why the layer has no counterpart with ReLU."""
    if isinstance(module, nn.LSTMCell):
        return "it is an nn.LSTMCell; write the loop with captum_ext.models.ReLULSTM instead"
    if type(module) is not nn.LSTM:
        return f"{type(module).__name__} is a class of its own; replace it by an nn.LSTM first"
    if module.proj_size > 0:
        return "the ReLU LSTM has no projections (proj_size)"
    if is_parametrized(module):
        return "its weights are parametrized; remove the parametrization first"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "it has hooks, which would be lost; remove them first"
    return None


def _converted(lstm: nn.LSTM) -> StackedReLULSTM:
    with torch.device("meta"):  # draws no random numbers; the parameters are replaced below
        layers = StackedReLULSTM(
            lstm.input_size,
            lstm.hidden_size,
            lstm.num_layers,
            lstm.batch_first,
            lstm.dropout,
            lstm.bidirectional,
        )
    suffixes = [
        f"l{layer}{direction}"
        for layer in range(lstm.num_layers)
        for direction in ("", "_reverse")[: layers.n_directions]
    ]
    for layer, suffix in zip(layers.layers, suffixes, strict=True):
        weight_ih, weight_hh = (getattr(lstm, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh"))
        biases = [getattr(lstm, f"{name}_{suffix}") for name in ("bias_ih", "bias_hh") if lstm.bias]
        bias = sum((b.detach() for b in biases), weight_ih.detach().new_zeros(4 * lstm.hidden_size))
        layer.weight_ih, layer.weight_hh = (_parameter(w, w.requires_grad) for w in (weight_ih, weight_hh))
        layer.bias = _parameter(bias, any(b.requires_grad for b in biases))
    return layers.train(lstm.training)


def _parameter(values: torch.Tensor, requires_grad: bool) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad)
