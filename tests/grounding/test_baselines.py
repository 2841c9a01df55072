import pytest
import torch

from captum_ext.grounding import center_window, greedy_window, threshold_scores, whole_clip_window


def test_the_centre_window_has_its_length_and_lies_at_most_half_a_frame_early():
    for n_frames in range(1, 12):
        for length in range(1, n_frames + 1):
            start, end = center_window(n_frames, length).tolist()
            assert end - start == length
            assert n_frames - end - start in (0, 1)


def test_one_centre_window_per_length():
    assert center_window(9, torch.tensor([1, 4, 9])).tolist() == [[4, 5], [2, 6], [0, 9]]


def test_the_whole_clip_is_half_open():
    assert whole_clip_window(16).tolist() == [0, 16]


@pytest.mark.parametrize("length", [0, 10, torch.tensor([3, 10])])
def test_a_length_outside_the_clip_is_refused(length):
    with pytest.raises(ValueError, match=r"1\.\.9"):
        center_window(9, length)


def test_a_fractional_length_is_refused():
    with pytest.raises(TypeError, match="whole number"):
        center_window(9, torch.tensor([2.5]))


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match="n_frames"):
        whole_clip_window(0)


def test_a_probability_at_the_threshold_counts_as_above():
    scores = threshold_scores(torch.tensor([[0.49, 0.5, 1.0, 0.0]], dtype=torch.float64))
    assert scores.tolist() == [[-1.0, 1.0, 1.0, -1.0]]
    assert scores.dtype == torch.float64


def test_thresholded_probabilities_bound_a_greedy_window():
    probabilities = torch.tensor([[0.1, 0.6, 0.9, 0.2, 0.99]])
    assert greedy_window(threshold_scores(probabilities)).tolist() == [[1, 3]]
    assert greedy_window(threshold_scores(probabilities, threshold=0.95)).tolist() == [[4, 5]]


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_logits_are_not_probabilities(value):
    with pytest.raises(ValueError, match="softmax"):
        threshold_scores(torch.tensor([[0.5, value]]))


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        threshold_scores(torch.tensor([[0.5]]), threshold=50)
