"""Adaptive Dropout (standout): the least active units are dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_ext.dropout.swap import Swap, find_module

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

__all__ = ["AdaptiveAttachment", "AdaptiveDropoutLayer", "attach_adaptive"]


class AdaptiveDropoutLayer(nn.Dropout):
    """Keeps a unit with probability sigmoid(alpha z + beta), z its pre-activation.

    Units that are strongly on are nearly always kept, so it drops the least active ones, the opposite of
    Excitation Dropout. Nothing is rescaled in training; in evaluation the layer is *not* the identity but
    multiplies by the same probabilities, the expectation of the mask. The probabilities count as constants.

    The paper learns the weights that decide; like the authors we tie them to the layer's own, w, as
    alpha (w a) + beta. (Ported code often reads the tie as (alpha w + beta) a, which adds beta times the sum
    of the inputs a.)

    Args:
        alpha (float, optional): slope. Default: 1.0
        beta (float, optional): offset: sigmoid(beta) of the units at z = 0 are kept. Default: 0.0

    Shape:
        activations and pre-activations of one shape, (N, *); the result has it, too.

    Example:
        >>> import torch
        >>> z = torch.tensor([[-50.0, 0.0, 50.0]])
        >>> AdaptiveDropoutLayer().eval()(torch.ones(1, 3), z)
        tensor([[1.9287e-22, 5.0000e-01, 1.0000e+00]])

    References:
        Ba and Frey, Adaptive dropout for training deep neural networks, NIPS 2013.
    """

    def __init__(self, alpha: float = 1.0, beta: float = 0.0) -> None:
        if not (math.isfinite(alpha) and math.isfinite(beta)):
            raise ValueError(f"alpha and beta must be finite, got {alpha} and {beta}")
        super().__init__(0.5)
        self.alpha, self.beta = float(alpha), float(beta)
        self._noted: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies have seen no pre-activations."""
        return {**super().__getstate__(), "_noted": None}  # type: ignore[no-untyped-call]

    def note(self, z: Tensor) -> None:
        """Take the pre-activations of the next call, before an in-place activation overwrites them."""
        z = z.detach()
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        self._noted = torch.sigmoid(self.alpha * z + self.beta)

    def forward(self, input: Tensor, z: Tensor | None = None) -> Tensor:  # noqa: A002  (the name in torch)
        """Drop in training, the expected activation in evaluation; without ``z``, by what was noted."""
        if z is not None:
            self.note(z)
        factor, self._noted = self._noted, None
        if factor is None:
            raise RuntimeError(
                "AdaptiveDropoutLayer ran without pre-activations: call layer(h, z), or attach_adaptive with "
                "the module that computes them, which must run once before each call of the layer"
            )
        if input.shape != factor.shape:
            raise ValueError(
                f"the activations have shape {tuple(input.shape)}, the pre-activations "
                f"{tuple(factor.shape)}: they must be of the same units"
            )
        if self.training:
            factor = (torch.rand_like(factor) < factor).float()
        return input * factor.to(input.dtype)

    def extra_repr(self) -> str:
        """The settings."""
        return f"alpha={self.alpha}, beta={self.beta}"


def attach_adaptive(
    model: nn.Module,
    layers: str | Sequence[str],
    preactivations: str | Sequence[str],
    alpha: float = 1.0,
    beta: float = 0.0,
) -> AdaptiveAttachment:
    """Put Adaptive Dropout into a model; the model is as before once the attachment is detached.

    It also acts in evaluation, so keep it attached there.

    Args:
        model (nn.Module): the model.
        layers (str or list[str]): dotted names of dropout layers, or of activations to drop from.
        preactivations (str or list[str]): for each of them the linear or convolutional layer below the
            activation.
        alpha (float, optional): slope. Default: 1.0
        beta (float, optional): offset. Default: 0.0

    Returns:
        AdaptiveAttachment: a context manager that detaches at its end.

    Raises:
        ValueError: a name that the model does not have, or more of one than of the other.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
        >>> with attach_adaptive(model, "2", preactivations="0"):
        ...     scores = model(torch.rand(8, 4))
        >>> model[2]
        Dropout(p=0.5, inplace=False)
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    below = [preactivations] if isinstance(preactivations, str) else list(preactivations)
    if not names or len(names) != len(below):
        raise ValueError(
            f"each layer needs its preactivation: got {len(names)} layers, {len(below)} of those"
        )
    return AdaptiveAttachment(model, dict(zip(names, below, strict=True)), alpha, beta)


class AdaptiveAttachment:
    """Adaptive Dropout layers in a model; made by :func:`attach_adaptive`.

    Args:
        model (nn.Module): the model.
        preactivations (Mapping[str, str]): the layer below the activation, by name of the dropout layer.
        alpha (float): slope.
        beta (float): offset.
    """

    def __init__(
        self, model: nn.Module, preactivations: Mapping[str, str], alpha: float, beta: float
    ) -> None:
        self._swaps: list[Swap] = []
        self._handles: list[RemovableHandle] = []
        try:
            for name, below in preactivations.items():
                source = find_module(model, below)
                swap = Swap(model, name, lambda rate, is_channelwise: AdaptiveDropoutLayer(alpha, beta))
                self._swaps.append(swap)
                assert isinstance(swap.layer, AdaptiveDropoutLayer)  # noqa: S101
                self._handles.append(source.register_forward_hook(_Note(source, swap.layer)))
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Restore the model."""
        while self._handles:
            self._handles.pop().remove()
        while self._swaps:
            self._swaps.pop().undo()

    def __enter__(self) -> AdaptiveAttachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


class _Note:
    """A forward hook that shows a module's output to an Adaptive Dropout layer; copied together with both."""

    def __init__(self, owner: nn.Module, layer: AdaptiveDropoutLayer) -> None:
        self._owner, self._layer = owner, layer

    def __call__(self, module: nn.Module, _: Any, output: Any) -> None:
        if module is not self._owner:
            return
        if not isinstance(output, Tensor):
            raise TypeError(
                f"the output of {type(module).__name__} is a {type(output).__name__}, not a tensor of "
                "pre-activations; name the linear or convolutional layer below the activation"
            )
        self._layer.note(output)
