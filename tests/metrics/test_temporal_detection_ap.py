"""Detection AP under three protocols: by hand, against slow re-implementations, and against each other."""

import math
from fractions import Fraction

import pytest
import torch
from cases_grounding import DETECTIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.metrics import TemporalDetectionAP
from captum_ext.metrics.functional import temporal_average_precision, temporal_nms
from captum_ext.metrics.functional.temporal_average_precision import detection_tables, match_detections

PROTOCOLS = ("activitynet", "thumos14", "thumos14-2014")


def video(segments, scores=None, labels=None, ambiguous=None):
    entry = {
        "segments": torch.tensor(segments, dtype=torch.float64).view(-1, 2),
        "labels": torch.tensor(labels or [0] * len(segments), dtype=torch.int64),
    }
    if scores is not None:
        entry["scores"] = torch.tensor(scores, dtype=torch.float64)
    if ambiguous is not None:
        entry["ambiguous"] = torch.tensor(ambiguous, dtype=torch.float64).view(-1, 2)
    return entry


def ap(preds, target, protocol, threshold=0.5):
    return temporal_average_precision([preds], [target], 1, protocol, [threshold]).item()


# By hand


@pytest.mark.parametrize(
    ("protocol", "value"), [("activitynet", 1.0), ("thumos14", 0.0), ("thumos14-2014", 0.0)]
)
def test_an_iou_equal_to_the_threshold_counts_in_activitynet_only(protocol, value):
    preds = video([[0, 5]], [0.9])
    assert ap(preds, video([[0, 10]]), protocol) == value
    assert ap(preds, video([[0, 9]]), protocol) == 1
    assert ap(preds, video([[0, 11]]), protocol) == 0


def test_a_confident_duplicate_costs_precision_in_thumos_and_none_in_activitynet():
    # The duplicate overlaps less and scores higher than the other one.
    preds, target = video([[0, 8], [0, 10]], [0.9, 0.5]), video([[0, 10]])
    assert ap(preds, target, "activitynet") == 1.0  # the first takes the truth, the second is wrong below it
    assert ap(preds, target, "thumos14") == 0.5  # the second is right, below a wrong one
    assert ap(preds, target, "thumos14-2014") == 0.5


def test_a_duplicate_may_take_the_second_best_truth_in_activitynet():
    preds, target = video([[0, 10], [0, 10]], [0.9, 0.8]), video([[0, 10], [2, 10]])
    assert ap(preds, target, "activitynet", 0.7) == 1.0


