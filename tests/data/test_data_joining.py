"""Runs of frames one behind the other: whose frames are where, and that the file agrees with its record."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from captum_ext.data import ActionClip, Piece, Span, join_actions, read_video, write_video

H, W, T = 32, 48, 9
LEVELS = {"a": 20, "b": 100, "c": 180}
FPS = 8.0


def numbered_clip(folder: Path, label: str, size: tuple[int, int] = (H, W)) -> ActionClip:
    """A grey level per label, eight brighter per frame, and a box that moves: pixels and boxes tell which."""
    path = folder / f"{label}.mp4"
    levels = LEVELS[label] + 8 * torch.arange(T, dtype=torch.uint8)
    write_video(path, levels.view(T, 1, 1, 1).expand(T, 3, *size), FPS, crf=0)
    return ActionClip(
        video_id=label,
        path=str(path),
        label=label,
        label_index=list(LEVELS).index(label),
        fps=FPS,
        n_frames=T,
        width=size[1],
        height=size[0],
        boxes=tuple((float(t), 5.0, t + 10.0, 20.0) if t % 4 else None for t in range(T)),
        spans=(Span(label, 0, T),),
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ActionClip]:
    folder = tmp_path_factory.mktemp("sources")
    return {label: numbered_clip(folder, label) for label in LEVELS}


def frames_of(clip: ActionClip) -> list[tuple[str, int]]:
    """Label and source frame of every frame of a file, from its pixels."""
    levels = read_video(clip.path, n_frames=None).frames.float().mean(dim=(1, 2, 3))
    known = {LEVELS[label] + 8 * t: (label, t) for label in LEVELS for t in range(T)}
    return [known[min(known, key=lambda level: abs(level - found))] for found in levels.tolist()]


pieces = st.lists(
    st.integers(0, T).flatmap(
        lambda n: st.tuples(st.sampled_from(sorted(LEVELS)), st.integers(0, T - n), st.just(n))
    ),
    min_size=1,
    max_size=4,
).filter(lambda found: any(n for _, _, n in found))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=pieces, data=st.data())
def test_pixels_boxes_and_spans_are_those_of_the_pieces(clips, tmp_path, pieces, data):
    truth = data.draw(st.sampled_from([i for i, (_, _, n) in enumerate(pieces) if n]))
    given_pieces = [Piece(clips[label], start, n) for label, start, n in pieces]
    joined = join_actions(tmp_path / "joined.mp4", given_pieces, "joined", truth)

    expected = [(label, start + t) for label, start, n in pieces for t in range(n)]
    assert frames_of(joined) == expected
    assert list(joined.boxes) == [clips[label].boxes[t] for label, t in expected]
    assert joined.n_frames == len(expected)
    of_spans = [s.label for s in joined.spans for _ in range(s.start_frame, s.end_frame)]
    assert of_spans == [label for label, _ in expected]
    assert all(a.end_frame == b.start_frame for a, b in zip(joined.spans, joined.spans[1:], strict=False))
    assert all(a.label != b.label for a, b in zip(joined.spans, joined.spans[1:], strict=False))
    assert (joined.label, joined.label_index) == (pieces[truth][0], list(LEVELS).index(pieces[truth][0]))
    assert (joined.fps, joined.width, joined.height, joined.video_id) == (FPS, W, H, "joined")


def test_convention_a_piece_is_half_open(clips, tmp_path):
    joined = join_actions(
        tmp_path / "x.mp4", [Piece(clips["a"], 0, 1), Piece(clips["b"], T - 2, 2)], "x", truth=1
    )
    assert frames_of(joined) == [("a", 0), ("b", T - 2), ("b", T - 1)]
    assert joined.spans == (Span("a", 0, 1), Span("b", 1, 3))


def test_other_boxes_are_those_of_the_pieces_and_none_where_a_clip_has_one_box_a_frame(clips, tmp_path):
    others = tuple(((float(t), 1.0, t + 2.0, 9.0),) * (t % 3) for t in range(T))
    crowded = replace(clips["b"], other_boxes=others)
    pieces = [Piece(clips["a"], 1, 2), Piece(crowded, 3, 5), Piece(clips["a"], 0, 1)]
    joined = join_actions(tmp_path / "x.mp4", pieces, "x", truth=1)
    assert joined.other_boxes == ((), (), *others[3:8], ())
    without = join_actions(tmp_path / "x.mp4", [pieces[0], Piece(crowded, 3, 1)], "x", truth=1)
    assert others[3] == ()
    assert without.other_boxes == ()


@pytest.mark.parametrize(("start", "n_frames"), [(-1, 2), (T - 1, 2), (T, 1), (0, T + 1), (3, -1)])
def test_a_piece_that_reaches_out_of_its_clip_is_refused(clips, tmp_path, start, n_frames):
    outside = Piece(clips["b"], start, n_frames)
    with pytest.raises(ValueError, match=r"reach out of clip 'b', which has 9"):
        join_actions(tmp_path / "x.mp4", [Piece(clips["a"], 0, 2), outside], "x", 0)
    assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize("truth", [-1, 2])
def test_a_truth_that_is_no_piece_is_refused(clips, tmp_path, truth):
    with pytest.raises(ValueError, match="must number one of the 2 pieces"):
        join_actions(tmp_path / "x.mp4", [Piece(clips["a"], 0, 2), Piece(clips["b"], 0, 2)], "x", truth)


def test_a_truth_without_frames_is_refused(clips, tmp_path):
    with pytest.raises(ValueError, match="the ground truth of 'x', has no frame"):
        join_actions(tmp_path / "x.mp4", [Piece(clips["a"], 0, 2), Piece(clips["b"], 3, 0)], "x", 1)
    with pytest.raises(ValueError, match="must number one of the 0 pieces"):
        join_actions(tmp_path / "x.mp4", [], "x", 0)


@pytest.mark.parametrize("change", [{"fps": 25.0}, {"width": W + 2}, {"height": H - 2}])
def test_clips_that_do_not_fit_together_are_refused(clips, tmp_path, change):
    other = replace(clips["b"], **change)
    with pytest.raises(ValueError, match="they cannot be joined"):
        join_actions(tmp_path / "x.mp4", [Piece(clips["a"], 0, 2), Piece(other, 0, 2)], "x", 0)


def test_a_file_that_is_not_as_its_record_says_is_refused(clips, tmp_path):
    longer = replace(clips["a"], n_frames=T + 1, boxes=(*clips["a"].boxes, None))
    with pytest.raises(ValueError, match="has 9 frames of 48 x 32 pixels, its record 10 of 48 x 32"):
        join_actions(tmp_path / "x.mp4", [Piece(longer, 2, 5)], "x", 0)
    swapped = replace(clips["a"], width=H, height=W, boxes=(None,) * T)
    with pytest.raises(ValueError, match="its record 9 of 32 x 48"):
        join_actions(tmp_path / "x.mp4", [Piece(swapped, 2, 5)], "x", 0)
