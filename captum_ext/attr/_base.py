"""The part of Captum's contract that all Excitation Backprop classes fulfil alike."""

from __future__ import annotations

from typing import NoReturn

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_ext.attr._forward import check_negative
from captum_ext.excitation.operand import Negative
from captum_ext.excitation.weights import WeightCache

__all__ = ["ExcitationAttribution"]


class ExcitationAttribution(Attribution):
    """Base of the Excitation Backprop classes."""

    def __init__(self, model: nn.Module, negative: Negative = "support") -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        check_negative(negative)
        Attribution.__init__(self, model)
        self.model = model
        self.negative: Negative = negative
        self._weights = WeightCache()

    def has_convergence_delta(self) -> bool:
        """True: mass that units without support drop is reported."""
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: a child competes with its activation."""
        return True

    def attribute_future(self) -> NoReturn:
        """Not offered."""
        raise NotImplementedError(f"attribute_future is not implemented for {self.get_name()}")


def check_map(attribution: Tensor, dtype: torch.dtype) -> Tensor:
    """A finished map: detached, contiguous, finite, in the dtype of the inputs."""
    attribution = attribution.detach().to(dtype).contiguous()
    if not torch.isfinite(attribution).all():
        raise ValueError(
            "the attribution contains NaN or infinity; check the model's weights and activations for them"
        )
    return attribution