def test_the_three_ways_to_average_precision():
    # Right, wrong, right, wrong, wrong, right of 4 truths: precisions 1, 2/3, 1/2 at recalls 1/4, 1/2, 3/4.
    segments = [[0, 1], [50, 51], [10, 11], [52, 53], [54, 55], [20, 21]]
    preds = video(segments, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    target = video([[0, 1], [10, 11], [20, 21], [30, 31]])
    plain = (1 + 2 / 3 + 1 / 2) / 4
    assert ap(preds, target, "thumos14") == pytest.approx(plain)
    assert ap(preds, target, "activitynet") == pytest.approx(
        plain
    )  # already falling: the envelope is the same
    eleven = (3 * 1 + 3 * 2 / 3 + 2 * 1 / 2) / 11  # recalls 0 to 0.2, 0.3 to 0.5, 0.6 and 0.7
    assert ap(preds, target, "thumos14-2014") == pytest.approx(eleven)


def test_the_envelope_is_what_sets_activitynets_area_apart():
    # Wrong, right, right: precisions 1/2, 2/3.
    preds, target = video([[50, 51], [0, 1], [10, 11]], [0.9, 0.8, 0.7]), video([[0, 1], [10, 11]])
    assert ap(preds, target, "thumos14") == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert ap(preds, target, "activitynet") == pytest.approx(2 / 3)
    assert ap(preds, target, "thumos14-2014") == pytest.approx(2 / 3)


def test_ambiguous_intervals_forgive_in_thumos_only():
    preds = video([[20, 24], [0, 10]], [0.9, 0.5])
    plain, forgiving = video([[0, 10]]), video([[0, 10]], ambiguous=[[23, 30]])
    touching = video([[0, 10]], ambiguous=[[24, 30]])  # half-open: they share no time
    for protocol, forgiven in zip(PROTOCOLS, (0.5, 1.0, 1.0), strict=True):
        assert ap(preds, plain, protocol) == 0.5
        assert ap(preds, forgiving, protocol) == forgiven
        assert ap(preds, touching, protocol) == 0.5


def test_a_right_detection_in_an_ambiguous_interval_stays_right():
    for protocol in PROTOCOLS:
        assert ap(video([[0, 10]], [0.9]), video([[0, 10]], ambiguous=[[0, 10]]), protocol) == 1


def test_equal_scores_keep_the_order_in_which_they_are_given():
    wrong, right = [50, 51], [0, 1]
    for protocol in PROTOCOLS:
        assert ap(video([right, wrong], [0.5, 0.5]), video([right]), protocol) == 1
        assert ap(video([wrong, right], [0.5, 0.5]), video([right]), protocol) == 0.5


def test_a_class_that_is_not_detected_has_0_and_one_that_does_not_occur_has_nan():
    preds = [video([[0, 1], [5, 6]], [0.9, 0.8], [0, 2])]
    for protocol in PROTOCOLS:
        found = temporal_average_precision(
            preds, [video([[0, 1], [3, 4]], labels=[0, 1])], 3, protocol, [0.5]
        )
        assert found[0, :2].tolist() == [1.0, 0.0]
        assert found[0, 2].isnan()


def test_detections_of_another_video_or_class_are_wrong():
    target = [video([[0, 1]]), video([[5, 6]])]
    preds = [video([[5, 6]], [0.9]), video([[0, 1]], [0.8])]
    for protocol in PROTOCOLS:
        assert temporal_average_precision(preds, target, 1, protocol, [0.5]).item() == 0


def test_default_thresholds_are_the_published_ones():
    assert TemporalDetectionAP(1).thresholds == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert TemporalDetectionAP(1, "thumos14").thresholds == (0.5,)
    assert TemporalDetectionAP(1, "thumos14-2014").thresholds == (0.1, 0.2, 0.3, 0.4, 0.5)


# Against slow re-implementations, in fractions


def exact_iou(a, b):
    overlap = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return Fraction(overlap, (a[1] - a[0]) + (b[1] - b[0]) - overlap)


def slow_flags_activitynet(found, truths, threshold):
    """The loop of the official code: candidates by falling IoU, until one is too small or free."""
    locked, flags = set(), []
    for _, number, segment in found:
        mine = [i for i, (v, _) in enumerate(truths) if v == number]
        mine.sort(key=lambda i, segment=segment: -exact_iou(segment, truths[i][1]))
        flag = False
        for i in mine:
            if exact_iou(segment, truths[i][1]) < threshold:
                break
            if i in locked:
                continue
            locked.add(i)
            flag = True
            break
        flags.append(flag)
    return flags


def slow_flags_thumos(found, truths, ambiguous, threshold):
    flags = [None] * len(found)
    for number, truth in truths:
        best, best_iou = None, threshold
        for i, (_, v, segment) in enumerate(found):
            if v == number and flags[i] is None and exact_iou(segment, truth) > best_iou:
                best, best_iou = i, exact_iou(segment, truth)
        if best is not None:
            flags[best] = True
    kept = []
    for flag, (_, v, segment) in zip(flags, found, strict=True):
        forgiven = any(v == number and exact_iou(segment, interval) > 0 for number, interval in ambiguous)
        if flag or not forgiven:
            kept.append(bool(flag))
    return kept


def slow_ap(flags, n_truths, protocol):
    points, hits = [], 0
    for rank, flag in enumerate(flags, start=1):
        hits += flag
        points.append((Fraction(hits, n_truths), Fraction(hits, rank)))
    if protocol == "thumos14":
        return sum((p for (_, p), flag in zip(points, flags, strict=True) if flag), Fraction(0)) / n_truths
    if protocol == "thumos14-2014":
        levels = [Fraction(k, 10) for k in range(11)]
        return sum(max((p for r, p in points if r >= level), default=Fraction(0)) for level in levels) / 11
    recalls = [Fraction(0), *(r for r, _ in points), Fraction(1)]
    precisions = [Fraction(0), *(p for _, p in points), Fraction(0)]
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    return sum(((recalls[i] - recalls[i - 1]) * precisions[i] for i in range(1, len(recalls))), Fraction(0))


def slow_average_precision(preds, target, label, protocol, threshold):
    found = [
        (score, number, tuple(map(int, segment)))
        for number, entry in enumerate(preds)
        for segment, score, its in zip(
            *(entry[k].tolist() for k in ("segments", "scores", "labels")), strict=True
        )
        if its == label
    ]
    found.sort(key=lambda d: -d[0])
    truths = [
        (number, tuple(map(int, segment)))
        for number, entry in enumerate(target)
        for segment, its in zip(entry["segments"].tolist(), entry["labels"].tolist(), strict=True)
        if its == label
    ]
    ambiguous = [
        (number, tuple(map(int, segment)))
        for number, entry in enumerate(target)
        for segment in entry["ambiguous"].tolist()
    ]
    if not truths:
        return math.nan
    if protocol == "activitynet":
        flags = slow_flags_activitynet(found, truths, threshold)
    else:
        flags = slow_flags_thumos(found, truths, ambiguous, threshold)
    return float(slow_ap(flags, len(truths), protocol))


segments = st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda s: [s[0], s[0] + s[1]])
detection = st.tuples(segments, st.integers(0, 4), st.integers(0, 1))
truth = st.tuples(segments, st.integers(0, 1))


