"""Groups of clips, their truth among sampled frames, and maps on disk."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.suite.batches import Groups, Item
from benchmarks.suite.clips import ActionClips, Parts, runs
from benchmarks.suite.errors import RunError
from benchmarks.suite.maps import MapError, MapFolder
from captum_ext.data import IMAGENET, ActionClip, ClipTransform, Span, generate_actions

T, H, W = 5, 6, 8


class Source:
    """Clips of one number; those in ``broken`` cannot be read."""

    def __init__(self, ids: Sequence[str], broken: Sequence[int] = ()) -> None:
        self.ids = ids
        self.broken = broken

    def item(self, index: int) -> Item:
        if index in self.broken:
            raise OSError(f"clip {index} is damaged")
        n_boxes = 1 + index % 3
        return Item(
            self.ids[index],
            torch.full((3, T, H, W), float(index)),
            index,
            torch.full((T, n_boxes, 4), float(index)),
            torch.tensor([[0, 1 + index % T]]),
            {"start": torch.tensor(10 * index)},
        )


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(1, 7))
def test_every_clip_is_in_one_group_in_order(n, size):
    groups = Groups(Source([f"c{i}" for i in range(n)]), size)
    batches = [groups[i] for i in range(len(groups))]
    assert [clip_id for batch in batches for clip_id in batch.ids] == [f"c{i}" for i in range(n)]
    assert [len(batch.ids) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert torch.cat([batch.labels for batch in batches]).tolist() == list(range(n))


def test_a_group_is_the_same_whichever_groups_are_wanted():
    source = Source([f"c{i}" for i in range(7)])
    every, some = Groups(source, 2), Groups(source, 2)
    some.numbers = [3, 1]
    for index, number in enumerate([3, 1]):
        a, b = some[index], every[number]
        assert (a.number, a.ids) == (b.number, b.ids)
        assert torch.equal(a.clips, b.clips)
        assert torch.equal(a.extra["start"], b.extra["start"])
    assert len(some[0].ids) == 1


def test_frames_with_fewer_boxes_are_padded_with_nan():
    batch = Groups(Source(["a", "b", "c"]), 3)[0]
    assert batch.boxes.shape == (3, T, 3, 4)
    assert batch.boxes.isnan().all(-1).sum(-1).tolist() == [[2] * T, [1] * T, [0] * T]


def test_broken_clips_are_named_and_the_others_stay():
    batch = Groups(Source(["a", "b", "c"], broken=[1]), 3)[0]
    assert batch.ids == ["a", "c"]
    assert batch.labels.tolist() == [0, 2]
    assert batch.broken == [("b", "OSError: clip 1 is damaged")]


def test_a_group_of_broken_clips_only_is_empty():
    batch = Groups(Source(["a", "b"], broken=[0, 1]), 2)[0]
    assert batch.ids == []
    assert [clip_id for clip_id, _ in batch.broken] == ["a", "b"]
    assert batch.to("cpu").ids == []


def test_two_clips_of_one_id_and_no_clips_are_refused():
    with pytest.raises(RunError, match="two are called 'b'"):
        Groups(Source(["a", "b", "c", "b"]), 2)
    with pytest.raises(RunError, match="no clips"):
        Groups(Source([]), 2)


def test_parts_keep_their_clips_apart():
    parts = Parts({"short": Source(["a", "b"]), "long": Source(["a"])})
    assert parts.ids == ["short:a", "short:b", "long:a"]
    assert [parts.item(i).clip_id for i in range(3)] == parts.ids
    assert [parts.item(i).label for i in range(3)] == [0, 1, 0]
    assert Groups(parts, 2)[1].ids == ["long:a"]


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_runs_are_the_spans_of_neighbouring_frames_inside(inside):
    spans = runs(torch.tensor(inside)).tolist()
    assert [any(a <= t < b for a, b in spans) for t in range(len(inside))] == inside
    assert all(a < b for a, b in spans)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))


def test_convention_frames_outside_the_clips_own_action_have_no_box(tmp_path):
    clip = generate_actions(tmp_path, 1, shapes=("disc",), n_frames=8)[0]
    spans = (Span("other", 0, 3), Span(clip.label, 3, 6), Span("other", 6, 8))
    source = ActionClips([replace(clip, spans=spans)], ClipTransform(48, *IMAGENET), 8)
    item = source.item(0)
    assert item.clip.shape == (3, 8, 48, 48)
    assert item.spans.tolist() == [[3, 6]]
    assert item.boxes.isnan().any(-1).squeeze(1).tolist() == [True] * 3 + [False] * 3 + [True] * 2
    x0, y0, x1, y1 = item.boxes[4, 0].tolist()
    assert (x0, y0, x1, y1) == pytest.approx([value * 48 / 64 for value in clip.boxes[4]])


def test_a_clip_without_a_span_of_its_own_action_is_a_broken_clip(tmp_path):
    clip = generate_actions(tmp_path, 1, shapes=("disc",), n_frames=6)[0]
    source = ActionClips([replace(clip, spans=())], ClipTransform(48, *IMAGENET), 4)
    ((clip_id, reason),) = Groups(source, 1)[0].broken
    assert clip_id == clip.video_id
    assert "none of the 4 frames shows the clip's own action, 'disc left-right'" in reason


def test_a_clip_is_decoded_once(tmp_path, monkeypatch):
    import captum_ext.data.dataset as dataset

    clip: ActionClip = generate_actions(tmp_path, 1, shapes=("disc",), n_frames=6)[0]
    read, calls = dataset.read_video, []
    monkeypatch.setattr(dataset, "read_video", lambda *a: calls.append(a) or read(*a))
    ActionClips([clip], ClipTransform(48, *IMAGENET), 6).item(0)
    assert len(calls) == 1


ODD = [
    "a/b",
    "a%2Fb",
    "..",
    ".hidden",
    "rand+GT/v_1/v_2",
    "part:clip 7",
    "ünïcôdé",
    "100%",
    "a\nb",
    "a?b*",
    "-x",
]


def test_maps_of_clips_with_odd_ids_stay_apart_and_below_their_folder(tmp_path):
    folder = MapFolder(tmp_path / "maps")
    for n, clip_id in enumerate(ODD):
        folder.save(clip_id, {"EB-R": torch.full((T, H, W), float(n + 1))})
    assert len(list((tmp_path / "maps").iterdir())) == len(ODD)
    assert [p.name for p in tmp_path.iterdir()] == ["maps"]
    for n, clip_id in enumerate(ODD):
        assert torch.equal(folder.load(clip_id, "EB-R"), torch.full((T, H, W), float(n + 1)))
    assert folder.methods() == ["EB-R"]


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e-4, 1.0, 1e9, 1e30])
def test_maps_of_any_magnitude_survive_up_to_float16(tmp_path, scale):
    folder = MapFolder(tmp_path)
    maps = torch.randn(T, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    folder.save("a", {"cEB-R": maps})
    loaded = folder.load("a", "cEB-R").double()
    assert (loaded - maps).abs().max() <= 2**-11 * maps.abs().max()
    assert torch.equal(loaded.sign(), maps.float().sign().double())
    assert loaded.flatten().argmax() == maps.flatten().argmax()


def test_scores_of_frames_come_back_bit_for_bit(tmp_path):
    probabilities = 1 - torch.tensor([3e-4, 2e-4, 1e-4, 2e-4])
    assert probabilities.argmax() == 2
    assert probabilities.half().argmax() == 1  # negative control
    MapFolder(tmp_path).save("clip", {"probability": probabilities})
    assert torch.equal(MapFolder(tmp_path).load("clip", "probability"), probabilities)


def test_plain_float16_would_lose_small_maps():
    """Negative control: this is what the stored peak is for."""
    assert torch.full((2,), 1e-9).half().max() == 0


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(T),
        torch.zeros(T, H, W),
        torch.full((T, H, W), 1e-44),
        torch.tensor([[[1.0, torch.nan, 2.0]]]),
    ],
)
def test_maps_of_nothing_stay_nothing_and_nan_stays_nan(tmp_path, values):
    folder = MapFolder(tmp_path)
    folder.save("a", {"p": values})
    loaded = folder.load("a", "p")
    if values.isnan().any():
        assert loaded.isnan().any()
    else:
        assert torch.allclose(loaded, values, rtol=0, atol=1e-40)


def test_methods_are_added_to_those_that_are_there(tmp_path):
    folder = MapFolder(tmp_path)
    folder.save("a", {"EB": torch.ones(T, H, W)})
    folder.save("a", {"BP": torch.arange(T).float()})
    folder.save("a", {"EB": torch.full((T, H, W), 2.0)})
    assert folder.methods() == ["BP", "EB"]
    assert torch.equal(folder.load("a", "EB"), torch.full((T, H, W), 2.0))
    assert folder.load("a", "BP").tolist() == [0, 1, 2, 3, 4]


def test_methods_are_those_of_all_clips(tmp_path):
    folder = MapFolder(tmp_path)
    folder.save("a", {"EB": torch.ones(T, H, W)})
    folder.save("b", {"BP": torch.ones(T, H, W), "EB": torch.ones(T, H, W)})
    assert folder.methods() == ["BP", "EB"]


def test_missing_and_damaged_maps_are_named(tmp_path):
    folder = MapFolder(tmp_path)
    with pytest.raises(MapError, match="no saved maps"):
        folder.methods()
    folder.save("a", {"EB": torch.ones(T)})
    with pytest.raises(MapError, match=r"no map of 'BP', only \['EB'\]"):
        folder.load("a", "BP")
    with pytest.raises(MapError, match="no maps of clip 'b'"):
        folder.load("b", "EB")
    file = tmp_path / "a.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(MapError, match=r"a\.safetensors holds no maps"):
        folder.load("a", "EB")
    with pytest.raises(MapError, match=r"a\.safetensors holds no maps"):
        folder.methods()
    with pytest.raises(MapError, match=r"a\.safetensors"):
        folder.save("a", {"BP": torch.ones(T)})
    (tmp_path / "file").write_text("")
    with pytest.raises(MapError, match="cannot be written"):
        MapFolder(tmp_path / "file").save("a", {"EB": torch.ones(T)})
