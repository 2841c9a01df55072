"""ActivityNet json: ground truth, derivatives of THUMOS14, results out and in, inputs of the metric."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.data.annotations import (
    AnnotatedAction,
    AnnotatedVideo,
    AnnotationError,
    Detection,
    detection_inputs,
    read_activitynet,
    read_activitynet_results,
    write_activitynet_results,
)

VIDEO = {
    "duration": 82.73,
    "subset": "training",
    "resolution": "320x240",
    "url": "https://www.youtube.com/watch?v=sJFgo9H6zNo",
    "annotations": [{"segment": [6.19, 70.5], "label": "Fun sliding down"}],
}


def write(folder, database, **more):
    path = folder / "activity_net.json"
    content = {"version": "VERSION 1.3", "taxonomy": [{"nodeName": "Root"}], "database": database, **more}
    path.write_text(json.dumps(content))
    return path


def test_convention_segments_are_seconds_and_the_resolution_is_width_by_height(tmp_path):
    (video,) = read_activitynet(write(tmp_path, {"sJFgo9H6zNo": VIDEO}))
    assert video == AnnotatedVideo(
        "sJFgo9H6zNo",
        duration_s=82.73,
        frame_size=(240, 320),
        subset="training",
        actions=(AnnotatedAction("Fun sliding down", 0, 6.19, 70.5),),
    )


def test_thumos14_files_with_seconds_as_text_and_ambiguous_actions_are_read(tmp_path):
    entry = {
        "duration": "190.9",
        "fps": 30,
        "subset": "Test",
        "annotations": [
            {"segment": ["18.6", "21.2"], "label": "Diving"},
            {"segment": ["30", "31"], "label": "Ambiguous"},
        ],
    }
    (video,) = read_activitynet(write(tmp_path, {"video_test_0000324": entry}), subset="test")
    assert (video.duration_s, video.fps) == (190.9, 30.0)
    assert video.actions == (
        AnnotatedAction("Diving", 0, 18.6, 21.2),
        AnnotatedAction("Ambiguous", None, 30.0, 31.0, ambiguous=True),
    )


def test_subsets_are_chosen_and_labels_are_indexed_over_the_whole_file(tmp_path):
    other = {**VIDEO, "subset": "validation", "annotations": [{"segment": [0, 1], "label": "Archery"}]}
    path = write(tmp_path, {"a": VIDEO, "b": other, "c": {"duration": 9.0, "subset": "testing"}})
    assert [video.video_id for video in read_activitynet(path)] == ["a", "b", "c"]
    (video,) = read_activitynet(path, subset="training")
    assert video.actions[0].label_index == 1  # behind Archery, which is in another subset
    (video,) = read_activitynet(path, subset="validation", classes=["Fun sliding down", "Archery"])
    assert video.actions[0].label_index == 1
    assert read_activitynet(path, subset="testing")[0].actions == ()


def changed(**changes):
    return {**VIDEO, **changes}


def annotated(**changes):
    return changed(annotations=[VIDEO["annotations"][0], {"segment": [1, 2], "label": "Archery", **changes}])


@pytest.mark.parametrize(
    ("entry", "where", "reason"),
    [
        (annotated(segment=[5, 5]), "database/v/annotations/1", "ends at 5.0 s, not after its start"),
        (annotated(segment=[5, 4]), "database/v/annotations/1", "ends at 4.0 s, not after its start"),
        (annotated(segment=[-5, 4]), "database/v/annotations/1", "starts at -5.0 s, before the video"),
        (
            annotated(segment=[80, 90]),
            "database/v/annotations/1",
            "ends behind the video, which lasts 82.73 s",
        ),
        (annotated(segment=5), "database/v/annotations/1", r"segment must be \[start, end\] in seconds"),
        (annotated(segment=[True, 2]), "database/v/annotations/1", "the start must be a number, not True"),
        (annotated(label=""), "database/v/annotations/1", "label must be a text"),
        (annotated(label=3), "database/v/annotations/1", "label must be a text"),
        (
            changed(annotations=[5]),
            "database/v/annotations/0",
            "expected an object with 'segment', found int",
        ),
        (changed(annotations={}), "database/v", "annotations must be a list"),
        (changed(duration=-1), "database/v", "duration_s must be above 0, not -1.0"),
        (changed(duration=0), "database/v", "duration_s must be above 0"),
        (changed(duration="long"), "database/v", "duration must be a number, not 'long'"),
        (changed(resolution="320"), "database/v", "resolution must be as in"),
        ({"duration": 5}, "database/v", "has no 'subset'; it has 'duration'"),
        (5, "database/v", "expected an object with 'subset', found int 5"),
    ],
)
def test_a_faulty_record_is_an_error_with_file_key_and_reason(entry, where, reason, tmp_path):
    path = write(tmp_path, {"good": VIDEO, "v": entry})
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_activitynet(path)
    assert str(caught.value).startswith(f"{path}, {where}: ")
    with pytest.warns(UserWarning, match="1 faulty"):
        videos = read_activitynet(path, on_error="skip")
    assert videos[0].video_id == "good"
    assert len(videos) == (2 if "annotations/" in where else 1)


def test_another_overrun_is_refused_also_where_records_are_skipped(tmp_path):
    with pytest.raises(ValueError, match='overrun must be "raise", "keep" or "cut"'):
        read_activitynet(write(tmp_path, {"v": VIDEO}), overrun="drop", on_error="skip")


def test_a_class_outside_the_given_ones_is_an_error(tmp_path):
    path = write(tmp_path, {"v": VIDEO})
    with pytest.raises(AnnotationError, match="v/annotations/0: class 'Fun sliding down' is unknown"):
        read_activitynet(path, classes=["Archery"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"database": {"v": {}, "v": {}}}', "the key 'v' appears twice"),
        ('{"database":\n {"v": }}', "line 2, column 8"),
        ('{"database": {"v": {"duration": NaN}}}', "NaN is not a number"),
        ('{"results": {}}', "has no object 'database'; is it a results file"),
        ("[]", "has no object 'database'"),
        ("", "line 1, column 1"),
        ("[" * 100000, "nested too deeply"),
        ("9" * 5000, "digits"),
    ],
)
def test_a_faulty_file_is_one_clear_error(text, reason, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_activitynet(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_every_usual_encoding_is_read(encoding, tmp_path):
    path = tmp_path / "a.json"
    label = "Capoeira à la carte"
    entry = changed(annotations=[{"segment": [0, 1], "label": label}])
    path.write_bytes(json.dumps({"database": {"v": entry}}, ensure_ascii=False).encode(encoding))
    assert read_activitynet(path)[0].actions[0].label == label


def test_a_damaged_utf_16_file_is_one_clear_error(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe" + b"{}x")
    with pytest.raises(AnnotationError, match=r"a\.json: begins as UTF-16 and is not"):
        read_activitynet(path)


# Results

detections = st.lists(
    st.builds(
        lambda video, start, length, label, score: Detection(video, start, start + length, label, score),
        st.sampled_from(["a", "b c", "ü"]),
        st.floats(0, 1e5),
        st.floats(1e-3, 1e3),
        st.sampled_from(["Long jump", 'with "quotes"']),
        st.floats(-1e3, 1e3),
    ),
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(found=detections)
def test_results_come_back_as_they_were_written_in_order_within_each_video(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.json"
    write_activitynet_results(path, found)
    back = read_activitynet_results(path)
    for video in {detection.video_id for detection in found}:
        assert [d for d in back if d.video_id == video] == [d for d in found if d.video_id == video]
    assert len(back) == len(found)


def test_convention_the_kit_reads_version_results_and_external_data(tmp_path):
    path = tmp_path / "run.json"
    write_activitynet_results(path, [Detection("v", 0.5, 12.25, "Long jump", torch.tensor(0.75))])
    assert json.loads(path.read_text()) == {
        "version": "VERSION 1.3",
        "results": {"v": [{"label": "Long jump", "score": 0.75, "segment": [0.5, 12.25]}]},
        "external_data": {},
    }


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "run.json"
    write_activitynet_results(path, [])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="does not end after its start"):
        write_activitynet_results(path, [Detection("v", 2.0, 1.0, "Long jump", 0.5)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ({"v": [{"label": "a", "score": 1}]}, "results/v/0: has no 'segment'"),
        ({"v": [{"label": "a", "score": 1, "segment": [2, 1]}]}, "results/v/0: .*does not end after"),
        ({"v": {}}, "results/v: the results of a video must be a list"),
        ([], "has no object 'results'"),
    ],
)
def test_a_faulty_results_file_names_the_key(results, reason, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"results": results}))
    with pytest.raises(AnnotationError, match=reason):
        read_activitynet_results(path)


# The metric's inputs

TRUTH = [
    AnnotatedVideo("a", actions=(AnnotatedAction("run", 1, 0.0, 4.0), AnnotatedAction("jump", 0, 2.0, 3.0))),
    AnnotatedVideo("b", actions=(AnnotatedAction("Ambiguous", None, 1.0, 2.0, ambiguous=True),)),
]


def test_detections_and_annotations_are_arranged_per_video():
    found = [Detection("b", 1.0, 2.0, "run", 0.5), Detection("a", 0.0, 3.0, "jump", 0.25)]
    found.append(Detection("b", 5.0, 6.0, "jump", 0.75))
    preds, target, ids = detection_inputs(TRUTH, found, ["jump", "run"])
    assert ids == ["a", "b"]
    assert preds[0]["segments"].tolist() == [[0.0, 3.0]]
    assert preds[1]["segments"].tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert preds[1]["labels"].tolist() == [1, 0]
    assert preds[1]["scores"].tolist() == [0.5, 0.75]
    assert target[0]["segments"].tolist() == [[0.0, 4.0], [2.0, 3.0]]
    assert target[0]["labels"].tolist() == [1, 0]
    assert target[0]["ambiguous"].shape == (0, 2)
    assert target[1]["segments"].shape == (0, 2)
    assert target[1]["ambiguous"].tolist() == [[1.0, 2.0]]
    assert {t.dtype for t in (preds[0]["segments"], preds[0]["scores"])} == {torch.float64}
    assert target[1]["labels"].dtype == torch.int64


@pytest.mark.parametrize(
    ("videos", "detection", "classes", "reason"),
    [
        (TRUTH, Detection("c", 0, 1, "run", 0.5), ["jump", "run"], "not in the ground truth"),
        (TRUTH, Detection("a", 0, 1, "swim", 0.5), ["jump", "run"], "label 'swim' is not one of the 2"),
        (TRUTH, Detection("a", 0, 1, "run", 0.5), ["run"], "label 'jump' is not one of the 1"),
        (TRUTH * 2, Detection("a", 0, 1, "run", 0.5), ["jump", "run"], "appears twice"),
    ],
)
def test_what_does_not_belong_together_is_refused(videos, detection, classes, reason):
    with pytest.raises(ValueError, match=reason):
        detection_inputs(videos, [detection], classes)
