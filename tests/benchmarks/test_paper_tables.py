"""Every table of the EB-R paper on generated and real-shaped data; figures of tiny runs mean nothing."""

import json
import math

import pytest
import real_data
import torch

from benchmarks.__main__ import main
from benchmarks.ebr.detection import Segments, precision_cell
from benchmarks.ebr.table4 import _detections
from benchmarks.ebr.untrimmed import Series
from benchmarks.suite.clips import runs
from benchmarks.suite.data_sets import ambiguous_spans, untrimmed_videos
from captum_ext.models import FrameCNNLSTM, save_checkpoint

TINY = ["--train", "2", "--test", "1", "--epochs", "1", "--workers", "0", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


def _exit_code(name, output, prepared, *options):
    return main(["run", name, "--output", str(output), "--prepared", str(prepared), *TINY, *options])


def run(name, output, prepared, *options):
    assert _exit_code(name, output, prepared, *options) == 0
    facts, *lines = (json.loads(line) for line in (output / "tables.jsonl").read_text().splitlines())
    cells = {(line["table"], line["method"], line["measure"]): line for line in lines if "method" in line}
    for (_, _, measure), cell in cells.items():
        lowest = -1 if measure.startswith("evidence") else 0
        assert math.isnan(cell["value"]) or lowest <= cell["value"] <= 1
    assert (output / "report.html").read_text().count("<table>") >= 2
    return facts, cells


def methods(cells, table):
    return {method for title, method, _ in cells if title.startswith(table)}


def test_table_1_has_all_six_methods_with_chance_centre_and_oracle(tmp_path, prepared):
    _, cells = run("ebr_table1", tmp_path / "out", prepared)
    wanted = {"EB", "EB-R", "cEB", "cEB-R", "BP", "BP-R", "random point (exact)", "centre", "oracle"}
    assert methods(cells, "EB-R Table 1") == wanted
    of_frames = {m: c for (_, m, measure), c in cells.items() if measure == "all frames (%)"}
    assert "low" in of_frames["cEB-R"]
    assert "low" not in of_frames["random point (exact)"]


def test_table_1_runs_on_ucf101_24(tmp_path, prepared):
    root = tmp_path / "ucf"
    root.mkdir()
    facts, _ = run("ebr_table1", tmp_path / "out", prepared, "--data-root", str(real_data.ucf101_24(root)))
    assert facts["about"] == "Clips under ucf."
    assert facts["clips"] == 4
    # Every frame has a box, and each clip is sampled at 16 of its 20 frames.
    (frames,) = {json.loads(line)["values"]["frames"] for line in _lines(tmp_path / "out")}
    assert 0 < frames <= 16


def test_changed_annotations_are_read_again_and_their_results_kept_apart(tmp_path, prepared, capsys):
    root = real_data.ucf101_24(tmp_path)
    given = ("--data-root", str(root), "--limit", "1")
    run("ebr_table1", tmp_path / "out", prepared, *given)
    names = (root / "testlist01.txt").read_text().split()
    (root / "testlist01.txt").write_text("\n".join(names[1:]) + "\n")
    assert _exit_code("ebr_table1", tmp_path / "out", prepared, *given, "--resume") == 1
    assert "other settings (annotations: " in capsys.readouterr().err
    run("ebr_table1", tmp_path / "new", prepared, *given)
    assert {json.loads(line)["clip"] for line in _lines(tmp_path / "out")} == {names[0]}
    # The next of its class is the first one now.
    assert {json.loads(line)["clip"] for line in _lines(tmp_path / "new")} == {names[2]}


def test_figure_7_has_a_picture_and_half_of_the_frames_on_each_side(tmp_path, prepared):
    run("ebr_figure7", tmp_path / "out", prepared)
    assert (tmp_path / "out" / "figure7.png").stat().st_size > 5000
    assert "figure7.png" not in (tmp_path / "out" / "report.html").read_text()  # it is inside
    # Those of the table and of the figure.
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/png") == 2
    for line in _lines(tmp_path / "out"):
        values = json.loads(line)["values"]
        if json.loads(line)["cell"] == "cEB-R":
            assert values["in GT"] + values["in rand"] == pytest.approx(0, abs=1e-4)
        if json.loads(line)["cell"] == "EB-R":
            assert values["in GT"] + values["in rand"] == pytest.approx(1, abs=1e-4)


def test_table_2_has_known_and_unknown_lengths_and_the_whole_clip_wins_at_65(tmp_path, prepared):
    _, cells = run("ebr_table2", tmp_path / "out", prepared, "--limit", "2")
    column = "{} length, {} frames (%)".format
    accuracy = "EB-R Table 2: accuracy of detection"
    assert cells[accuracy, "whole clip", column("unknown", 65)]["value"] == 1
    assert cells[accuracy, "whole clip", column("unknown", 41)]["value"] == 0
    assert cells[accuracy, "random window (exact)", column("known", 11)]["value"] < 0.07
    assert (accuracy, "EB-R", column("unknown", 11)) not in cells  # never negative, so no window ends
    assert methods(cells, "EB-R Table 2: mean average") == {"probability", "EB-R", "cEB-R", "Grad-CAM"}


def test_table_3_gives_every_row_the_chance_of_its_own_guesses(tmp_path, prepared):
    _, cells = run("ebr_table3", tmp_path / "out", prepared, "--videos", "2")
    table = "EB-R Table 3: pointing in time"
    one = cells[table, "cEB-R", "chance (%)"]["value"]
    oracle = cells[table, "peak probability or cEB-R (oracle)", "chance (%)"]["value"]
    assert (
        one < oracle < 1 - (1 - one) ** 2 + 1e-9
    )  # Jensen: the mean of squares is above the square of the mean
    assert cells[table, "random point (exact)", "accuracy (%)"]["value"] == pytest.approx(one)
    assert {f"peak probability + cEB-R: {how}" for how in ("sum", "product", "rank_mean", "gate")} < methods(
        cells, table
    )


def test_tables_3_and_4_run_on_thumos14(tmp_path, prepared):
    root = tmp_path / "thumos"
    root.mkdir()
    given = ["--data-root", str(real_data.thumos14(root)), "--checkpoint", str(root / "model.pt")]
    facts, cells = run("ebr_table3", tmp_path / "out3", prepared, *given, "--window", "32")
    # The first video has two classes at the same time, the second one class twice.
    assert cells["EB-R Table 3: pointing in time", "cEB-R", "accuracy (%)"]["n"] == 2  # videos
    assert facts["clips"] == 2 * 3 + 3  # clips of 32 frames from 80: 0, 32 and 48
    _, cells = run("ebr_table4", tmp_path / "out4", prepared, *given, "--window", "32")
    assert methods(cells, "EB-R Table 4") == {"whole video", "peak probability", "cEB-R", "oracle"}


def test_thumos14_with_a_model_that_does_not_know_a_class_is_refused(tmp_path, prepared, capsys):
    root = tmp_path / "thumos"
    root.mkdir()
    real_data.thumos14(root)
    built_with = {"num_classes": 1, "output": "steps"}
    save_checkpoint(root / "model.pt", FrameCNNLSTM(**built_with), arguments=built_with, labels=["Diving"])
    given = ["--data-root", str(root), "--checkpoint", str(root / "model.pt"), "--window", "32"]
    assert _exit_code("ebr_table3", tmp_path / "out", prepared, *given) == 1
    assert "does not know the classes ['CliffDiving']" in capsys.readouterr().err


def test_table_5_points_at_nouns_of_generated_clips(tmp_path, prepared):
    facts, cells = run("ebr_table5", tmp_path / "out", prepared)
    assert facts["clips"] == 2  # subject and object of one clip
    assert {"cEB-R", "caption-guided saliency", "centre"} < methods(cells, "EB-R Table 5")


def test_table_5_runs_on_flickr30k_entities(tmp_path, prepared):
    root = tmp_path / "flickr"
    root.mkdir()
    given = ["--data-root", str(real_data.flickr30k_entities(root))]
    facts, _ = run("ebr_table5", tmp_path / "out", prepared, *given)
    assert facts["clips"] == 2
    # The crop of 64 x 64 from 80 x 60 keeps x from 10 to 70: boxes of 5 to 35 and 40 to 70, 10 to 50 high.
    ids = {json.loads(line)["clip"] for line in _lines(tmp_path / "out")}
    assert ids == {"1002/0/1", "1002/0/3"}


def test_a_folder_without_a_known_data_set_is_refused(tmp_path, prepared, capsys):
    given = ("--data-root", str(tmp_path))
    assert _exit_code("ebr_table1", tmp_path / "out", prepared, *given) == 1
    assert "neither test.json nor UCF101-24" in capsys.readouterr().err


def test_windows_that_touch_are_one_detection_ranked_by_its_mean_probability():
    series = Series(
        scores=torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.1, 0.1], [0.5, 0.5, 0.5, 0.5]]),
        videos=torch.tensor([0, 0, 0]),
        starts=torch.tensor([0, 4, 0]),
        labels=torch.tensor([1, 1, 0]),
    )
    windows = torch.tensor([[2, 4], [0, 2], [1, 2]])
    found = _detections(series, windows, video=0, n_frames=8, n_classes=2)
    assert found.windows.tolist() == [[1, 2], [2, 6]]
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.5, (0.3 + 0.4 + 0.9 + 0.8) / 4])