@st.composite
def data_set(draw):
    preds, target = [], []
    for _ in range(draw(st.integers(1, 3))):
        found = draw(st.lists(detection, max_size=6))
        true = draw(st.lists(truth, max_size=4))
        preds.append(video([s for s, *_ in found], [c / 4 for _, c, _ in found], [k for *_, k in found]))
        target.append(
            video(
                [s for s, _ in true],
                labels=[k for _, k in true],
                ambiguous=draw(st.lists(segments, max_size=2)),
            )
        )
    return preds, target


@settings(deadline=None, max_examples=150)
@given(data_set())
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_is_the_slow_average_precision(protocol, data):
    thresholds = ["0.1", "0.3", "0.5", "0.75"]
    preds, target = data
    found = temporal_average_precision(preds, target, 2, protocol, [float(t) for t in thresholds])
    expected = [
        [slow_average_precision(preds, target, label, protocol, Fraction(t)) for label in range(2)]
        for t in thresholds
    ]
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), equal_nan=True, rtol=0, atol=1e-12
    )


@settings(deadline=None, max_examples=40)
@given(data_set(), st.lists(st.integers(0, 3), min_size=3, max_size=3), st.randoms(use_true_random=False))
@pytest.mark.parametrize("protocol", ["activitynet", "thumos14-2014"])
def test_a_video_of_weight_w_counts_like_w_videos(protocol, data, weights, random):
    preds, target = data
    weights = weights[: len(preds)]
    # All scores differ: equal ones would come in another order where videos are repeated.
    scores = iter(random.sample(range(100), sum(len(entry["scores"]) for entry in preds)))
    for entry in preds:
        entry["scores"] = torch.tensor([float(next(scores)) for _ in entry["scores"]], dtype=torch.float64)
    tables = detection_tables(preds, target, torch.arange(len(preds)), 2)
    matches = match_detections(*tables, 2, protocol, [0.3, 0.5])
    known = [n for n in range(len(preds)) if len(preds[n]["scores"]) or len(target[n]["labels"])]
    row = torch.tensor([[weights[n] for n in known]], dtype=torch.float64)
    found = torch.stack([m.average_precision(protocol, row)[0] for m in matches], dim=1)
    repeated = [n for n, weight in enumerate(weights) for _ in range(weight)]
    expected = temporal_average_precision(
        [preds[n] for n in repeated], [target[n] for n in repeated], 2, protocol, [0.3, 0.5]
    )
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=0, atol=1e-12)


