"""THUMOS14: the kit's folder, its two csv derivatives, and detections out and in."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.data.annotations import (
    THUMOS14_CLASSES,
    AnnotationError,
    Detection,
    read_thumos14,
    read_thumos14_classes,
    read_thumos14_csv,
    read_thumos14_detections,
    write_thumos14_detections,
)


def kit(folder, **files):
    """An annotation folder with two classes; further files by name."""
    content = {
        "detclasslist": "22 CliffDiving\n26 Diving\n",
        "CliffDiving_test": "video_test_0000324  49.2 53.5\n",
        "Diving_test": "video_test_0000324  49.2 53.5 \nvideo_test_0000007\t0.0\t2.5\n",
        "Ambiguous_test": "video_test_0000324 60.0 61.1\n",
        **files,
    }
    for name, text in content.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


def spans(videos):
    return [
        (v.video_id, a.label, a.label_index, a.start_s, a.end_s, a.ambiguous)
        for v in videos
        for a in v.actions
    ]


def test_convention_the_folder_is_in_seconds_and_white_space_varies(tmp_path):
    assert spans(read_thumos14(kit(tmp_path), "test")) == [
        ("video_test_0000007", "Diving", 1, 0.0, 2.5, False),
        ("video_test_0000324", "CliffDiving", 0, 49.2, 53.5, False),
        ("video_test_0000324", "Diving", 1, 49.2, 53.5, False),  # annotated as both: a known quirk
        ("video_test_0000324", "Ambiguous", None, 60.0, 61.1, True),
    ]


def test_a_subset_without_ambiguous_actions_needs_no_such_file(tmp_path):
    folder = kit(tmp_path)
    (folder / "Ambiguous_test.txt").unlink()
    assert len(spans(read_thumos14(folder, "test"))) == 3


def test_byte_order_mark_line_ends_and_blank_lines_change_nothing(tmp_path):
    plain = read_thumos14(kit(tmp_path), "test")
    for text in ("\ufeffvideo_test_0000324 49.2 53.5\r\n\r\n", "\n\n   video_test_0000324 49.2 53.5\r"):
        assert read_thumos14(kit(tmp_path, CliffDiving_test=text), "test") == plain


def test_a_class_without_a_file_is_an_error(tmp_path):
    folder = kit(tmp_path)
    (folder / "Diving_test.txt").unlink()
    with pytest.raises(AnnotationError, match=r"there is no .*Diving_test\.txt, although Diving is in"):
        read_thumos14(folder, "test")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("video_test_1 5.0 5.0", "ends at 5.0 s, not after its start at 5.0 s"),
        ("video_test_1 5.0 4.0", "ends at 4.0 s, not after"),
        ("video_test_1 -1.0 4.0", "starts at -1.0 s, before the video"),
        ("video_test_1 5.0", "expected video, start and end, found 'video_test_1 5.0'"),
        ("video_test_1 5.0 nan", "the end must be finite"),
        ("video_test_1 5,0 6.0", "the start must be a number, not '5,0'"),
    ],
)
def test_a_faulty_line_is_an_error_with_file_line_and_reason(line, reason, tmp_path):
    folder = kit(tmp_path, Diving_test=f"video_test_1 0.0 1.0\n\n{line}\n")
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_thumos14(folder, "test")
    assert str(caught.value).startswith(f"{folder / 'Diving_test.txt'}, line 3: ")
    with pytest.warns(UserWarning, match=r"1 faulty record\(s\) left out; the first: .*line 3"):
        kept = read_thumos14(folder, "test", on_error="skip")
    assert ("video_test_1", "Diving", 1, 0.0, 1.0, False) in spans(kept)
    assert len(spans(kept)) == 3


def test_the_class_list_is_that_of_the_kit(tmp_path):
    path = tmp_path / "detclasslist.txt"
    path.write_text("".join(f"{i} {name}\n" for i, name in THUMOS14_CLASSES.items()))
    assert read_thumos14_classes(path) == THUMOS14_CLASSES
    assert len(THUMOS14_CLASSES) == 20
    assert list(THUMOS14_CLASSES.values()) == sorted(THUMOS14_CLASSES.values())


@pytest.mark.parametrize("text", ["7 A\n7 B\n", "7 A\n8 A\n", "7 A B\n8 C", "x A\n"])
def test_a_faulty_class_list_names_the_line(text, tmp_path):
    path = tmp_path / "detclasslist.txt"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=r"detclasslist\.txt, line [12]: "):
        read_thumos14_classes(path)


# csv derivatives

NAMED = "video,type,type_idx,start,end,startFrame,endFrame\n"
INDEXED = "video-name,t-init,t-end,f-init,f-end,video-duration,frame-rate,video-frames,label-idx\n"


def table(folder, text):
    path = folder / "test.csv"
    path.write_bytes(text.encode())
    return path


def test_convention_the_csv_with_names_takes_the_class_from_the_name_and_seconds_alone(tmp_path):
    rows = "video_test_0000324,Diving,99,49.2,53.5,1,2\r\nvideo_test_0000324,Ambiguous,0,60,61.1,,\r\n"
    videos = read_thumos14_csv(table(tmp_path, "\ufeff" + NAMED + rows), subset="test")
    assert spans(videos) == [
        ("video_test_0000324", "Diving", 7, 49.2, 53.5, False),
        ("video_test_0000324", "Ambiguous", None, 60.0, 61.1, True),
    ]
    assert videos[0].subset == "test"


def test_convention_the_csv_with_indices_counts_classes_from_0_and_marks_ambiguous_as_minus_1(tmp_path):
    rows = (
        "video_test_0000324,49.2,53.5,1476,1605,120.5,29.97,3611,7\n"
        "video_test_0000324,60.0,61.1,1,2,120.5,29.97,3611,-1\n"
    )
    (video,) = read_thumos14_csv(table(tmp_path, INDEXED + rows))
    assert spans([video]) == [
        ("video_test_0000324", "Diving", 7, 49.2, 53.5, False),
        ("video_test_0000324", "Ambiguous", None, 60.0, 61.1, True),
    ]
    assert (video.duration_s, video.fps, video.n_frames) == (120.5, 29.97, 3611)


def test_columns_are_found_by_name_in_any_order(tmp_path):
    path = table(tmp_path, "end,video,start,type\n53.5,video_test_0000324,49.2,Diving\n")
    assert spans(read_thumos14_csv(path)) == [("video_test_0000324", "Diving", 7, 49.2, 53.5, False)]


OVERRUN = INDEXED + (
    "video_validation_0000364,1.0,9.0,1,2,10.0,30,300,7\n"
    "video_validation_0000364,8.0,12.0,1,2,10.0,30,300,7\n"
    "video_validation_0000364,11.0,12.0,1,2,10.0,30,300,7\n"
)


def test_an_action_behind_the_end_is_an_error_that_says_what_can_be_done(tmp_path):
    with pytest.raises(AnnotationError, match=r"line 3: .*8.0 to 12.0 s.*lasts 10.0 s; overrun says"):
        read_thumos14_csv(table(tmp_path, OVERRUN))


@pytest.mark.parametrize(
    ("overrun", "expected"),
    [("keep", [(1.0, 9.0), (8.0, 12.0), (11.0, 12.0)]), ("cut", [(1.0, 9.0), (8.0, 10.0)])],
)
def test_an_action_behind_the_end_can_be_kept_or_cut(overrun, expected, tmp_path):
    (video,) = read_thumos14_csv(table(tmp_path, OVERRUN), overrun=overrun)
    assert [(action.start_s, action.end_s) for action in video.actions] == expected


def test_a_tenth_of_a_second_behind_the_end_is_rounding_and_more_is_not(tmp_path):
    row = INDEXED + "v,1.0,{},1,2,10.0,30,300,7\n"
    (video,) = read_thumos14_csv(table(tmp_path, row.format(10.1)))
    assert video.actions[0].end_s == 10.0
    (video,) = read_thumos14_csv(table(tmp_path, row.format(10.1)), overrun="keep")
    assert video.actions[0].end_s == 10.1
    with pytest.raises(AnnotationError, match="ends behind the video"):
        read_thumos14_csv(table(tmp_path, row.format(10.2)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n", "line 1: expected columns video, type, start, end; or video-name.*found a, b"),
        ("", "is empty"),
        (NAMED + "v,Swimming,1,0,1,0,1\n", "line 2: class 'Swimming' is unknown"),
        (NAMED + "\nv,Diving,1,2,1,0,1\n", "line 3: 'Diving' ends at 1.0 s"),
        (NAMED + "v,Diving,1,2\n", "line 2: 4 fields where the first line names 7"),
        (NAMED + 'v,"Div\n', "line 2: not csv"),
        (NAMED.replace("type_idx", "type") + "v,Diving,1,2,3,4,5\n", "line 1: column type appears twice"),
        (INDEXED + "v,0,1,0,1,10,30,300,20\n", "line 2: label-idx 20 is not one of the 20"),
        (INDEXED + "v,0,1,0,1,10,30,300,1.5\n", "line 2: label-idx must be a whole number"),
        (INDEXED + "v,0,1,0,1,-10,30,300,1\n", "line 2: video-duration, frame-rate and video-frames must be"),
        (INDEXED + "v,0,1,0,1,9,30,300,1\nv,0,1,0,1,8,30,300,1\n", "line 3: 'v' had .*9.0, 30.0, 300.*now"),
    ],
)
def test_a_faulty_csv_is_an_error_with_file_line_and_reason(text, reason, tmp_path):
    path = table(tmp_path, text)
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_thumos14_csv(path)
    assert str(path) in str(caught.value)


def test_every_kind_of_faulty_row_can_be_skipped_with_one_warning(tmp_path):
    rows = "v,Diving,1,0,1,0,1\nv,Diving,1\nv,Swimming,1,0,1,0,1\nw,Diving,1,2,3,0,1\n"
    with pytest.warns(UserWarning, match=r"2 faulty record\(s\) left out; .*line 3: 3 fields") as caught:
        videos = read_thumos14_csv(table(tmp_path, NAMED + rows), on_error="skip")
    assert [video.video_id for video in videos] == ["v", "w"]
    assert len(caught) == 1


# Detections

names = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=9)
seconds = st.floats(0, 1e5, allow_nan=False)
detections = st.lists(
    st.builds(
        lambda video, start, length, label, score: Detection(video, start, start + length, label, score),
        names,
        seconds,
        st.floats(1e-3, 1e3),
        st.sampled_from(list(THUMOS14_CLASSES.values())),
        st.floats(-1e3, 1e3),
    ),
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(found=detections)
def test_detections_come_back_as_they_were_written(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.txt"
    write_thumos14_detections(path, found)
    assert read_thumos14_detections(path) == found


def test_convention_the_kit_reads_video_start_end_class_id_and_score(tmp_path):
    write_thumos14_detections(
        tmp_path / "run.txt", [Detection("video_test_0000324", 49.2, 53.5, "Diving", 0.75)]
    )
    assert (tmp_path / "run.txt").read_bytes() == b"video_test_0000324 49.2 53.5 26 0.75\n"


@pytest.mark.parametrize(
    ("detection", "reason"),
    [
        (Detection("v", 1.0, 1.0, "Diving", 0.5), "does not end after its start"),
        (Detection("v", 1.0, 2.0, "Diving", float("nan")), "score must be finite"),
        (Detection("v", 1.0, float("inf"), "Diving", 0.5), "end_s must be finite"),
        (Detection("v", 1.0, 2.0, "Swimming", 0.5), "'Swimming' is not one of the classes"),
        (Detection("a v", 1.0, 2.0, "Diving", 0.5), "no white space"),
    ],
)
def test_faulty_detections_are_refused_and_the_earlier_file_stays(detection, reason, tmp_path):
    path = tmp_path / "run.txt"
    path.write_text("earlier")
    with pytest.raises(ValueError, match=reason):
        write_thumos14_detections(path, [Detection("v", 0.0, 1.0, "Diving", 0.5), detection])
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "earlier"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("v 1 2 26", "expected video, start, end, class id and score"),
        ("v 1 2 25 0.5", "class id 25 is unknown"),
        ("v 2 1 26 0.5", "does not end after its start"),
        ("v 1 2 26 high", "the score must be a number"),
    ],
)
def test_a_faulty_detection_file_names_the_line(line, reason, tmp_path):
    path = tmp_path / "run.txt"
    path.write_text(f"v 1 2 26 0.5\n{line}\n")
    with pytest.raises(AnnotationError, match=f"line 2: .*{reason}"):
        read_thumos14_detections(path)


def test_the_options_are_checked(tmp_path):
    with pytest.raises(ValueError, match='on_error must be "raise" or "skip"'):
        read_thumos14_csv(table(tmp_path, NAMED), on_error="ignore")
    with pytest.raises(ValueError, match='overrun must be "raise", "keep" or "cut"'):
        read_thumos14_csv(table(tmp_path, OVERRUN), overrun="drop", on_error="skip")