def test_where_the_last_clip_of_a_video_overlaps_the_one_before_no_frame_counts_twice():
    series = Series(
        scores=torch.tensor([[0.1, 0.1, 0.2, 0.4], [0.4, 0.8, 0.6, 0.6]]),
        videos=torch.tensor([0, 0]),
        starts=torch.tensor([0, 2]),
        labels=torch.tensor([0, 0]),
    )
    both = _detections(series, torch.tensor([[0, 4], [0, 4]]), video=0, n_frames=6, n_classes=1)
    assert both.windows.tolist() == [[0, 6]]
    assert both.scores.tolist() == pytest.approx([(0.1 + 0.1 + 0.3 + 0.6 + 0.6 + 0.6) / 6])
    # The later clip's window begins, and ends, before that of the earlier clip.
    series = Series(torch.rand(2, 4), series.videos, torch.tensor([0, 1]), series.labels)
    apart = _detections(series, torch.tensor([[3, 4], [0, 1]]), video=0, n_frames=5, n_classes=1)
    assert apart.windows.tolist() == [[1, 2], [3, 4]]


def test_a_detection_does_not_reach_behind_a_video_shorter_than_a_clip():
    series = Series(torch.tensor([[0.2, 0.4, 0.9, 0.9]]), *torch.tensor([[0], [0], [0]]))
    found = _detections(series, torch.tensor([[0, 4]]), video=0, n_frames=2, n_classes=1)
    assert found.windows.tolist() == [[0, 2]]
    assert found.scores.tolist() == pytest.approx([0.3])


