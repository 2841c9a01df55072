"""The spatial pointing game as a metric: conventions by name, averages by hand, intervals by loops."""

import math

import pytest
import torch

from captum_ext.metrics import EnergyPointingGame, RelevanceRank, SpatialPointingGame
from captum_ext.metrics.functional import spatial_pointing_chance

N, T, H, W = 1, 3, 40, 100  # all different
NONE = [math.nan] * 4


def pointing_at(*points):
    """A clip whose frame t points at (x, y)."""
    maps = torch.zeros(1, len(points), H, W)
    for frame, (x, y) in enumerate(points):
        maps[0, frame, y, x] = 1.0
    return maps


def score(points, boxes, **options):
    metric = SpatialPointingGame(**{"tolerance": 0, **options})
    metric.update(pointing_at(*points), torch.tensor([[[box] for box in boxes]]), (H, W))
    return metric.compute().item()


def test_convention_an_off_diagonal_box_is_hit_at_row_15_and_column_90():
    box = [80.0, 10.0, 100.0, 20.0]
    assert score([(90, 15)] * T, [box] * T) == 1
    assert score([(15, 39)] * T, [box] * T) == 0  # transposed, as near as the frame allows


def test_convention_a_box_at_the_right_edge_holds_the_last_column():
    assert score([(99, 5), (98, 5), (97, 5)], [[98.0, 0.0, 100.0, 40.0]] * T) == pytest.approx(2 / 3)


def test_convention_a_box_at_the_bottom_edge_holds_the_last_row():
    assert score([(5, 39), (5, 38), (5, 37)], [[0.0, 38.0, 100.0, 40.0]] * T) == pytest.approx(2 / 3)


def test_convention_boxes_are_half_open():
    box = [10.0, 20.0, 12.0, 23.0]
    assert score([(10, 20), (11, 22), (11, 21)], [box] * T) == 1
    assert score([(12, 22), (11, 23), (9, 20)], [box] * T) == 0


@pytest.mark.parametrize("frame", range(T))
def test_convention_each_frame_is_scored_with_its_own_box(frame):
    # The first and the last too: only one frame points into the box of its own time.
    points = [(50, 20)] * T
    boxes = [[0.0, 0.0, 5.0, 5.0]] * T
    boxes[frame] = [45.0, 15.0, 55.0, 25.0]
    assert score(points, boxes) == pytest.approx(1 / T)


def test_unannotated_frames_are_skipped_and_counted():
    metric = SpatialPointingGame(tolerance=7, shape="square")
    box = [80.0, 10.0, 95.0, 20.0]
    # A corner box of zeros with 7 pixels around it, which public code scores, would be hit by frame 1.
    maps = pointing_at((90, 15), (3, 3), (3, 3))
    metric.update(maps, torch.tensor([[[box], [NONE], [box]]]), (H, W))
    assert metric.compute() == 0.5
    assert metric.counts() == {"clips": 1, "frames": 2, "skipped": 1, "ambiguous": 0}
    metric.update(maps, torch.tensor([[[NONE], [NONE], [NONE]]]), (H, W))
    assert metric.compute() == 0.5
    assert metric.counts() == {"clips": 1, "frames": 2, "skipped": 4, "ambiguous": 0}


def test_ambiguous_frames_are_misses_and_counted():
    metric = SpatialPointingGame()
    maps = pointing_at((90, 15), (90, 15), (90, 15))
    maps[0, 1] = 0.3
    metric.update(maps, torch.tensor([[[[80.0, 10.0, 95.0, 20.0]]] * T]), (H, W))
    assert metric.compute().item() == pytest.approx(2 / 3)
    assert metric.counts()["ambiguous"] == 1


@pytest.mark.parametrize(
    ("name", "farthest"),
    [("bargal2018", 7), ("zhang2018", 14), ("li2021-text", 6), ("li2021-code", 7)],
)
def test_presets_reach_as_far_as_the_papers(name, farthest):
    for distance, hit in ((farthest, 1), (farthest + 1, 0)):
        metric = SpatialPointingGame.preset(name)
        metric.update(pointing_at((50 - distance, 20)), torch.tensor([[[[50.0, 15.0, 60.0, 30.0]]]]), (H, W))
        assert metric.compute() == hit
    metric = SpatialPointingGame.preset(name)
    diagonal = pointing_at((50 - farthest, 15 - farthest))
    metric.update(diagonal, torch.tensor([[[[50.0, 15.0, 60.0, 30.0]]]]), (H, W))
    assert metric.compute() == (name == "li2021-code")  # only a square has corners


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="bargal2018"):
        SpatialPointingGame.preset("bargal")


# Averages: hits and frames of each clip, with its class.

CLIPS = [(3, 3, 0), (0, 1, 0), (1, 2, 2), (2, 3, 2), (1, 3, 2)]
HIT, MISS = [45.0, 15.0, 55.0, 25.0], [0.0, 0.0, 5.0, 5.0]


def of_clips(**options):
    metric = SpatialPointingGame(tolerance=0, **options)
    for hits, frames, label in CLIPS:
        boxes = [[HIT]] * hits + [[MISS]] * (frames - hits) + [[NONE]] * (3 - frames)
        metric.update(pointing_at(*[(50, 20)] * 3), torch.tensor([boxes]), (H, W), torch.tensor([label]))
    return metric


def variance(clips):
    """Of the ratio, by a loop over its clips."""
    ratio = sum(h for h, _, _ in clips) / sum(m for _, m, _ in clips)
    residuals = sum((h - ratio * m) ** 2 for h, m, _ in clips)
    return len(clips) / (len(clips) - 1) * residuals / sum(m for _, m, _ in clips) ** 2


