"""Linear maps and how they share the mass of their outputs over their inputs.

One rule for all of them (Bargal et al. 2018, eqs. 1 and 8, without the assumption that activations are
non-negative): a child i takes from its parent j the share

    P(a_i | a_j) = (s_j a_i w_ij)^+ / sum_k (s_j a_k w_kj)^+ ,    s_j = sign of the parent's state,

with the bias excluded. The denominator is the parent's *support*.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from captum_ext.excitation.numerics import safe_divide
from captum_ext.excitation.operand import Operand, Sign
from captum_ext.excitation.weights import SignedWeight

__all__ = [
    "EvidenceMap",
    "Kinds",
    "LinearMap",
    "NonNegativeMap",
    "RearrangedMap",
    "ScaledMap",
    "SumMap",
    "WeightedMap",
    "together",
]


Kinds = tuple[Tensor, Tensor | None]
"""Mass that supports outputs above zero, and mass that supports outputs below zero."""


class EvidenceMap(ABC):
    """What a reader sees of the linear map behind its input."""

    def __init__(self, operands: Sequence[Operand]) -> None:
        self.operands = tuple(operands)
        for operand in self.operands:
            operand.forget_net_value()
        # Whether nothing but weighted layers feeds the map, so that a gate on it only scales their rows.
        self.is_of_layers: bool = bool(operands) and all(
            a.map is not None and a.map.is_of_layers for a in operands
        )
        self.is_state = False
        self.is_output = False
        self.n_readers = 0
        self.delivered: Kinds | None = None
        self._supports: dict[Sign, Tensor] = {}

    @abstractmethod
    def _support(self, sign: Sign) -> Tensor:
        """The denominator of the rule for parents whose state has ``sign``."""

    @abstractmethod
    def deliver(self, plus: Tensor, minus: Tensor | None) -> None:
        """Note how the mass that is about to arrive divides into supports of either sign."""

    @abstractmethod
    def note_sign(self, output: Tensor) -> None:
        """Remember where the output is below zero, for as long as it is known."""

    def read_as_state(self) -> None:
        """A non-linear operation reads the output: the mass it sends supports the output's own sign."""
        self.is_state = True

    def _asks(self, sign: Sign) -> Iterator[tuple[EvidenceMap, Sign]]:
        """The supports of other maps that :meth:`_support` will ask for."""
        for operand in self.operands:
            if operand.map is not None:
                yield operand.map, sign

    def support(self, sign: Sign) -> Tensor:
        """Sum of the contributions that pull each output towards ``sign``; kept until the pass ends."""
        # A loop and not a recursion, since chains of linear maps grow with the length of a clip.
        pending: list[tuple[EvidenceMap, Sign]] = [(self, sign)]
        while pending:
            behind, wanted = pending[-1]
            missing = [(m, s) for m, s in behind._asks(wanted) if s not in m._supports]
            if missing:
                pending += missing
            else:
                pending.pop()
                if wanted not in behind._supports:
                    behind._supports[wanted] = behind._support(wanted)
        return self._supports[sign]

    def reset(self) -> None:
        """Forget what belongs to one backward pass."""
        self._supports.clear()
        self.delivered = None
        self.is_output = False

    def release(self) -> None:
        """Let go of all tensors; the map is of no use afterwards."""
        self.reset()
        self.operands = ()


