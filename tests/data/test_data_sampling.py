"""The mathematics of uniform sampling, against its definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.data.sampling import frames_on_display, segment_centres


@given(n=st.integers(1, 200), start=st.floats(0, 1e4), length=st.floats(0.01, 1e4))
def test_centres_are_equally_spaced_half_a_segment_from_both_ends(
    n: int, start: float, length: float
) -> None:
    centres = segment_centres(n, start, start + length)
    assert len(centres) == n
    np.testing.assert_allclose(np.diff(centres), length / n, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(centres[0] - start, length / n / 2, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(start + length - centres[-1], length / n / 2, rtol=1e-3, atol=1e-9)


@given(n_video=st.integers(1, 300), fps=st.sampled_from([8.0, 10.0, 24.0, 25.0, 30000 / 1001, 60.0]))
def test_as_many_samples_as_frames_at_a_constant_rate_are_all_frames(n_video: int, fps: float) -> None:
    times = np.arange(n_video) / fps
    assert frames_on_display(times, segment_centres(n_video, 0, n_video / fps)).tolist() == list(
        range(n_video)
    )


@given(
    n_video=st.integers(1, 300), n=st.integers(1, 64), fps=st.sampled_from([8.0, 25.0, 30000 / 1001, 60.0])
)
def test_at_a_constant_rate_the_positions_are_those_of_exact_arithmetic(
    n_video: int, n: int, fps: float
) -> None:
    positions = frames_on_display(np.arange(n_video) / fps, segment_centres(n, 0, n_video / fps))
    assert positions.tolist() == [(2 * i + 1) * n_video // (2 * n) for i in range(n)]


@given(
    gaps=st.lists(st.integers(1, 5000), min_size=1, max_size=60),
    queries=st.lists(st.integers(0, 400_000), min_size=1, max_size=40),
)
def test_the_frame_on_display_is_the_last_that_has_begun(gaps: list[int], queries: list[int]) -> None:
    ticks = np.cumsum([0, *gaps])
    positions = frames_on_display(ticks / 1000, np.array(queries) / 1000)
    expected = [max(k for k, tick in enumerate(ticks) if tick <= query) for query in queries]
    assert positions.tolist() == expected