def duplicates(generator, n_videos=80):
    """Three jittered detections per truth and two wrong ones per video, with independent random scores."""
    preds, target = [], []
    for _ in range(n_videos):
        start = 30.0 * torch.arange(3, dtype=torch.float64) + 5 * torch.rand(3, generator=generator).double()
        true = torch.stack([start, start + 10], dim=1)
        jitter = 2.4 * (torch.rand(9, 2, generator=generator).double() - 0.5)
        wrong = torch.tensor([[100.0, 110.0], [120.0, 130.0]], dtype=torch.float64)
        found = torch.cat([true.repeat_interleave(3, dim=0) + jitter, wrong])
        scores = torch.rand(len(found), generator=generator)
        preds.append({"segments": found, "scores": scores, "labels": torch.zeros(11, dtype=torch.int64)})
        target.append({"segments": true, "labels": torch.zeros(3, dtype=torch.int64)})
    return preds, target


def test_unsuppressed_duplicates_score_far_higher_under_activitynets_matching():
    preds, target = duplicates(torch.Generator().manual_seed(0))
    found = {p: 100 * temporal_average_precision(preds, target, 1, p, [0.5]).item() for p in PROTOCOLS}
    print({name: round(value, 1) for name, value in found.items()})
    assert found["activitynet"] > found["thumos14"] + 30
    assert found["activitynet"] > found["thumos14-2014"] + 30
    kept = [temporal_nms(entry["segments"], entry["scores"], 0.4) for entry in preds]
    single = [{key: x[keep] for key, x in entry.items()} for entry, keep in zip(preds, kept, strict=True)]
    after = {p: 100 * temporal_average_precision(single, target, 1, p, [0.5]).item() for p in PROTOCOLS}
    print({name: round(value, 1) for name, value in after.items()})
    assert max(after.values()) - min(after.values()) < 5
    assert min(after.values()) > found["thumos14"] + 20


# The metric


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_metric_is_its_functional_twin_whatever_way_videos_come(protocol):
    metric = TemporalDetectionAP(2, protocol, n_resamples=20)
    for preds, target, videos in reversed(DETECTIONS):
        for entry in range(len(preds)):
            metric.update(preds[entry : entry + 1], target[entry : entry + 1], videos[entry : entry + 1])
    preds, target = ([entry for update in DETECTIONS for entry in update[k]] for k in (0, 1))
    expected = temporal_average_precision(preds, target, 2, protocol)
    torch.testing.assert_close(metric.class_wise(), expected, rtol=0, atol=1e-12)
    found = metric.compute()
    assert found["mAP"].item() == pytest.approx(expected.mean().item())
    assert [v.item() for v in list(found.values())[1:]] == pytest.approx(expected.mean(dim=1).tolist())
    assert metric.summary().n == 4


def test_a_video_that_comes_twice_or_in_parts_counts_once():
    whole, parts = TemporalDetectionAP(2, n_resamples=20), TemporalDetectionAP(2, n_resamples=20)
    for update in DETECTIONS:
        whole.update(*update)
        parts.update(*update)
    parts.update(*DETECTIONS[0])
    ((first, *_), target, _) = DETECTIONS[0]
    one = {key: values[:1] for key, values in first.items()}
    parts.update([one], target[:1], ["a"])
    assert parts.compute() == whole.compute()
    assert str(parts.summary()) == str(whole.summary())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equal_detections_of_one_entry_are_as_many_as_in_the_function(protocol):
    found = video([[0, 10], [0, 10], [0, 10], [20, 30]], [0.9, 0.9, 0.9, 0.5])
    true = video([[0, 10], [20, 30], [20, 30]])
    expected = ap(found, true, protocol)
    assert expected < ap(video([[0, 10], [20, 30]], [0.9, 0.5]), video([[0, 10], [20, 30]]), protocol)
    metric = TemporalDetectionAP(1, protocol, thresholds=[0.5])
    metric.update([found], [true], ["a"])
    assert metric.compute()["mAP"].item() == pytest.approx(expected)
    metric.update([found, found], [true, true], ["a", "a"])  # as a sampler that repeats examples does
    assert metric.compute()["mAP"].item() == pytest.approx(expected)


