"""EPIC-Kitchens: columns by name, timestamps, boxes as (top, left, height, width) of frames from 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captum_ext.data.annotations import (
    AnnotatedAction,
    AnnotatedVideo,
    AnnotationError,
    ObjectBoxes,
    attach_objects,
    read_epic_kitchens,
    read_epic_kitchens_classes,
    read_epic_kitchens_objects,
)
from captum_ext.data.annotations.epic_kitchens import _seconds

EPIC_55 = (
    "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    "0,P01,P01_01,open door,00:00:00.14,00:00:03.37,8,202,open,2,door,8,['door'],[8]\n"
    '7,P01,P01_01,"take knife, plate",01:02:03.50,01:02:04.25,1,2,take,0,knife,5,"[\'knife\']","[5, 2]"\n'
)
EPIC_100 = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,"
    "stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,['door'],[3]\n"
)
OBJECTS = (
    "noun_class,noun,participant_id,video_id,frame,bounding_boxes\n"
    '20,bag,P01,P01_01,56581,"[(76, 1260, 462, 186)]"\n'
    "20,bag,P01,P01_01,56611,[]\n"
    '20,bag,P01,P01_01,56641,"[(0, 0, 1080, 1920), (10, 20, 30, 40)]"\n'
)


def write(folder, text):
    path = folder / "epic.csv"
    path.write_bytes(text.encode())
    return path


def test_convention_times_are_the_timestamps_and_not_the_frames(tmp_path):
    (video,) = read_epic_kitchens(write(tmp_path, EPIC_55), label="verb", subset="train")
    assert video == AnnotatedVideo(
        "P01_01",
        subset="train",
        actions=(
            AnnotatedAction("open", 2, 0.14, 3.37),
            AnnotatedAction("take", 0, 3723.5, 3724.25),
        ),
    )


def test_epic_100_has_other_columns_and_is_read_by_their_names(tmp_path):
    (video,) = read_epic_kitchens(write(tmp_path, "\ufeff" + EPIC_100.replace("\n", "\r\n")), label="noun")
    assert video.actions == (AnnotatedAction("door", 3, 0.14, 3.37),)


def test_names_of_classes_replace_the_narrated_words(tmp_path):
    path = write(tmp_path, EPIC_55)
    (video,) = read_epic_kitchens(path, label="verb", classes={0: "take", 2: "open (class)"})
    assert [action.label for action in video.actions] == ["open (class)", "take"]
    with pytest.raises(AnnotationError, match=r"line 3: class 0 \('take'\) is unknown"):
        read_epic_kitchens(path, label="verb", classes={2: "open"})


@pytest.mark.parametrize(
    "text",
    [
        "id,key,instances,category\n0,take,\"['take']\",retrieve\n3,open,\"['open']\",access\n",
        "verb_id,class_key,verbs\n0,take,['take']\n3,open,['open']\n",
        "noun_id,class_key,nouns\n0,take,['take']\n3,open,['open']\n",
    ],
)
def test_class_files_of_both_versions_are_read(text, tmp_path):
    assert read_epic_kitchens_classes(write(tmp_path, text)) == {0: "take", 3: "open"}
    with pytest.raises(AnnotationError, match="line 4: class 3 appears twice"):
        read_epic_kitchens_classes(write(tmp_path, text + text.splitlines()[-1]))


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 5999))
def test_timestamps_are_hours_minutes_and_seconds(hours, minutes, hundredths):
    stamp = f"{hours:02d}:{minutes:02d}:{hundredths // 100:02d}.{hundredths % 100:02d}"
    assert _seconds(stamp) == pytest.approx(hours * 3600 + minutes * 60 + hundredths / 100, abs=1e-9)


ROW = "P01_01_1,P01,P01_01,0,{start},{stop},8,202,open door,open,{label},door,3,x,y\n"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ROW.format(start="00:00:02.00", stop="00:00:02.00", label=3), "not after its start"),
        (ROW.format(start="00:00:05.00", stop="00:00:02.00", label=3), "ends at 2.0 s, not after"),
        (ROW.format(start="00:60:02.00", stop="01:02:02.00", label=3), "minutes and seconds below 60"),
        (ROW.format(start="00:00:-2.00", stop="00:00:02.00", label=3), "minutes and seconds below 60"),
        (ROW.format(start="5.0", stop="00:00:02.00", label=3), "timestamp must be HH:MM:SS.ff, not '5.0'"),
        (ROW.format(start="00:00:02.00", stop="00:00:03.00", label="x"), "verb_class must be a number"),
        (ROW.format(start="00:00:02.00", stop="00:00:03.00", label=-1), r"class -1 \('open'\) is unknown"),
        (EPIC_100.splitlines()[1], "the id 'P01_01_0' is in line 2 already"),
        ("P01_01_1,P01", "2 fields where the first line names 15"),
    ],
)
def test_a_faulty_row_is_an_error_with_file_line_and_reason(row, reason, tmp_path):
    path = write(tmp_path, EPIC_100 + row)
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_epic_kitchens(path, label="verb")
    assert str(caught.value).startswith(f"{path}, line 3: ")


def test_a_test_file_without_labels_names_what_is_missing(tmp_path):
    path = write(tmp_path, "narration_id,video_id,start_timestamp,stop_timestamp\n")
    with pytest.raises(AnnotationError, match=r"expected columns uid, .*verb, verb_class; or narration_id"):
        read_epic_kitchens(path, label="verb")


def test_the_label_is_verb_or_noun(tmp_path):
    with pytest.raises(ValueError, match='label must be "verb" or "noun"'):
        read_epic_kitchens(write(tmp_path, EPIC_55), label="action")


# Objects


def test_convention_boxes_are_top_left_height_width_and_frames_count_from_1(tmp_path):
    first, second, third = read_epic_kitchens_objects(write(tmp_path, OBJECTS))
    # top 76, left 1260, height 462, width 186
    assert first == ObjectBoxes("P01_01", "bag", 20, 56580, ((1260.0, 76.0, 1446.0, 538.0),))
    assert second.boxes == ()
    assert third.boxes == ((0.0, 0.0, 1920.0, 1080.0), (20.0, 10.0, 60.0, 40.0))


def objects_row(boxes, frame="31", noun_class="20"):
    return f'noun_class,noun,video_id,frame,bounding_boxes\n{noun_class},bag,P01_01,{frame},"{boxes}"\n'


def test_boxes_over_the_border_are_clipped(tmp_path):
    (found,) = read_epic_kitchens_objects(write(tmp_path, objects_row("[(1000, -5, 200, 50)]")))
    assert found.boxes == ((0.0, 1000.0, 45.0, 1080.0),)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (objects_row("__import__('os').mkdir('executed')"), "bounding_boxes is not a list of tuples"),
        (objects_row("[(1, 2, 3)]"), r"a box must be \(top, left, height, width\)"),
        (objects_row("[(1, 2, 0, 4)]"), "is empty or reversed"),
        (objects_row("[(1, 2, 3, -4)]"), "is empty or reversed"),
        (objects_row("[(1080, 2, 3, 4)]"), "outside the frame"),
        (objects_row("[(1, 2, 3, 'a')]"), "a box's number must be a number"),
        (objects_row("[(1, 2, 3, 1e999)]"), "a box's number must be finite"),
        (objects_row("5"), "bounding_boxes is not a list"),
        (objects_row("((((("), "bounding_boxes is not a list of tuples"),
        (objects_row("[]", frame="0"), "frames count from 1, not 0"),
        (objects_row("[]", noun_class="1.5"), "noun_class must be a whole number"),
    ],
)
def test_faulty_boxes_are_an_error_and_nothing_is_executed(row, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, row)
    with pytest.raises(AnnotationError, match=f"line 2: .*{reason}"):
        read_epic_kitchens_objects(path)
    assert list(tmp_path.iterdir()) == [path]


def test_actions_get_the_boxes_of_their_noun_in_their_time():
    box, other = (1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)
    actions = (AnnotatedAction("bag", 20, 0.5, 1.5), AnnotatedAction("door", 3, 0.5, 1.5))
    objects = [
        ObjectBoxes("P01_01", "bag", 20, 0, (box,)),  # before
        ObjectBoxes("P01_01", "bag", 20, 30, (box,)),  # at 0.5 s: inside
        ObjectBoxes("P01_01", "bag", 20, 60, (box,)),
        ObjectBoxes("P01_01", "bag", 20, 60, (other,)),
        ObjectBoxes("P01_01", "bag", 20, 75, ()),
        ObjectBoxes("P01_01", "bag", 20, 90, (box,)),  # at 1.5 s: behind
        ObjectBoxes("P01_02", "bag", 20, 61, (box,)),  # another video
    ]
    (video,) = attach_objects([AnnotatedVideo("P01_01", actions=actions)], objects)
    assert dict(video.actions[0].boxes) == {30: (box,), 60: (box, other)}
    assert dict(video.actions[1].boxes) == {}
    assert (video.fps, video.frame_size) == (60.0, (1080, 1920))
