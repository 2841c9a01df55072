"""What a metric found, with what is needed to judge it."""

from dataclasses import dataclass

__all__ = ["Summary"]


@dataclass(frozen=True)
class Summary:
    """A figure with its sample size, its 95 % interval and what luck would have scored.

    Attributes:
        value (float): The metric; NaN if nothing was counted.
        n (int): Number of examples behind it.
        low (float): Lower end of the 95 % interval; NaN if there is none.
        high (float): Upper end.
        chance (float): Exact expected value of a random answer under the same convention; NaN if the
            metric has none.

    Example:
        >>> print(Summary(0.625, 8, 0.306, 0.863, 0.25))
        0.6250 [0.3060, 0.8630], n = 8, chance 0.2500
    """

    value: float
    n: int
    low: float
    high: float
    chance: float

    def __str__(self) -> str:
        text = f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}], n = {self.n}"
        return text if self.chance != self.chance else f"{text}, chance {self.chance:.4f}"
