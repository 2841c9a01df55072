import pytest

from captum_ext.metrics.functional import pad_boxes, spatial_pointing_chance

A, B, C = (1, 2, 5, 6), (0.5, 0, 3, 4), (2, 2, 7, 8)


def test_every_box_keeps_its_clip_frame_and_order():
    padded = pad_boxes([[[A], [], [B, C]], [[], [C], []]])
    assert padded.shape == (2, 3, 2, 4)
    assert padded[0, 0, 0].tolist() == list(A)
    assert padded[0, 2].tolist() == [list(B), list(C)]
    assert padded[1, 1, 0].tolist() == list(C)
    assert padded.isnan().all(dim=3).sum() == 12 - 4


def test_clips_without_any_box_are_all_padding():
    padded = pad_boxes([[[], []]])
    assert padded.shape == (1, 2, 1, 4)
    assert spatial_pointing_chance(padded, (9, 11)).isnan().all()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([], "at least one clip"),
        ([[]], r"frames \(T >= 1\)"),
        ([[[A]], [[A], [B]]], r"2 clips of \[1, 2\] frames"),
        ([[[A], [(1, 2, 3)]]], "clip 0, frame 1"),
        ([[A]], None),  # a level is missing: the numbers stand where boxes should
    ],
)
def test_lists_of_another_form_are_refused(boxes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        pad_boxes(boxes)
