"""MSR-VTT: videos, their sentences, and everything that can be wrong with either."""

import json

import pytest

from captum_ext.data.annotations import AnnotationError, CaptionedVideo, read_msr_vtt

VIDEOS = [
    {
        "category": 9,
        "url": "https://www.youtube.com/watch?v=9lZi22qLlEo",
        "video_id": "video0",
        "start time": 137.72,
        "end time": 149.44,
        "split": "train",
        "id": 0,
    },
    {"video_id": "video7", "start time": 0, "end time": 9.5, "split": "validate"},
]
SENTENCES = [
    {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
    {"caption": "a cat plays", "video_id": "video7", "sen_id": 5},
    {"caption": "a man drives a car", "video_id": "video0", "sen_id": 1},
]


def write(folder, videos=VIDEOS, sentences=SENTENCES):
    path = folder / "videodatainfo.json"
    path.write_text(json.dumps({"info": {}, "videos": videos, "sentences": sentences}))
    return path


def test_convention_times_are_of_the_source_and_captions_keep_their_order(tmp_path):
    assert read_msr_vtt(write(tmp_path)) == [
        CaptionedVideo(
            "video0",
            ("a car is shown", "a man drives a car"),
            "train",
            9,
            "https://www.youtube.com/watch?v=9lZi22qLlEo",
            137.72,
            149.44,
        ),
        CaptionedVideo("video7", ("a cat plays",), "validate", None, None, 0.0, 9.5),
    ]
    assert [video.video_id for video in read_msr_vtt(write(tmp_path), subset="validate")] == ["video7"]


@pytest.mark.parametrize(
    ("videos", "sentences", "where", "reason"),
    [
        ([*VIDEOS, VIDEOS[0]], SENTENCES, "videos/2", "the video 'video0' appears twice"),
        ([{**VIDEOS[1], "end time": 0}], [], "videos/0", "end time 0.0 is not after it"),
        ([{**VIDEOS[1], "start time": -1}], [], "videos/0", "start time -1.0 is negative"),
        ([{"video_id": "v"}], [], "videos/0", "has no 'start time'; it has 'video_id'"),
        ([{**VIDEOS[1], "category": "x"}], [], "videos/0", "category must be a number"),
        (VIDEOS, [*SENTENCES, SENTENCES[0]], "sentences/3", "the sen_id 0 appears twice"),
        (VIDEOS[:1], SENTENCES, "sentences/1", "the video 'video7' is not among 'videos'"),
        (VIDEOS, [{**SENTENCES[0], "caption": " "}], "sentences/0", "caption must be a text"),
    ],
)
def test_a_faulty_record_is_an_error_with_file_key_and_reason(videos, sentences, where, reason, tmp_path):
    path = write(tmp_path, videos, sentences)
    with pytest.raises(AnnotationError, match=reason) as caught:
        read_msr_vtt(path)
    assert str(caught.value).startswith(f"{path}, {where}: ")
    with pytest.warns(UserWarning, match="faulty"):
        read_msr_vtt(path, on_error="skip")


@pytest.mark.parametrize("text", ["[]", "{}", '{"videos": []}', '{"videos": {}, "sentences": []}'])
def test_another_json_file_is_refused(text, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=r"has no list '(videos|sentences)'"):
        read_msr_vtt(path)
