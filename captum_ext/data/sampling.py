"""Which frames of a video stand for it: uniform sampling in time."""

import numpy as np
import numpy.typing as npt

# Times come from integer ticks or from k / fps; a query this close before a frame's time means that frame.
TICK_TOLERANCE_S = 1e-6


def segment_centres(n: int, start: float, end: float) -> npt.NDArray[np.float64]:
    """Centres of ``n`` equal segments of ``[start, end)``.

    Args:
        n (int): number of segments, at least 1.
        start (float): seconds.
        end (float): seconds, above ``start``.

    Returns:
        numpy.ndarray: float64 seconds, shape (n,), increasing, all inside ``(start, end)``.

    Example::

        >>> segment_centres(4, 0.0, 2.0).tolist()
        [0.25, 0.75, 1.25, 1.75]
    """
    return np.asarray(start + (np.arange(n) + 0.5) * ((end - start) / n), dtype=np.float64)


def frames_on_display(
    frame_times: npt.NDArray[np.float64], at: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """The frame that a player shows at each of the times ``at``: the last one that has begun.

    Args:
        frame_times (numpy.ndarray): seconds at which each frame appears, increasing, shape (T,).
        at (numpy.ndarray): seconds, none before the first frame, shape (n,).

    Returns:
        numpy.ndarray: int64 positions into ``frame_times``, shape (n,). Positions repeat where there are
        more times than frames.

    Example: a frame at 0 s that stays for a second, then one at 1 s and one at 1.1 s::

        >>> frames_on_display(np.array([0.0, 1.0, 1.1]), np.array([0.0, 0.9, 1.0, 5.0])).tolist()
        [0, 0, 1, 2]
    """
    positions = np.searchsorted(frame_times, at + TICK_TOLERANCE_S, side="right") - 1
    return np.asarray(positions, dtype=np.int64)
