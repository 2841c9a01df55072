"""Synthetic captioned clips: what the caption says is what is shown, where the boxes say."""

import json

import pytest
import torch

from captum_ext.data import (
    CaptionedClip,
    GroundedWord,
    SyntheticCaptions,
    generate_captions,
    load_captions,
    read_video,
    save_captions,
)

WIDE = {"size": (48, 64), "n_frames": 10}


def painted(frames):
    """Pixels that no background reaches: their brightest channel is above 0.6."""
    return frames.amax(1) > 153


def inside(boxes, size):
    mask = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for plane, (x0, y0, x1, y1) in zip(mask, boxes, strict=True):
        plane[int(y0) : int(-(-y1 // 1)), int(x0) : int(-(-x1 // 1))] = True
    return mask


@pytest.mark.parametrize("index", range(12))
def test_the_boxes_hold_all_that_is_painted_and_touch_it_on_every_side(index):
    clip = SyntheticCaptions(**WIDE).render(index)
    shown = painted(clip.frames)
    own = {word.kind: inside(word.boxes, (48, 64)) for word in clip.words}
    assert not (shown & ~own["subject"] & ~own["object"]).any()
    for kind in ("subject", "object"):
        for t, (x0, y0, x1, y1) in enumerate(next(w for w in clip.words if w.kind == kind).boxes):
            rows, columns = torch.where(shown[t] & own[kind][t])
            found = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
            assert all(abs(a - b) <= 1.5 for a, b in zip(found, (x0, y0, x1, y1), strict=True))


@pytest.mark.parametrize("motion", ["left-right", "up-down", "diagonal"])
@pytest.mark.parametrize("size", [32, (32, 96), (96, 64)])
def test_the_two_objects_never_meet_and_stay_in_the_frame(size, motion):
    synthetic = SyntheticCaptions(motions=(motion,), size=size, n_frames=24)
    H, W = synthetic.frame_size
    for index in range(6):
        subject, _, still = synthetic.render(index).words
        for a, b in zip(subject.boxes, still.boxes, strict=True):
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert all(0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H for x0, y0, x1, y1 in (a, b))


def test_words_stand_where_the_caption_has_them():
    synthetic = SyntheticCaptions()
    for index in range(len(synthetic.captions)):
        clip = synthetic.render(index)
        assert clip.caption == synthetic.captions[index]
        said = clip.caption.split()
        words = {word.kind: said[word.step] for word in clip.words}
        assert words["subject"] in synthetic.subjects
        assert words["motion"] in synthetic.motions
        assert words["object"] in synthetic.objects
    assert len(set(synthetic.captions)) == 12


def test_the_subject_moves_as_it_is_said_and_the_object_stands():
    for index in range(12):
        subject, motion, still = SyntheticCaptions().render(index).words
        assert motion.boxes == subject.boxes
        assert len(set(still.boxes)) == 1
        x0, y0 = ({box[axis] for box in subject.boxes} for axis in (0, 1))
        spread = max(x0) - min(x0), max(y0) - min(y0)
        assert min(spread) < 1e-9 < 5 < max(spread)
        assert ("left-right" in SyntheticCaptions().captions[index]) == (spread[0] > spread[1])


@pytest.mark.parametrize("without", ["subject", "object"])
def test_a_shape_can_be_left_out_and_nothing_else(without):
    synthetic = SyntheticCaptions(**WIDE)
    whole, rest = synthetic.render(5), synthetic.render(5, without)
    assert rest.words == whole.words
    own = {word.kind: inside(word.boxes, (48, 64)) for word in whole.words}
    changed = (whole.frames != rest.frames).any(1)
    assert changed.any()
    assert not (changed & ~own[without]).any()
    with pytest.raises(ValueError, match="without must be"):
        synthetic.render(5, "motion")


def test_a_clip_depends_on_its_settings_and_number_only():
    first, again = SyntheticCaptions().render(7), SyntheticCaptions().render(7)
    assert torch.equal(first.frames, again.frames)
    assert first.words == again.words
    for other in (SyntheticCaptions(seed=1), SyntheticCaptions(split="test")):
        assert not torch.equal(first.frames, other.render(7).frames)
    assert not torch.equal(first.frames, SyntheticCaptions().render(19).frames)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subjects": ("ring",)}, "subjects"),
        ({"objects": ("disc",)}, "objects"),
        ({"motions": ("circle",)}, "motions"),
        ({"motions": ()}, "motions"),
        ({"size": 33}, "size"),
        ({"n_frames": 0}, "n_frames"),
        ({"fps": 0.0}, "fps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SyntheticCaptions(**settings)


def test_clips_are_stored_and_found_again(tmp_path):
    pytest.importorskip("av")
    written = generate_captions(tmp_path / "clips", 3, split="held-out", seed=5, **WIDE)
    (tmp_path / "clips").rename(tmp_path / "moved")
    clips = load_captions(tmp_path / "moved" / "held-out.json")
    for index, (before, clip) in enumerate(zip(written, clips, strict=True)):
        assert (clip.caption, clip.words) == (before.caption, before.words)
        rendered = SyntheticCaptions(seed=5, split="held-out", **WIDE).render(index)
        assert clip.words == rendered.words
        frames = read_video(clip.path, n_frames=None).frames
        assert frames.shape == (10, 3, 48, 64)
        assert (frames.float() - rendered.frames.float()).abs().mean() < 6


def test_a_file_that_is_no_manifest_is_named(tmp_path):
    path = tmp_path / "x.json"
    for text in ("{", "[]", json.dumps({"format": "captum_ext clips 1", "clips": []}), '{"format": 1}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"x\.json is not a manifest of captioned clips"):
            load_captions(path)
    with pytest.raises(FileNotFoundError):
        load_captions(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError):
        save_captions(tmp_path / "none" / "x.json", [])


def test_words_that_do_not_fit_their_clip_are_refused():
    box = (0.0, 0.0, 4.0, 4.0)

    def clip(step, n_boxes):
        word = GroundedWord("subject", step, (box,) * n_boxes)
        return CaptionedClip("a", "a.mp4", "a disc", 8.0, 2, 8, 8, (word,))

    assert clip(1, 2).words[0].step == 1
    with pytest.raises(ValueError, match="3 boxes of the subject for 2 frames"):
        clip(1, 3)
    with pytest.raises(ValueError, match="word 2 of 'a disc'"):
        clip(2, 2)


@pytest.mark.parametrize(("n", "split", "message"), [(0, "test", "n_clips"), (1, "a/b", "split")])
def test_bad_calls_write_nothing(tmp_path, n, split, message):
    with pytest.raises(ValueError, match=message):
        generate_captions(tmp_path / "clips", n, split=split)
    assert not (tmp_path / "clips").exists()