def test_average_over_frames_by_hand():
    summary = of_clips().summary()
    assert summary.value == pytest.approx(7 / 12)
    assert summary.n == 5
    half = 1.959964 * math.sqrt(variance(CLIPS))
    assert (summary.low, summary.high) == pytest.approx((7 / 12 - half, 7 / 12 + half), abs=1e-6)
    chance = (7 * 100 + 5 * 25) / 12 / (H * W)
    assert summary.chance == pytest.approx(chance)


def test_average_over_clips_by_hand():
    summary = of_clips(average="clips").summary()
    shares = [h / m for h, m, _ in CLIPS]
    assert summary.value == pytest.approx(sum(shares) / 5)
    deviation = torch.tensor(shares, dtype=torch.float64).std().item()
    assert summary.high - summary.value == pytest.approx(1.959964 * deviation / math.sqrt(5), abs=1e-6)
    chances = [(100 * h + 25 * (m - h)) / m / (H * W) for h, m, _ in CLIPS]
    assert summary.chance == pytest.approx(sum(chances) / 5)


def test_average_over_classes_by_hand():
    metric = of_clips(average="classes", num_classes=4)
    per_class = metric.per_class().tolist()
    assert per_class == pytest.approx([3 / 4, math.nan, 4 / 8, math.nan], nan_ok=True)
    summary = metric.summary()
    assert summary.value == pytest.approx((3 / 4 + 4 / 8) / 2)
    spread = sum(variance([clip for clip in CLIPS if clip[2] == label]) for label in (0, 2))
    half = 1.959964 * math.sqrt(spread) / 2
    assert summary.low == pytest.approx(summary.value - half, abs=1e-6)
    assert summary.high == pytest.approx(min(1, summary.value + half), abs=1e-6)


def test_a_class_of_one_clip_leaves_no_interval():
    metric = of_clips(average="classes", num_classes=4)
    metric.update(pointing_at((50, 20)), torch.tensor([[[HIT]]]), (H, W), torch.tensor([1]))
    assert math.isnan(metric.summary().low)
    assert metric.summary().value == pytest.approx((3 / 4 + 1 + 4 / 8) / 3)


def test_frames_that_agree_within_clips_give_no_false_certainty():
    once, thrice = SpatialPointingGame(), SpatialPointingGame()
    for clip in range(30):
        box = HIT if clip % 3 else MISS
        once.update(pointing_at((50, 20)), torch.tensor([[[box]]]), (H, W))
        thrice.update(pointing_at(*[(50, 20)] * 3), torch.tensor([[[box]] * 3]), (H, W))
    widths = [m.summary().high - m.summary().low for m in (once, thrice)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_all_hits_are_as_sure_as_one_vote_per_clip():
    metric = SpatialPointingGame()
    for _ in range(4):
        metric.update(pointing_at(*[(50, 20)] * 3), torch.tensor([[[HIT]] * 3]), (H, W))
    summary = metric.summary()
    assert (summary.value, summary.high) == (1, 1)
    assert summary.low == pytest.approx(4 / (4 + 1.959964**2), abs=1e-6)  # Wilson, 4 of 4


def test_random_points_reach_chance():
    generator = torch.Generator().manual_seed(3)
    boxes = torch.tensor([[[[2.0, 1.0, 6.0, 4.0]], [[5.0, 0.0, 13.0, 9.0]]]]).expand(40, -1, -1, -1)
    boxes = boxes.repeat(1, 20, 1, 1)
    metric = SpatialPointingGame(tolerance=2)
    metric.update(torch.rand(40, 40, 9, 13, generator=generator), boxes, (9, 13))
    summary = metric.summary()
    assert summary.chance == pytest.approx(spatial_pointing_chance(boxes, (9, 13), 2).mean().item())
    assert summary.value == pytest.approx(summary.chance, abs=0.05)  # 4 standard errors
    assert summary.low < summary.chance < summary.high


@pytest.mark.parametrize("metric", [SpatialPointingGame, EnergyPointingGame, RelevanceRank])
def test_averages_are_asked_for_by_name_and_classes_with_their_labels(metric):
    with pytest.raises(ValueError, match="'videos'"):
        metric(average="videos")
    with pytest.raises(ValueError, match="num_classes is needed"):
        metric(average="classes")
    with pytest.raises(ValueError, match="num_classes is needed"):
        metric(num_classes=3)
    with pytest.raises(ValueError, match="at least 1"):
        metric(average="classes", num_classes=0)
    arguments = torch.rand(1, 1, 4, 5), torch.tensor([[[[0.0, 0.0, 2.0, 2.0]]]]), (4, 5)
    by_class = metric(average="classes", num_classes=3)
    with pytest.raises(ValueError, match="needs labels"):
        by_class.update(*arguments)
    with pytest.raises(ValueError, match=r"0\.\.2"):
        by_class.update(*arguments, torch.tensor([3]))
    with pytest.raises(TypeError, match="float32"):
        by_class.update(*arguments, torch.tensor([1.0]))
    with pytest.raises(ValueError, match="per_class"):
        metric().per_class()


def test_bad_settings_are_refused_when_the_metric_is_built():
    with pytest.raises(ValueError, match="'circle'"):
        SpatialPointingGame(shape="circle")
    with pytest.raises(ValueError, match="tolerance"):
        SpatialPointingGame(tolerance=-1)
    with pytest.raises(ValueError, match="'ignore'"):
        EnergyPointingGame(negative="ignore")