class LinearMap(EvidenceMap):
    """A linear map whose backward pass distributes winning probabilities."""

    def __init__(self, operands: Sequence[Operand], clamp: bool) -> None:
        super().__init__(operands)
        self._clamp = clamp
        self._below_zero: Tensor | None = None

    @abstractmethod
    def _share(self, plus: Tensor, minus: Tensor | None) -> tuple[Tensor, ...]:
        """Mass of each operand; ``plus`` and ``minus`` are mass over support of the two kinds of parents."""

    def deliver(self, plus: Tensor, minus: Tensor | None) -> None:
        """Note how the mass that is about to arrive divides into supports of either sign."""
        if minus is not None or self.is_state:
            self.delivered = together((plus, minus), self.delivered)

    def note_sign(self, output: Tensor) -> None:
        """Remember where the output is below zero, for as long as it is known."""
        if self._below_zero is None and not self._clamp:
            self._below_zero = output.detach() < 0

    def distribute(self, mass: Tensor) -> tuple[Tensor, ...]:
        """P(child) = sum over parents of P(child | parent) P(parent) (eqs. 3 and 9), per operand."""
        masses = self._divide_and_share(*self._split(mass.to(self.operands[0].dtype)))
        self._supports.clear()
        return masses

    def _divide_and_share(self, plus: Tensor, minus: Tensor | None) -> tuple[Tensor, ...]:
        """Mass of each operand from that of the parents above and below zero."""
        plus = safe_divide(plus, self._take_support(1))
        if minus is not None:
            minus = safe_divide(minus, self._take_support(-1))
        return self._share(plus, minus)

    def _take_support(self, sign: Sign) -> Tensor:
        """The support, not kept any longer: all maps that read it have distributed their mass before."""
        support = self.support(sign)
        del self._supports[sign]
        return support

    def _split(self, mass: Tensor) -> Kinds:
        """Mass that supports a positive state, and mass that supports a negative one."""
        delivered, self.delivered = self.delivered, None
        if delivered is not None:
            mass = mass - delivered[0] if delivered[1] is None else mass - delivered[0] - delivered[1]
        below_zero = self._below_zero if self.is_state and not self.is_output else None
        if below_zero is None:
            return together((mass, None), delivered)
        return together((mass.masked_fill(below_zero, 0.0), mass.masked_fill(~below_zero, 0.0)), delivered)


class WeightedMap(LinearMap):
    """A linear or convolutional layer, a scaling by constants: parents z_j = sum_i a_i w_ij + b_j.

    Args:
        operand (Operand): the children a_i.
        weight (SignedWeight): w, from which the positive and negative parts are taken.
        apply (Callable): ``apply(a, w)``, the map without its bias.
        adjoint (Callable): ``adjoint(q, w)``, its transpose with respect to ``a``, as a new tensor.
        has_rows (bool): axis 0 of the weight and axis 1 of the output are the output channels.
    """

    def __init__(
        self,
        operand: Operand,
        weight: SignedWeight,
        apply: Callable[[Tensor, Tensor], Tensor],
        adjoint: Callable[[Tensor, Tensor], Tensor],
        clamp: bool,
        has_rows: bool = False,
    ) -> None:
        super().__init__([operand], clamp)
        self.has_rows = has_rows
        self.is_of_layers = True
        self.is_dual = False
        self._signed_weight, self._apply, self._adjoint = weight, apply, adjoint
        self._is_folded = False

    def _asks(self, sign: Sign) -> Iterator[tuple[EvidenceMap, Sign]]:
        yield from super()._asks(1)
        yield from super()._asks(-1)

    def fold(self, factor: Tensor) -> None:
        """Multiply each output channel by its ``factor``, (C,)."""
        if not self._is_folded:
            self._signed_weight = self._signed_weight.scaled(factor)
            self._is_folded = True

    def _weight(self, sign: int) -> Tensor:
        # The dual unit of contrastive EB has the negated weights (eqs. 2 and 4).
        return self._signed_weight.part(-sign if self.is_dual else sign, self.operands[0].dtype)

    def _support(self, sign: Sign) -> Tensor:
        (operand,) = self.operands
        down = operand.part(-1)
        support = self._apply(operand.part_or_zeros(1), self._weight(sign))
        return support if down is None else support + self._apply(down, self._weight(-sign))

    def _share(self, plus: Tensor, minus: Tensor | None) -> tuple[Tensor, ...]:
        (operand,) = self.operands
        up, down = operand.part_or_zeros(1), operand.part(-1)
        return (
            operand.receive(
                self._pull(plus, minus, 1).mul_(up),
                None if down is None else self._pull(plus, minus, -1).mul_(down),
            ),
        )

    def _pull(self, plus: Tensor, minus: Tensor | None, sign: Sign) -> Tensor:
        """Transposed map of the parents that a child's part of this sign supports."""
        pull = self._adjoint(plus, self._weight(sign))
        return pull if minus is None else pull + self._adjoint(minus, self._weight(-sign))


