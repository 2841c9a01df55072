"""Filled shapes drawn with smooth edges, each with its exact bounding box."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_SAMPLES_PER_SIDE = 4  # of a pixel, for smooth edges

# Inside tests in coordinates where the shape's bounding box is [-1, 1] x [-1, 1], y pointing down.
_INSIDE: dict[str, Callable[[Array, Array], npt.NDArray[np.bool_]]] = {
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 1,
    "disc": lambda x, y: x**2 + y**2 <= 1,
    "triangle": lambda x, y: (y <= 1) & (2 * abs(x) <= y + 1),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1),
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.36),
}


def coverage(
    shape: str, centre: tuple[float, float], radius: float, frame_size: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """The share of each pixel that a shape covers.

    The shape's bounding box is ``(x - radius, y - radius, x + radius, y + radius)``.

    Args:
        shape (str): "square", "disc", "triangle", "cross" or "ring".
        centre (tuple[float, float]): (x, y) in pixels; pixel column k covers [k, k + 1).
        radius (float): half the side of the bounding box, pixels.
        frame_size (tuple[int, int]): (H, W).

    Returns:
        numpy.ndarray: float64 (H, W) in [0, 1].

    Example::

        >>> coverage("square", (2.0, 1.5), 1.0, (3, 4)).tolist()
        [[0.0, 0.5, 0.5, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.5, 0.5, 0.0]]
    """
    H, W = frame_size
    n = _SAMPLES_PER_SIDE
    x = ((np.arange(W * n) + 0.5) / n - centre[0]) / radius
    y = ((np.arange(H * n) + 0.5) / n - centre[1]) / radius
    inside = _INSIDE[shape](x[None, :], y[:, None])
    return np.asarray(inside.reshape(H, n, W, n).mean(axis=(1, 3)))