def test_the_interval_is_the_same_each_time_and_leaves_the_global_generator_alone(monkeypatch):
    metric = TemporalDetectionAP(1, thresholds=[0.5], n_resamples=200)
    preds, target = duplicates(torch.Generator().manual_seed(1), n_videos=20)
    metric.update(preds, target, list(range(20)))
    state = torch.get_rng_state()
    first = metric.summary()
    assert str(metric.summary()) == str(first)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.low < first.value < first.high
    assert 0.02 < first.high - first.low < 0.3
    chunked = TemporalDetectionAP(1, thresholds=[0.5], n_resamples=200)
    chunked.update(preds, target, list(range(20)))
    monkeypatch.setattr("captum_ext.metrics.temporal_detection_ap._CHUNK", 700)
    assert chunked.summary().low == pytest.approx(first.low)


def test_one_video_has_no_interval():
    metric = TemporalDetectionAP(2)
    metric.update([DETECTIONS[0][0][0]], [DETECTIONS[0][1][0]], ["a"])
    assert math.isnan(metric.summary().low)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scores": None}, ValueError, r"preds\[0\] .* lacks \['scores'\]"),
        ({"scores": torch.tensor([math.nan])}, ValueError, "row 0 is nan"),
        ({"scores": torch.rand(2)}, ValueError, r"scores.* \(1,\)"),
        ({"labels": torch.tensor([2])}, ValueError, r"0\.\.1"),
        ({"labels": torch.tensor([1.0])}, TypeError, "labels"),
        ({"segments": torch.tensor([[3.0, 3.0]])}, ValueError, "start < end"),
        ({"segments": torch.tensor([3.0, 4.0])}, ValueError, "shape"),
        ({"segments": [[3.0, 4.0]]}, TypeError, "list"),
    ],
)
def test_bad_detections_are_refused_by_place(change, error, message):
    entry = {**video([[0, 1]], [0.5]), **change}
    entry = {key: value for key, value in entry.items() if value is not None}
    with pytest.raises(error, match=message):
        temporal_average_precision([entry], [video([[0, 1]])], 2)


def test_bad_settings_are_refused_by_value():
    with pytest.raises(ValueError, match="thumos14-2014"):
        TemporalDetectionAP(1, "thumos")
    for thresholds in ([], [0.0], [1.5], [0.5, 0.5]):
        with pytest.raises(ValueError, match="thresholds"):
            TemporalDetectionAP(1, thresholds=thresholds)
    with pytest.raises(ValueError, match="num_classes"):
        TemporalDetectionAP(0)
    with pytest.raises(ValueError, match="1 and 0"):
        temporal_average_precision([video([[0, 1]], [0.5])], [], 1)


# Suppression


def slow_nms(segments, scores, threshold, groups):
    rows = sorted(range(len(segments)), key=lambda i: (-scores[i], i))
    kept = []
    for i in rows:
        rivals = [j for j in kept if groups[j] == groups[i]]
        if all(exact_iou(segments[i], segments[j]) <= threshold for j in rivals):
            kept.append(i)
    return kept


@settings(deadline=None)
@given(st.lists(st.tuples(segments, st.integers(0, 3), st.integers(0, 1)), max_size=7))
def test_suppression_is_greedy_by_score_within_groups(rows):
    chosen = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
    tensors = torch.tensor(chosen[0], dtype=torch.float64).view(-1, 2), torch.tensor(chosen[1]).double()
    for threshold in ("0", "0.3", "0.5", "1"):
        kept = temporal_nms(*tensors, float(threshold), torch.tensor(chosen[2]))
        assert kept.tolist() == slow_nms(*chosen[:2], Fraction(threshold), chosen[2])
        alone = temporal_nms(*tensors, float(threshold))
        assert alone.tolist() == slow_nms(*chosen[:2], Fraction(threshold), [0] * len(rows))


def test_bad_suppression_is_refused():
    segments, scores = torch.tensor([[0.0, 1.0]]), torch.tensor([0.5])
    with pytest.raises(ValueError, match="iou_threshold"):
        temporal_nms(segments, scores, 1.5)
    with pytest.raises(ValueError, match="groups"):
        temporal_nms(segments, scores, 0.5, torch.tensor([0, 1]))
