"""Synthetic actions: boxes hold the shape, the seed decides everything, nothing gives the class away."""

import colorsys
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_ext.data import (
    DISTRACTORS,
    MOTIONS,
    SHAPES,
    SyntheticActions,
    generate_actions,
    load_manifest,
    read_video,
)
from captum_ext.data.shapes import coverage

H, W, T = 48, 64, 10
SMALL = SyntheticActions(size=(H, W), n_frames=T)


@pytest.mark.parametrize("index", range(12))
def test_boxes_hold_the_shape_and_are_tight_to_a_pixel(index: int) -> None:
    actions = SyntheticActions(
        size=(H, W), n_frames=T, motions=("left-right", "up-down", "diagonal", "circle")
    )
    clip = actions.render(index)
    without = actions.render(index, with_object=False)
    assert clip.frames.shape == (T, 3, H, W)
    assert clip.frames.dtype == torch.uint8
    assert without.boxes == clip.boxes
    changed = (clip.frames.int() - without.frames.int()).abs().amax(dim=1) > 0
    for t, (x0, y0, x1, y1) in enumerate(clip.boxes):
        ys, xs = torch.nonzero(changed[t], as_tuple=True)
        assert 0 <= x0 < x1 <= W
        assert 0 <= y0 < y1 <= H
        assert int(xs.min()) == pytest.approx(x0, abs=1)
        assert int(xs.max()) + 1 == pytest.approx(x1, abs=1)
        # A triangle's apex covers so little of its topmost pixel that rounding may lose it.
        assert int(ys.min()) == pytest.approx(y0, abs=1.6)
        assert int(ys.max()) + 1 == pytest.approx(y1, abs=1)


def test_boxes_hold_the_shape_in_the_decoded_file_too(tmp_path: Path) -> None:
    (clip, *_) = generate_actions(tmp_path, 1, size=(H, W), n_frames=T, shapes=("square",))
    frames = read_video(clip.path, None).frames.float()
    saturation = frames.amax(dim=1) - frames.amin(dim=1)
    for t, (x0, y0, x1, y1) in enumerate(clip.boxes):
        inside = torch.zeros(H, W, dtype=torch.bool)
        inside[round(y0) + 1 : round(y1) - 1, round(x0) + 1 : round(x1) - 1] = True
        assert saturation[t][inside].mean() > 2 * saturation[t][~inside].mean()


def test_a_clip_depends_only_on_the_settings_and_its_index() -> None:
    again = SyntheticActions(size=(H, W), n_frames=T)
    again.render(0)
    assert torch.equal(SMALL.render(7).frames, again.render(7).frames)


@pytest.mark.parametrize("other", [{"seed": 1}, {"split": "test"}])
def test_another_seed_or_split_gives_other_clips(other: dict[str, object]) -> None:
    different = SyntheticActions(size=(H, W), n_frames=T, **other)  # type: ignore[arg-type]
    assert not torch.equal(SMALL.render(7).frames, different.render(7).frames)
    assert SMALL.render(7).boxes != different.render(7).boxes


def test_a_larger_set_begins_with_the_smaller_one(tmp_path: Path) -> None:
    few = generate_actions(tmp_path / "few", 1, size=(H, W), n_frames=T)
    many = generate_actions(tmp_path / "many", 2, size=(H, W), n_frames=T)
    for a, b in zip(few, many, strict=False):
        assert a.boxes == b.boxes
        assert Path(a.path).read_bytes() == Path(b.path).read_bytes()


def test_labels_are_shape_and_motion_and_balanced(tmp_path: Path) -> None:
    clips = generate_actions(tmp_path, 3, size=(H, W), n_frames=2)
    assert len(SMALL.labels) == 6
    assert Counter(clip.label for clip in clips) == dict.fromkeys(SMALL.labels, 3)
    assert all(SMALL.labels[clip.label_index] == clip.label for clip in clips)


