"""Adaptive Dropout (standout): the least active units are dropped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AdaptiveDropoutLayer"]


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
        super().__init__(0.5)
        self.alpha, self.beta = float(alpha), float(beta)

    def keep_probability(self, z: Tensor) -> Tensor:
        """Sigmoid(alpha z + beta), a constant to autograd, in at least float32."""
        z = z.detach()
        return torch.sigmoid(self.alpha * z.to(torch.promote_types(z.dtype, torch.float32)) + self.beta)

    def forward(self, input: Tensor, z: Tensor | None = None) -> Tensor:  # noqa: A002  (the name in torch)
        """Drop in training, the expected activation in evaluation."""
        if z is None:
            raise TypeError("AdaptiveDropoutLayer takes activations and pre-activations: layer(h, z)")
        return self.apply_probability(input, self.keep_probability(z))

    def apply_probability(self, h: Tensor, keep_probability: Tensor) -> Tensor:
        """The same, where the probabilities are known."""
        if h.shape != keep_probability.shape:
            raise ValueError(
                f"the activations have shape {tuple(h.shape)}, the pre-activations "
                f"{tuple(keep_probability.shape)}: they must be of the same units"
            )
        if self.training:
            keep_probability = torch.rand_like(keep_probability) < keep_probability
        return h * keep_probability.to(h.dtype)

    def extra_repr(self) -> str:
        """The settings."""
        return f"alpha={self.alpha}, beta={self.beta}"
