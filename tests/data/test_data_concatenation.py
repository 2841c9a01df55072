"""rand+GT, GT+rand, rand+GT+rand: whose frames are where, and that the files agree with the manifest."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_ext.data import (
    IMAGENET,
    ActionClip,
    ClipDataset,
    ClipTransform,
    Span,
    concatenate_actions,
    generate_actions,
    load_manifest,
    read_video,
    write_video,
)
from captum_ext.data.concatenation import _draw_partner

H, W, T = 48, 64, 12
LEVELS = {"a": 60, "b": 140, "c": 220}


def flat_clip(folder: Path, label: str, number: int, size: tuple[int, int] = (H, W)) -> ActionClip:
    """A clip of one grey level per label, whose box moves one pixel per frame: a frame tells its origin."""
    video_id = f"{label}{number}"
    path = folder / f"{video_id}.mp4"
    write_video(path, torch.full((T, 3, *size), LEVELS[label], dtype=torch.uint8), fps=8)
    return ActionClip(
        video_id=video_id,
        path=str(path),
        label=label,
        label_index=list(LEVELS).index(label),
        fps=8.0,
        n_frames=T,
        width=size[1],
        height=size[0],
        boxes=tuple((float(t), 5.0, t + 10.0, 20.0) for t in range(T)),
        spans=(Span(label, 0, T),),
    )


@pytest.fixture
def clips(tmp_path: Path) -> list[ActionClip]:
    return [flat_clip(tmp_path, label, number) for number in (0, 1) for label in LEVELS]


def labels_of_frames(clip: ActionClip) -> list[str]:
    """What the pixels of the written file say."""
    levels = read_video(clip.path, None).frames.float().mean(dim=(1, 2, 3))
    return [min(LEVELS, key=lambda label: abs(LEVELS[label] - level)) for level in levels.tolist()]


def labels_of_spans(clip: ActionClip) -> list[str]:
    return [span.label for span in clip.spans for _ in range(span.start_frame, span.end_frame)]


@pytest.mark.parametrize(
    ("pattern", "gt_frames"), [("rand+GT", None), ("GT+rand", None), ("rand+GT", 5), ("rand+GT+rand", 5)]
)
def test_spans_say_what_the_pixels_show(
    clips: list[ActionClip], tmp_path: Path, pattern: str, gt_frames: int | None
) -> None:
    results = concatenate_actions(clips, tmp_path / "out", pattern, n_frames=16, gt_frames=gt_frames)
    assert [clip.label for clip in results] == [clip.label for clip in clips]
    for clip in results:
        shown = labels_of_frames(clip)
        assert shown == labels_of_spans(clip)
        assert len(shown) == clip.n_frames == 16
        assert shown.count(clip.label) == (gt_frames or 8)
        assert len(set(shown)) == 2
        assert shown != shown[::-1] or pattern == "rand+GT+rand"


@pytest.mark.parametrize(("pattern", "gt_span"), [("rand+GT", (8, 16)), ("GT+rand", (0, 8))])
def test_the_boundary_is_the_midpoint(
    clips: list[ActionClip], tmp_path: Path, pattern: str, gt_span: tuple[int, int]
) -> None:
    for clip in concatenate_actions(clips, tmp_path, pattern):
        (truth,) = [span for span in clip.spans if span.label == clip.label]
        assert truth[1:] == gt_span


def test_both_sources_are_sampled_over_their_whole_length_with_their_boxes(
    clips: list[ActionClip], tmp_path: Path
) -> None:
    six_of_twelve = [1, 3, 5, 7, 9, 11]
    clip = concatenate_actions(clips, tmp_path, "rand+GT", n_frames=12)[0]
    assert [box and box[0] for box in clip.boxes] == [float(t) for t in six_of_twelve * 2]


def test_an_inserted_action_interrupts_one_partner_that_then_goes_on(
    clips: list[ActionClip], tmp_path: Path
) -> None:
    results = concatenate_actions(clips * 2, tmp_path, "rand+GT+rand", n_frames=17, gt_frames=5)
    offsets = set()
    for clip in results:
        (truth,) = [span for span in clip.spans if span.label == clip.label]
        offsets.add(truth.start_frame)
        partner = clip.boxes[: truth.start_frame] + clip.boxes[truth.end_frame :]
        assert [box and box[0] for box in partner] == [float(t) for t in range(12)]
    assert len(offsets) > 5
    assert min(offsets) >= 0
    assert max(offsets) <= 12


def test_partners_vary_and_never_share_the_label(clips: list[ActionClip], tmp_path: Path) -> None:
    for clip in concatenate_actions(clips, tmp_path, "rand+GT"):
        assert clip.spans[0].label != clip.label == clip.spans[1].label
    generator = np.random.default_rng(0)
    drawn = Counter(_draw_partner(clips, clips[1], generator).video_id for _ in range(400))
    assert drawn.keys() == {"a0", "a1", "c0", "c1"}
    assert min(drawn.values()) > 70


def test_the_seed_decides_partners_and_offsets(clips: list[ActionClip], tmp_path: Path) -> None:
    def run(name: str, seed: int) -> list[tuple[str, tuple[Span, ...]]]:
        results = concatenate_actions(clips, tmp_path / name, "rand+GT+rand", 16, gt_frames=5, seed=seed)
        return [(clip.video_id, clip.spans) for clip in results]

    assert run("a", 3) == run("b", 3)
    assert run("a", 3) != run("c", 4)


def test_the_manifest_comes_back(clips: list[ActionClip], tmp_path: Path) -> None:
    out = tmp_path / "out"
    results = concatenate_actions(clips, out, "rand+GT+rand", n_frames=16, gt_frames=5)
    assert load_manifest(out / "rand-GT-rand_5of16.json") == results


def test_a_partner_of_another_size_is_fitted_with_its_boxes(tmp_path: Path) -> None:
    large = flat_clip(tmp_path, "a", 0, size=(2 * H, 2 * W + 40))
    small = flat_clip(tmp_path, "b", 0)
    clip = concatenate_actions([small, large], tmp_path / "out", "GT+rand", n_frames=2 * T)[0]
    assert (clip.height, clip.width) == (H, W)
    assert read_video(clip.path, None).frames.shape == (2 * T, 3, H, W)
    assert clip.boxes[0] == (0.0, 5.0, 10.0, 20.0)
    assert clip.boxes[T] is None  # x 0 to 10 of 168 is cut away: the crop begins at 20
    assert clip.boxes[2 * T - 1] == (0.0, 2.5, 0.5, 10.0)  # x 11 to 21


def test_a_record_that_contradicts_its_file_is_refused(clips: list[ActionClip], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a0\.mp4 .* its record says 12 of \(50, 64\)"):
        concatenate_actions([replace(clips[0], height=50), clips[1]], tmp_path, "rand+GT")
    shorter = replace(clips[0], n_frames=4, boxes=clips[0].boxes[:4], spans=(Span("a", 0, 4),))
    with pytest.raises(ValueError, match=r"a0\.mp4 .* its record says 4 of"):
        concatenate_actions([shorter, clips[1]], tmp_path, "rand+GT")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "GT"}, "pattern must be one of"),
        ({"pattern": "rand+GT", "n_frames": 15}, "no midpoint"),
        ({"pattern": "rand+GT+rand"}, "gt_frames is required"),
        ({"pattern": "rand+GT", "gt_frames": 16}, "below n_frames=16"),
        ({"pattern": "rand+GT", "gt_frames": 0}, "at least 1"),
    ],
)
def test_senseless_requests_are_refused(
    clips: list[ActionClip], tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        concatenate_actions(clips, tmp_path, **arguments)  # type: ignore[arg-type]


def test_one_label_alone_has_no_partner(clips: list[ActionClip], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'a0' has no partner: every clip is labelled 'a'"):
        concatenate_actions([clips[0], clips[3]], tmp_path, "rand+GT")


class TestDataset:
    @pytest.fixture
    def actions(self, tmp_path: Path) -> list[ActionClip]:
        return generate_actions(tmp_path, 1, size=(H, W), n_frames=T)

    @pytest.mark.parametrize("cache", [False, True])
    def test_items_are_inputs_and_labels(self, actions: list[ActionClip], cache: bool) -> None:
        transform = ClipTransform((40, 36), *IMAGENET)
        dataset = ClipDataset(actions, transform, n_frames=6, cache=cache)
        assert len(dataset) == 6
        for _ in range(2):
            clip, label = dataset[4]
            assert clip.shape == (3, 6, 40, 36)
            assert clip.dtype == torch.float32
            assert label == actions[4].label_index == 4
            assert torch.equal(clip, transform(read_video(actions[4].path, 6).frames))

    def test_a_cached_clip_needs_its_file_only_once(self, actions: list[ActionClip]) -> None:
        cached, uncached = (
            ClipDataset(actions, ClipTransform(40, *IMAGENET), n_frames=6, cache=cache)
            for cache in (True, False)
        )
        before, _ = cached[0]
        Path(actions[0].path).unlink()
        assert torch.equal(cached[0][0], before)
        with pytest.raises(FileNotFoundError):
            uncached[0]

    def test_boxes_belong_to_the_sampled_frames_and_the_crop(self, actions: list[ActionClip]) -> None:
        dataset = ClipDataset(actions, ClipTransform((H // 2, W // 2), *IMAGENET), n_frames=6)
        halved = [tuple(v / 2 for v in actions[1].boxes[t] or ()) for t in (1, 3, 5, 7, 9, 11)]
        np.testing.assert_allclose(np.array(dataset.boxes(1)), np.array(halved))
        assert dataset.frames(1).shape == (6, 3, H // 2, W // 2)

    def test_a_loader_batches_it(self, actions: list[ActionClip]) -> None:
        dataset = ClipDataset(actions, ClipTransform(40, *IMAGENET), n_frames=5)
        clips, labels = next(iter(torch.utils.data.DataLoader(dataset, batch_size=4)))
        assert clips.shape == (4, 3, 5, 40, 40)
        assert labels.tolist() == [0, 1, 2, 3]

    def test_nothing_to_read_is_refused(self, actions: list[ActionClip]) -> None:
        with pytest.raises(ValueError, match="at least one clip"):
            ClipDataset([], ClipTransform(40, *IMAGENET))
        with pytest.raises(ValueError, match="n_frames"):
            ClipDataset(actions, ClipTransform(40, *IMAGENET), n_frames=0)
