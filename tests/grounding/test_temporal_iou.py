import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.grounding import temporal_iou

window = st.tuples(st.integers(0, 12), st.integers(1, 8)).map(lambda w: (w[0], w[0] + w[1]))


@given(window, window)
def test_iou_counts_frames(a, b):
    frames_a, frames_b = set(range(*a)), set(range(*b))
    expected = len(frames_a & frames_b) / len(frames_a | frames_b)
    assert temporal_iou(torch.tensor(a), torch.tensor(b)).item() == expected


def test_convention_windows_that_touch_share_no_frame():
    assert temporal_iou(torch.tensor([0, 5]), torch.tensor([5, 9])).item() == 0


def test_leading_axes_broadcast():
    a, b = torch.rand(3, 1, 2).cumsum(-1), torch.rand(1, 5, 2).cumsum(-1)
    iou = temporal_iou(a, b)
    assert iou.shape == (3, 5)
    torch.testing.assert_close(iou, temporal_iou(b, a))


@pytest.mark.parametrize("bad", [[3, 3], [4, 2], [0.0, float("nan")], [0.0, float("inf")], [1, 2, 3]])
def test_a_bad_window_is_refused(bad):
    with pytest.raises(ValueError, match="b must"):
        temporal_iou(torch.tensor([0, 5]), torch.tensor(bad))


def test_a_list_is_refused_by_type():
    with pytest.raises(TypeError, match="list"):
        temporal_iou([0, 5], torch.tensor([0, 5]))
