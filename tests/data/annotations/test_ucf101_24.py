"""UCF101-24: two files of different conventions, one result; nothing in a pickle is executed."""

import io
import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext.data.annotations import (
    UCF101_24_CLASSES,
    AnnotationError,
    read_ucf101_24_mat,
    read_ucf101_24_pickle,
    read_ucf101_24_split,
)
from captum_ext.data.annotations._unpickler import load_arrays

scipy_io = pytest.importorskip("scipy.io", reason="SciPy reads and writes the .mat file")

NAME = "Basketball/v_Basketball_g01_c01"
# One tube: frames 2, 3, 4 from 0; boxes x, y, w, h with x, y from 1.
BOXES = np.array([[200, 1, 100, 50], [201, 2, 100, 50], [202, 3, 100, 50]], dtype=np.uint8)
# The same by hand: x0 = x - 1, x1 = x - 1 + w. In uint8, 200 + 100 would be 44.
EXPECTED = {
    2: ((199.0, 0.0, 299.0, 50.0),),
    3: ((200.0, 1.0, 300.0, 51.0),),
    4: ((201.0, 2.0, 301.0, 52.0),),
}


def pickled(tubes, numf=9, name=NAME, label=0):
    return {np.str_(name): {"annotations": tubes, "numf": np.uint8(numf), "label": np.uint8(label)}}


def tube(label=0, sf=2, ef=5, boxes=BOXES):
    return {"label": np.uint8(label), "sf": np.uint8(sf), "ef": np.uint16(ef), "boxes": boxes}


def write_pickle(folder, content, protocol=2):
    path = folder / "pyannot.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def write_mat(folder, videos):
    """``videos``: (name, num_imgs, [(sf, ef, class, boxes)]) with the numbers as they stand in the file."""
    annot = np.zeros((1, len(videos)), dtype=[("num_imgs", "O"), ("name", "O"), ("tubes", "O")])
    for v, (name, num_imgs, tubes) in enumerate(videos):
        fields = np.zeros((1, len(tubes)), dtype=[("ef", "O"), ("sf", "O"), ("class", "O"), ("boxes", "O")])
        for k, (sf, ef, label, boxes) in enumerate(tubes):
            fields[0, k] = (np.uint16(ef), np.uint8(sf), np.uint8(label), boxes)
        annot[0, v] = (np.uint16(num_imgs), name, fields)
    path = folder / "finalAnnots.mat"
    scipy_io.savemat(path, {"annot": annot})
    return path


# Conventions


def test_convention_the_pickle_counts_frames_from_0_and_excludes_the_end(tmp_path):
    (video,) = read_ucf101_24_pickle(write_pickle(tmp_path, pickled([tube(sf=2, ef=5)])))
    (action,) = video.actions
    assert (action.start_frame, action.end_frame) == (2, 5)
    assert sorted(action.boxes) == [2, 3, 4]


def test_convention_the_mat_file_counts_frames_from_1_and_includes_the_end(tmp_path):
    (video,) = read_ucf101_24_mat(write_mat(tmp_path, [(NAME, 9, [(3, 5, 1, BOXES)])]))
    (action,) = video.actions
    assert (action.start_frame, action.end_frame) == (2, 5)
    assert sorted(action.boxes) == [2, 3, 4]


def test_convention_boxes_are_x_y_w_h_from_1_and_wider_than_uint8(tmp_path):
    (video,) = read_ucf101_24_pickle(write_pickle(tmp_path, pickled([tube()])))
    boxes = video.actions[0].boxes
    assert dict(boxes) == EXPECTED
    assert all(type(side) is float for in_frame in boxes.values() for side in in_frame[0])
    assert video.frame_size == (240, 320)


def test_convention_a_box_that_fills_the_frame_reaches_from_edge_to_edge(tmp_path):
    boxes = np.array([[1, 1, 320, 240]], dtype=np.uint16)
    (video,) = read_ucf101_24_pickle(write_pickle(tmp_path, pickled([tube(sf=0, ef=1, boxes=boxes)])))
    assert video.actions[0].boxes[0] == ((0.0, 0.0, 320.0, 240.0),)


def test_convention_classes_count_from_0_in_the_pickle_and_from_1_in_the_mat_file(tmp_path):
    name = "WalkingWithDog/v_WalkingWithDog_g01_c01"
    (a,) = read_ucf101_24_pickle(write_pickle(tmp_path, pickled([tube(label=23)], name=name)))
    (b,) = read_ucf101_24_mat(write_mat(tmp_path, [(name, 9, [(3, 5, 24, BOXES)])]))
    assert a.actions[0].label == b.actions[0].label == "WalkingWithDog"
    assert a.actions[0].label_index == b.actions[0].label_index == 23