def test_ambiguous_intervals_of_thumos14_are_half_open_frames_of_their_video(tmp_path):
    videos = untrimmed_videos(real_data.thumos14(tmp_path), ("CliffDiving", "Diving"))
    assert ambiguous_spans(tmp_path, videos) == {"video_test_0000006": [[60, 70]]}


def test_a_wrong_detection_in_an_ambiguous_interval_is_dropped_under_thumos14():
    spans, labels = torch.tensor([[0.0, 5.0]]), torch.tensor([0])
    found = [Segments(torch.tensor([[8.0, 9.0], [0.0, 5.0]]), torch.tensor([0, 0]), torch.tensor([0.9, 0.5]))]
    plain = [Segments(spans, labels)]
    excused = [Segments(spans, labels, ambiguous=torch.tensor([[8.0, 12.0]]))]
    assert precision_cell(found, plain, "thumos14", 0.5).value == 0.5
    assert precision_cell(found, excused, "thumos14", 0.5).value == 1.0


def test_a_perfect_detector_has_an_ap_of_one_and_an_empty_one_of_zero():
    spans, labels = torch.tensor([[0.0, 5.0], [7.0, 9.0]]), torch.tensor([0, 1])
    truth = [Segments(spans, labels)]
    right = precision_cell([Segments(spans, labels, torch.tensor([0.5, 0.1]))], truth, "thumos14", 0.5)
    none = torch.empty(0)
    wrong = precision_cell([Segments(none.view(0, 2), none.long(), none)], truth, "thumos14", 0.5)
    assert (right.value, wrong.value) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("inside", "spans"),
    [
        ([True, True, False], [[0, 2]]),
        ([False, True, False, True, True], [[1, 2], [3, 5]]),
        ([False, False], []),
    ],
)
def test_convention_runs_are_half_open(inside, spans):
    assert runs(torch.tensor(inside)).tolist() == spans


def _lines(output):
    for file in sorted(output.glob("results-*.jsonl")):
        yield from file.read_text().splitlines()
