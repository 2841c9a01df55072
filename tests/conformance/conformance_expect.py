"""How a check says that the contract is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class BrokenContractError(AssertionError):
    """The class under test breaks the contract.

    A type of its own, since Captum raises plain assertion errors for bad targets.
    """


def require(condition: object, message: str) -> None:
    """Raise unless the condition holds."""
    if not condition:
        raise BrokenContractError(message)


def require_same(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-9) -> None:
    """Raise unless two maps have the same shape and agree, up to a share of the largest entry."""
    require(isinstance(found, Tensor), f"{what}: {type(found).__name__} instead of a tensor")
    require(found.shape == expected.shape, f"{what}: {tuple(found.shape)} instead of {tuple(expected.shape)}")
    distance = (found.double() - expected.double()).abs().max()
    largest = expected.double().abs().max()
    require(distance <= tolerance * largest, f"{what}: differs by {distance:.1e} of {largest:.1e}")


def require_equal(found: Tensor, expected: Tensor, what: str) -> None:
    """Raise unless two maps are equal to the bit."""
    require(isinstance(found, Tensor), f"{what}: {type(found).__name__} instead of a tensor")
    require(found.dtype == expected.dtype, f"{what}: {found.dtype} instead of {expected.dtype}")
    require(torch.equal(found, expected), f"{what}: differs")


def require_different(found: Tensor, other: Tensor, what: str) -> None:
    """Raise if two maps are all but the same, as when an argument is ignored."""
    distance = (found - other).abs().max()
    require(distance > 1e-4 * other.abs().max(), f"{what}: the maps are the same")


def require_finite_and_alive(found: Tensor, what: str) -> None:
    """Raise for maps that are not finite or all zero, which would pass most comparisons."""
    require(torch.isfinite(found).all(), f"{what}: not finite")
    require(found.abs().max() > 0, f"{what}: all zero")


@contextmanager
def must_raise(*kinds: type[BaseException], saying: tuple[str, ...] = (), when: str = "") -> Iterator[None]:
    """Raise unless the block raises one of ``kinds`` whose text matches all patterns of ``saying``."""
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        yield
    except kinds as error:
        for pattern in saying:
            if not re.search(pattern, str(error), re.IGNORECASE):
                raise BrokenContractError(
                    f"{when}: the error does not name {pattern!r}: {error!r}"
                ) from error
    except Exception as error:
        raise BrokenContractError(f"{when}: {error!r} instead of {names}") from error
    else:
        raise BrokenContractError(f"{when}: no error")


def map_of(result: Any) -> Tensor:
    """The map in a result, which may be a tuple of one."""
    if isinstance(result, tuple):
        require(len(result) == 1, f"a tuple of {len(result)} maps")
        return result[0]
    require(isinstance(result, Tensor), f"{type(result).__name__} instead of a map")
    return result