def centres(index: int, actions: SyntheticActions) -> np.ndarray:
    return np.array([((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in actions.render(index).boxes])


@pytest.mark.parametrize("half", [slice(0, 8), slice(8, 16)])
def test_half_of_a_clip_still_shows_the_motion(half: slice) -> None:
    actions = SyntheticActions(size=(H, W))
    for index in range(12):
        x, y = np.ptp(centres(index, actions)[half], axis=0)
        if "left-right" in actions.render(index).label:
            assert x > 10
            assert y == pytest.approx(0)
        else:
            assert y > 10
            assert x == pytest.approx(0)


def test_one_frame_does_not_tell_left_right_from_up_down() -> None:
    actions = SyntheticActions(shapes=("disc",), n_frames=1)
    where = np.array([actions.render(index).boxes[0][:2] for index in range(400)]) / 64
    for axis in (0, 1):  # the same uniform distribution of positions in both classes
        sideways, upright = np.sort(where[0::2, axis]), np.sort(where[1::2, axis])
        assert np.abs(sideways - upright).max() < 0.1
    x_motion = np.array([np.ptp(centres(index, SMALL)[:, 0]) for index in range(12)])
    assert (x_motion[0::2] > 10).all()  # while over time the classes do differ
    assert (x_motion[1::2] < 1).all()


def test_colour_and_size_do_not_tell_the_class() -> None:
    stills = SyntheticActions(size=(H, W), n_frames=1)
    widths, hues = np.zeros((20, 6)), np.zeros((20, 6))
    for index in range(120):
        clip = stills.render(index)
        x0, y0, x1, y1 = clip.boxes[0]
        widths.flat[index] = x1 - x0
        r, g, b = clip.frames[0, :, round((y0 + y1) / 2), round((x0 + x1) / 2)].tolist()
        hues.flat[index] = colorsys.rgb_to_hsv(r, g, b)[0]
    assert np.ptp(widths.mean(axis=0)) < 0.1 * widths.mean()
    assert (np.ptp(hues, axis=0) > 0.7).all()  # every class comes in nearly every hue


def test_distractors_have_no_class_shape_and_are_always_there() -> None:
    assert not set(DISTRACTORS) & set(SHAPES)
    for index in range(6):
        bright = SMALL.render(index, with_object=False).frames.float().mean(dim=1).amax(dim=(1, 2))
        assert bright.min() > 130  # the background alone stays darker
        assert SMALL._background(np.random.default_rng(index)).mean(axis=3).max() * 255 < 165


def test_the_background_differs_between_clips() -> None:
    a, b = (SMALL.render(index, with_object=False).frames.float() for index in (0, 6))
    assert (a - b).abs().mean() > 5


@pytest.mark.parametrize("shape", [*SHAPES, *DISTRACTORS])
def test_shapes_fill_their_bounding_box(shape: str) -> None:
    cover = coverage(shape, (31.5, 20.0), 12.0, (H, W))
    assert cover.shape == (H, W)
    ys, xs = np.nonzero(cover)
    assert (xs.min(), xs.max() + 1) == pytest.approx((19.5, 43.5), abs=0.6)
    assert (ys.min(), ys.max() + 1) == pytest.approx((8, 32), abs=0.6)
    assert cover[0, 0] == 0


@pytest.mark.parametrize(("shape", "area"), [("square", 4), ("disc", np.pi), ("triangle", 2)])
def test_shapes_have_the_area_of_their_formula(shape: str, area: float) -> None:
    assert coverage(shape, (31.3, 20.7), 12.0, (H, W)).sum() == pytest.approx(area * 144, rel=0.02)


def test_convention_centres_are_x_then_y() -> None:
    cover = coverage("disc", (50.0, 10.0), 4.0, (H, W))
    assert cover[10, 50] == 1
    assert cover[40, 10] == 0


class TestManifest:
    def test_it_comes_back_as_it_was(self, tmp_path: Path) -> None:
        clips = generate_actions(
            tmp_path, 1, split="test", size=(H, W), n_frames=T, fps=5, motions=MOTIONS[2:]
        )
        assert load_manifest(tmp_path / "test.json") == clips
        assert all(Path(clip.path).is_file() for clip in clips)
        assert (clips[0].height, clips[0].width, clips[0].n_frames, clips[0].fps) == (H, W, T, 5)

    def test_the_folder_can_be_moved(self, tmp_path: Path) -> None:
        generate_actions(tmp_path / "old", 1, size=(H, W), n_frames=2)
        (tmp_path / "old").rename(tmp_path / "new")
        clip = load_manifest(tmp_path / "new" / "train.json")[0]
        assert read_video(clip.path, None).frames.shape == (2, 3, H, W)

    def test_splits_share_a_folder(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            generate_actions(tmp_path, 1, split=split, size=(H, W), n_frames=2)
        assert load_manifest(tmp_path / "train.json")[0].video_id == "train_00000"
        assert load_manifest(tmp_path / "test.json")[0].video_id == "test_00000"

    def test_a_stopped_run_leaves_no_manifest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        generate_actions(tmp_path, 1, size=(H, W), n_frames=2)

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("captum_ext.data.synthetic.write_video", stop)
        with pytest.raises(KeyboardInterrupt):
            generate_actions(tmp_path, 1, size=(H, W), n_frames=3)
        assert not (tmp_path / "train.json").exists()

    @pytest.mark.parametrize("text", ["", "[]", '{"format": "other", "clips": []}', '{"clips": [{}]}'])
    def test_other_files_are_refused_by_name(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "odd.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"odd\.json is not a manifest"):
            load_manifest(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"boxes": []}, "0 boxes for 2 frames"),
            ({"boxes": [[1, 2, 65, 4], None]}, r"frame 0: box .* outside 64 x 48"),
            ({"spans": [["a", 1, 3]]}, "outside 2 frames"),
            ({"extra": 1}, "extra"),
        ],
    )
    def test_records_that_contradict_themselves_are_refused(
        self, tmp_path: Path, change: dict[str, object], message: str
    ) -> None:
        generate_actions(tmp_path, 1, size=(H, W), n_frames=2)
        content = json.loads((tmp_path / "train.json").read_text())
        content["clips"][0].update(change)
        (tmp_path / "train.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            load_manifest(tmp_path / "train.json")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shapes": ("cross",)}, r"shapes must be .* not \('cross',\)"),
        ({"shapes": ()}, "shapes"),
        ({"motions": ("circle", "circle")}, "motions must be one or more different"),
        ({"size": (48, 63)}, "even"),
        ({"size": 16}, "at least 32"),
        ({"n_frames": 0}, "n_frames=0"),
        ({"fps": 0.0}, r"fps=0\.0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticActions(**settings)  # type: ignore[arg-type]


def test_senseless_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="n_per_class"):
        generate_actions(tmp_path, 0)
    with pytest.raises(ValueError, match="split"):
        generate_actions(tmp_path, 1, split="a/b")