class ScaledMap(WeightedMap):
    """Multiplication by constants directly behind a linear map, such as batch norm behind a convolution.

    The two are one linear map. Where nothing else reads the layer behind, the factors per channel are folded
    into its weights, which saves the supports of both signs.

    Args:
        channel_factor (Tensor, optional): the constants, if there is one per channel, (C,).
    """

    def __init__(
        self,
        operand: Operand,
        weight: SignedWeight,
        apply: Callable[[Tensor, Tensor], Tensor],
        adjoint: Callable[[Tensor, Tensor], Tensor],
        clamp: bool,
        channel_factor: Tensor | None = None,
    ) -> None:
        super().__init__(operand, weight, apply, adjoint, clamp)
        self.is_of_layers = operand.map is not None and operand.map.is_of_layers
        self._channel_factor = channel_factor

    def _asks(self, sign: Sign) -> Iterator[tuple[EvidenceMap, Sign]]:
        layer = self._folded_layer()
        if layer is None:
            yield from super()._asks(sign)
        else:
            yield layer, sign

    def _support(self, sign: Sign) -> Tensor:
        layer = self._folded_layer()
        return super()._support(sign) if layer is None else layer.support(sign)

    def distribute(self, mass: Tensor) -> tuple[Tensor, ...]:
        """Leave the sharing to the folded layer, if there is one."""
        layer = self._folded_layer()
        if layer is None:
            return super().distribute(mass)
        layer.deliver(*self._split(mass))
        self._supports.clear()
        return (mass,)

    def _folded_layer(self) -> WeightedMap | None:
        layer = self.operands[0].map
        if self._channel_factor is None or not isinstance(layer, WeightedMap):
            return None
        if not layer.has_rows or layer.n_readers > 1:
            return None
        layer.fold(self._channel_factor)
        return layer


class NonNegativeMap(LinearMap):
    """A linear map with fixed weights of at least zero: average pools, mean, sum, interpolation.

    Args:
        operand (Operand): the children.
        apply (Callable): the map itself, differentiable.
    """

    def __init__(self, operand: Operand, apply: Callable[[Tensor], Tensor], clamp: bool) -> None:
        super().__init__([operand], clamp)
        self._apply = apply

    def _support(self, sign: Sign) -> Tensor:
        return self._apply(self.operands[0].part_or_zeros(sign))

    def _share(self, plus: Tensor, minus: Tensor | None) -> tuple[Tensor, ...]:
        (operand,) = self.operands
        return (
            operand.receive(
                operand.part_or_zeros(1) * self._transpose(plus),
                None if minus is None else operand.part_or_zeros(-1) * self._transpose(minus),
            ),
        )

    def _transpose(self, quotient: Tensor) -> Tensor:
        (operand,) = self.operands
        return _transpose(self._apply, [operand], quotient)[0]