def test_convention_seconds_follow_from_the_frame_rate(tmp_path):
    (video,) = read_ucf101_24_pickle(write_pickle(tmp_path, pickled([tube()])), fps=10.0)
    assert (video.actions[0].start_s, video.actions[0].end_s, video.duration_s) == (0.2, 0.5, 0.9)


tubes_by_hand = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.lists(
            st.tuples(st.integers(1, 255), st.integers(1, 240), st.integers(1, 255), st.integers(1, 255)),
            min_size=1,
            max_size=3,
        ),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25, deadline=None)
@given(tubes=tubes_by_hand, label=st.integers(0, 23), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_convention_both_readers_agree_on_the_same_tubes(tubes, label, dtype, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ucf")
    name = f"{UCF101_24_CLASSES[label]}/v_x"
    arrays = [(start, np.array(boxes, dtype=dtype)) for start, boxes in tubes]
    zero = [tube(label, start, start + len(boxes), boxes) for start, boxes in arrays]
    one = [(start + 1, start + len(boxes), label + 1, boxes) for start, boxes in arrays]
    from_pickle = read_ucf101_24_pickle(write_pickle(folder, pickled(zero, 12, name, label)))
    from_mat = read_ucf101_24_mat(write_mat(folder, [(name, 12, one)]))
    assert from_pickle == from_mat
    # By hand, in Python's own integers.
    for action, (start, boxes) in zip(from_pickle[0].actions, tubes, strict=True):
        for t, (x, y, w, h) in enumerate(boxes):
            clipped = (x - 1, y - 1, min(x - 1 + w, 320), min(y - 1 + h, 240))
            assert action.boxes[start + t] == (clipped,)


def test_several_videos_and_a_video_without_tubes(tmp_path):
    other = "Biking/v_Biking_g01_c01"
    path = write_mat(tmp_path, [(NAME, 9, [(3, 5, 1, BOXES), (6, 6, 1, BOXES[:1])]), (other, 4, [])])
    first, second = read_ucf101_24_mat(path)
    assert [len(first.actions), len(second.actions)] == [2, 0]
    assert second.video_id == other
    assert second.n_frames == 4


def test_the_file_with_class_names_gives_subsets(tmp_path):
    content = {
        "db": pickled([tube()]) | pickled([tube(2)], name="Biking/v_Biking_g01_c01"),
        "trainvideos": [np.str_(NAME)],
        "classes": list(UCF101_24_CLASSES),
    }
    videos = read_ucf101_24_pickle(write_pickle(tmp_path, content))
    assert [video.subset for video in videos] == ["train", "test"]
    content["classes"] = sorted(UCF101_24_CLASSES, reverse=True)
    with pytest.raises(AnnotationError, match="'classes' are not the 24"):
        read_ucf101_24_pickle(write_pickle(tmp_path, content))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_protocol_and_memory_order_gives_the_same_boxes(protocol, order, tmp_path):
    content = pickled([tube(boxes=np.array(BOXES, order=order))])
    (video,) = read_ucf101_24_pickle(write_pickle(tmp_path, content, protocol))
    assert dict(video.actions[0].boxes) == EXPECTED


def test_files_of_numpy_1_are_read(tmp_path):
    path = write_pickle(tmp_path, pickled([tube()]), protocol=0)
    path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))
    assert b"numpy.core.multiarray" in path.read_bytes()
    assert dict(read_ucf101_24_pickle(path)[0].actions[0].boxes) == EXPECTED


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.array([[0.5, -1.5]], dtype=np.float32),
        np.array(["a", "bcd"]),
        np.array([b"x", b"yz"]),
        np.array([True, False]),
        np.array([], dtype=np.uint8),
        np.array(7),
    ],
    ids=lambda value: str(value.dtype),
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_arrays_come_back_as_pickle_itself_reads_them(value, protocol, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"a": [value, (value[..., :1] if value.ndim else value,)]}, protocol))
    (first, (second,)) = load_arrays(path)["a"]
    np.testing.assert_array_equal(first, value)
    assert first.dtype == value.dtype
    assert second.shape == (value[..., :1] if value.ndim else value).shape


# Malicious and damaged files


