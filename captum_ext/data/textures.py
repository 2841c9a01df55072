"""Band-limited noise that drifts: a background with structure but without objects."""

import numpy as np
import numpy.typing as npt


def drifting_noise(
    generator: np.random.Generator,
    n_frames: int,
    frame_size: tuple[int, int],
    band: tuple[float, float],
    velocity: tuple[float, float],
) -> npt.NDArray[np.float64]:
    """Noise with wavelengths inside a band, moving at a constant velocity and wrapping at the borders.

    Args:
        generator (numpy.random.Generator): source of the noise.
        n_frames (int): T.
        frame_size (tuple[int, int]): (H, W).
        band (tuple[float, float]): shortest and longest wavelength, pixels.
        velocity (tuple[float, float]): (x, y) in pixels per frame; (0, 0) stands still.

    Returns:
        numpy.ndarray: float64 (T, H, W), mean 0, standard deviation 1 over the first frame.

    Example::

        >>> noise = drifting_noise(np.random.default_rng(0), 3, (32, 48), (6, 24), (1.0, 0.0))
        >>> np.allclose(noise[1][:, 1:], noise[0][:, :-1])
        True
    """
    H, W = frame_size
    frequency_y, frequency_x = np.fft.fftfreq(H)[:, None], np.fft.rfftfreq(W)[None, :]
    frequency = np.hypot(frequency_y, frequency_x)  # cycles per pixel
    spectrum = np.fft.rfft2(generator.standard_normal((H, W)))
    in_band = (frequency >= 1 / band[1]) & (frequency <= 1 / band[0])
    spectrum[~in_band] = 0
    spectrum[in_band] /= frequency[in_band]  # as in natural pictures, coarse structure is the stronger
    # A shift of the picture is a phase that grows with frequency, also for fractions of a pixel.
    t = np.arange(n_frames)[:, None, None]
    phase = frequency_x * velocity[0] + frequency_y * velocity[1]
    noise = np.fft.irfft2(spectrum * np.exp(-2j * np.pi * t * phase), s=(H, W))
    return np.asarray(noise / noise[0].std())