class SumMap(LinearMap):
    """The element-wise sum z = c_1 a + c_2 b with constant coefficients; the operands broadcast."""

    def __init__(self, a: Operand, b: Operand, coefficients: tuple[float, float], clamp: bool) -> None:
        super().__init__([a, b], clamp)
        self._coefficients = coefficients

    def _asks(self, sign: Sign) -> Iterator[tuple[EvidenceMap, Sign]]:
        for operand, c in zip(self.operands, self._coefficients, strict=True):
            if operand.map is not None:
                yield operand.map, sign if c >= 0 else _opposite(sign)

    def _support(self, sign: Sign) -> Tensor:
        a, b = (
            _times(operand.part_or_zeros(sign if c >= 0 else _opposite(sign)), abs(c))
            for operand, c in zip(self.operands, self._coefficients, strict=True)
        )
        return a + b

    def _share(self, plus: Tensor, minus: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(
            self._receive(operand, c, plus, minus)
            for operand, c in zip(self.operands, self._coefficients, strict=True)
        )

    def _receive(self, operand: Operand, c: float, plus: Tensor, minus: Tensor | None) -> Tensor:
        def mass(quotient: Tensor | None, sign: Sign) -> Tensor | None:
            part = None if quotient is None else operand.part(sign)
            if quotient is None or part is None:
                return None
            return _times(part * quotient, abs(c)).sum_to_size(operand.shape)

        up, down = (plus, minus) if c >= 0 else (minus, plus)
        received = mass(up, 1)
        if received is None:
            received = torch.zeros(operand.shape, dtype=operand.dtype, device=plus.device)
        return operand.receive(received, mass(down, -1))


class RearrangedMap(EvidenceMap):
    """A view, slice, permutation or concatenation of the outputs of linear maps.

    It has no autograd rule of its own, since rearranging mass is what autograd already does; it lets a later
    linear map see the supports behind the rearrangement.

    Args:
        operands (Sequence[Operand]): the outputs of linear maps.
        rearrange (Callable): ``rearrange(*operands)``, differentiable.
        with_constants (bool): the result has entries that come from none of the operands.
    """

    def __init__(
        self, operands: Sequence[Operand], rearrange: Callable[..., Tensor], with_constants: bool = False
    ) -> None:
        for operand in operands:
            if operand.map is not None:
                operand.map.note_sign(operand.value)
        super().__init__(operands)
        self._rearrange = rearrange
        self.with_constants = with_constants

    def _support(self, sign: Sign) -> Tensor:
        return self._rearrange(*(a.part_or_zeros(sign) for a in self.operands))

    def deliver(self, plus: Tensor, minus: Tensor | None) -> None:
        """Pass on the kinds of mass, rearranged back."""
        if minus is None and not self._leads_to_state():
            return
        self.delivered = together((plus, minus), self.delivered)
        pluses = self.transposed(plus)
        minuses = [None] * len(pluses) if minus is None else self.transposed(minus)
        for operand, up, down in zip(self.operands, pluses, minuses, strict=True):
            if operand.map is not None:
                operand.map.deliver(up, down)

    def transposed(self, mass: Tensor) -> tuple[Tensor, ...]:
        """``mass`` of the result, put where its entries came from, per operand."""
        return _transpose(self._rearrange, self.operands, mass)

    def _leads_to_state(self) -> bool:
        pending, seen = [a.map for a in self.operands], set()
        while pending:
            behind = pending.pop()
            if behind is None or behind in seen:
                continue
            if behind.is_state:
                return True
            seen.add(behind)
            if isinstance(behind, RearrangedMap):
                pending += [a.map for a in behind.operands]
        return False

    def note_sign(self, output: Tensor) -> None:
        """Nothing to do: the maps behind noted their signs when the rearrangement was made."""

    def read_as_state(self) -> None:
        """Mark the maps behind the rearrangement."""
        self.is_state = True
        for operand in self.operands:
            if operand.map is not None:
                operand.map.read_as_state()


def _transpose(f: Callable[..., Tensor], operands: Sequence[Operand], quotient: Tensor) -> tuple[Tensor, ...]:
    """Transpose of the linear function ``f``, applied to ``quotient``."""
    with torch.enable_grad():
        zeros = [quotient.new_zeros(a.shape).requires_grad_() for a in operands]
        return torch.autograd.grad(f(*zeros), zeros, quotient, materialize_grads=True)


def _times(x: Tensor, c: float) -> Tensor:
    return x if c == 1 else c * x


def together(first: Kinds, *others: Kinds | None) -> Kinds:
    """Sum of masses, kind by kind."""
    plus, minus = first
    for other in others:
        if other is not None:
            plus = plus + other[0]
            minus = other[1] if minus is None else minus if other[1] is None else minus + other[1]
    return plus, minus


def _opposite(sign: Sign) -> Sign:
    return -1 if sign > 0 else 1