class Runs:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["key", "value", "array"])
def test_a_malicious_pickle_is_refused_by_name_and_not_executed(protocol, place, tmp_path):
    marker = tmp_path / "executed"
    attack = Runs(os.mkdir, str(marker))
    content = {
        "key": {attack: 1},
        "value": pickled([attack]),
        "array": pickled([tube(boxes=np.array([attack], dtype=object))]),
    }[place]
    path = write_pickle(tmp_path, content, protocol)
    with pytest.raises(AnnotationError, match=r"pyannot\.pkl.*(mkdir|type 'O8')"):
        read_ucf101_24_pickle(path)
    assert not marker.exists()
    # Negative control: the pickle does what it says where anything is admitted.
    pickle.loads(path.read_bytes())  # noqa: S301
    assert marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("os", "system"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy._core.multiarray", "_reconstruct.__globals__"),
        ("codecs", "encode"),
        ("numpy.coreX", "scalar"),
        ("functools", "partial"),
    ],
)
def test_every_other_name_is_refused(module, name, tmp_path):
    path = tmp_path / "a.pkl"
    text = lambda s: b"\x8c" + struct.pack("B", len(s)) + s.encode()  # noqa: E731
    path.write_bytes(b"\x80\x04" + text(module) + text(name) + b"\x93.")
    with pytest.raises(AnnotationError, match=f"asks for {module}.{name}"):
        load_arrays(path)


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, "a"], dtype=object),
        np.zeros(2, dtype=[("a", "u1")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.void(b"abc"),
    ],
    ids=["object", "structured", "datetime", "void"],
)
def test_arrays_of_anything_but_numbers_and_strings_are_refused(value, tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(AnnotationError, match="not allowed"):
        load_arrays(path)


def test_a_pickle_cannot_change_the_reader_for_the_next_file(tmp_path):
    # BUILD with a state on each admitted name: {"x": 1} as attributes, and as slots.
    for module, name in [
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("_codecs", "encode"),
        ("__builtin__", "bytes"),
    ]:
        for state in (b"}(\x8c\x01xK\x01u", b"N}(\x8c\x01xK\x01u\x86"):
            path = tmp_path / "a.pkl"
            head = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, name))
            path.write_bytes(head + b"\x93" + state + b"b.")
            with pytest.raises(AnnotationError):
                load_arrays(path)
    assert (
        dict(read_ucf101_24_pickle(write_pickle(tmp_path, pickled([tube()])))[0].actions[0].boxes) == EXPECTED
    )


def test_a_reference_to_something_outside_is_refused(tmp_path):
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream)
    pickler.persistent_id = lambda value: "elsewhere" if value == "x" else None
    pickler.dump(["x"])
    path = tmp_path / "a.pkl"
    path.write_bytes(stream.getvalue())
    with pytest.raises(AnnotationError, match="outside the file"):
        load_arrays(path)


def test_a_list_that_holds_itself_is_refused(tmp_path):
    loop: list[object] = []
    loop.append(loop)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(loop))
    with pytest.raises(AnnotationError, match=r"a\.pkl"):
        load_arrays(path)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), noise=st.binary(max_size=3))
def test_a_damaged_pickle_is_one_clear_error_or_still_right(cut, noise, tmp_path_factory):
    path = write_pickle(tmp_path_factory.mktemp("cut"), pickled([tube()]))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut] + noise + whole[cut + len(noise) :] if cut % 2 else whole[:cut] + noise)
    reason = None
    try:
        read_ucf101_24_pickle(path)
    except AnnotationError as error:  # and nothing else
        reason = str(error)
    assert reason is None or str(path) in reason


# Faults


@pytest.mark.parametrize(
    ("tubes", "numf", "reason"),
    [
        ([tube(label=24)], 9, r"class 24 \(from 0\) is not one of 24"),
        ([tube(label=1)], 9, "a tube of class 'BasketballDunk' in a video of 'Basketball'"),
        ([tube(ef=6)], 9, r"3 boxes for the 4 frames \[2, 6\)"),
        ([tube(sf=5, ef=2)], 9, r"3 boxes for the -3 frames"),
        ([tube()], 4, "ends behind frame 4; the video has 4"),
        ([tube(boxes=BOXES * np.uint8([[1], [0], [1]]))], 9, r": frame 3: box .* is empty or reversed"),
        ([tube(boxes=np.uint16(BOXES) + np.uint16([200, 0, 0, 0]))], 9, "frame 2: .*outside the frame"),
        ([tube(boxes=np.array([[np.nan] * 4] * 3))], 9, "frame 2: box"),
        ([{"sf": 1}], 9, "has no 'ef'; it has 'sf'"),
        ([tube(sf=[1, 2])], 9, "expected one number"),
        (["tube"], 9, "expected an object with 'sf', found str"),
    ],
)
def test_a_faulty_tube_is_an_error_with_file_key_and_reason(tubes, numf, reason, tmp_path):
    path = write_pickle(tmp_path, pickled(tubes, numf=numf))
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_ucf101_24_pickle(path)
    assert str(path) in str(caught.value)
    assert NAME in str(caught.value)


def test_a_faulty_tube_in_the_mat_file_names_its_place(tmp_path):
    path = write_mat(tmp_path, [(NAME, 9, [(3, 5, 1, BOXES)]), ("Biking/b", 9, [(3, 6, 3, BOXES)])])
    with pytest.raises(AnnotationError, match=r"finalAnnots\.mat, annot\(2\) 'Biking/b': 3 boxes for the 4"):
        read_ucf101_24_mat(path)


def test_a_name_that_appears_twice_is_an_error(tmp_path):
    path = write_mat(tmp_path, [(NAME, 9, [(3, 5, 1, BOXES)])] * 2)
    with pytest.raises(AnnotationError, match=r"annot\(2\).*the name appears twice"):
        read_ucf101_24_mat(path)


def test_faulty_videos_can_be_skipped_with_one_warning(tmp_path):
    good = "Biking/v_Biking_g01_c01"
    content = pickled([tube(ef=6)]) | pickled([tube(2)], name=good) | pickled([tube(9)], name="Biking/x")
    path = write_pickle(tmp_path, content)
    with pytest.warns(UserWarning, match=r"2 faulty record\(s\) left out; the first: .*3 boxes") as caught:
        videos = read_ucf101_24_pickle(path, on_error="skip")
    assert [video.video_id for video in videos] == [good]
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("fps", [0, -1, float("nan")])
def test_a_frame_rate_must_be_positive(fps, tmp_path):
    with pytest.raises(ValueError, match="fps must be above 0"):
        read_ucf101_24_pickle(write_pickle(tmp_path, pickled([tube()])), fps=fps)


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 5.0 MAT-file" + b" " * 200, b"\x89HDF\r\n\x1a\n" + b"\0" * 600]
)
def test_what_is_not_a_mat_file_is_one_clear_error(content, tmp_path):
    path = tmp_path / "finalAnnots.mat"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"finalAnnots\.mat: not a MATLAB file"):
        read_ucf101_24_mat(path)


def test_another_mat_file_is_refused(tmp_path):
    path = tmp_path / "other.mat"
    scipy_io.savemat(path, {"x": np.zeros(3)})
    with pytest.raises(AnnotationError, match="has no variable 'annot'"):
        read_ucf101_24_mat(path)
    scipy_io.savemat(path, {"annot": np.zeros(3)})
    with pytest.raises(AnnotationError, match="'annot' is not a struct"):
        read_ucf101_24_mat(path)


@pytest.mark.parametrize("reader", [read_ucf101_24_mat, read_ucf101_24_pickle, read_ucf101_24_split])
def test_a_missing_file_is_a_file_not_found_error(reader, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        reader(tmp_path / "nothing")


def test_without_scipy_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r"captum-ext\[bench\]"):
        read_ucf101_24_mat(tmp_path / "x.mat")


# Splits


@pytest.mark.parametrize(
    "text",
    [
        "Basketball/v_Basketball_g01_c01\nBiking/v_Biking_g01_c01\n",
        "\ufeffBasketball/v_Basketball_g01_c01.avi 1\r\n\r\nBiking/v_Biking_g01_c01.avi 2",
    ],
)
def test_a_split_gives_names_with_or_without_suffix_class_mark_and_blank_lines(text, tmp_path):
    path = tmp_path / "testlist01.txt"
    path.write_bytes(text.encode())
    assert read_ucf101_24_split(path) == [NAME, "Biking/v_Biking_g01_c01"]


@pytest.mark.parametrize(
    ("text", "reason"), [("a/b\n\na/b.avi 3\n", "line 3: 'a/b' is in line 1"), ("a\n", "line 1: 'a' is not")]
)
def test_a_faulty_split_names_the_line(text, reason, tmp_path):
    path = Path(tmp_path / "testlist01.txt")
    path.write_text(text)
    with pytest.raises(AnnotationError, match=reason):
        read_ucf101_24_split(path)
