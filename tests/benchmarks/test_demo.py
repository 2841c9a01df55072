"""The demo runs from clips to report; a tiny run, so the figures mean nothing."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.registry import BENCHMARKS
from benchmarks.tables import Cell, Table
from captum_ext.models import load_checkpoint

PARTS = {
    "results.jsonl",
    "results.md",
    "report.html",
    "timeline.png",
    "overlay.webp",
    "frame_cnn_lstm.pt",
    "clips",
    "concatenated",
    "captioned-clips",
    "caption_words.png",
}


def test_every_benchmark_is_listed(capsys):
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(BENCHMARKS)


def test_the_demo_writes_tables_report_and_checkpoint(tmp_path, capsys):
    out = tmp_path / "out"
    small = ["--train", "3", "--test", "2", "--epochs", "1", "--caption-train", "12", "--caption-test", "2"]
    assert main(["run", "demo", "--output", str(out), *small, "--mask-iterations", "2"]) == 0
    assert {path.name for path in out.iterdir()} == PARTS
    printed = capsys.readouterr().out
    for row in ("random (exact)", "centre", "whole clip", "oracle", "cEB-R", "EB-R", "BP-R", "Grad-CAM"):
        assert row in printed
    facts, *cells = (json.loads(line) for line in (out / "results.jsonl").read_text().splitlines())
    assert facts["torch"] == torch.__version__
    assert all(0 <= cell["value"] <= 1 and cell["n"] > 0 for cell in cells)
    assert {cell["table"] for cell in cells} > {
        "Where: single actions",
        "When: rand+GT",
        "When: GT+rand",
        "When: rand+GT+rand",
        "Where: words on their own object",
    }
    assert load_checkpoint(out / "frame_cnn_lstm.pt").labels[0] == "square left-right"
    report = (out / "report.html").read_text()
    assert "BP (per frame)" in report
    assert "CPU ms per clip" in report
    assert "moves" in report  # captions
    for pattern in ("rand+GT", "single action"):
        assert report.count(f'data-title="{pattern}: square left-right, seen through masks"') == 1
    assert report.count('"seeThrough":true') == 2
    for name in ("STEP", "EP-3D"):
        assert report.count(f'{{"name":"{name}","levels"') == 2  # beside the other methods of the same clip
        for area in ("0.05", "0.1"):
            assert report.count(f'{{"name":"{name}, area {area}","levels"') == 2
            assert report.count(f"<dt>{name}, area {area}</dt><dd>keeps p = ") == 2


def test_a_cell_counts_no_missing_clips_and_is_seeded():
    values = torch.tensor([1.0, 0.0, float("nan"), 1.0, 1.0])
    cell = Cell.of(values)
    assert (cell.value, cell.n) == (0.75, 4)
    assert cell == Cell.of(values)
    low, high = cell.interval
    assert 0 <= low <= 0.75 <= high <= 1


def test_a_ratio_draws_clips_and_not_their_frames():
    hits, frames = torch.tensor([3.0, 0.0, 2.0, 0.0]), torch.tensor([4, 2, 2, 0])
    cell = Cell.ratio(hits, frames)
    assert (cell.value, cell.n) == (5 / 8, 3)  # the last clip has no frame that counts
    drawn = torch.randint(3, (1000, 3), generator=torch.Generator().manual_seed(0))
    shares = sorted(float(hits[d].sum() / frames[d].sum()) for d in drawn)
    assert cell.interval == pytest.approx((shares[25], shares[-26]), abs=0.02)
    alike = Cell.ratio(torch.tensor([1.0, 2.0]), torch.tensor([2, 4]))
    assert alike.interval == (0.5, 0.5)


def test_in_a_mean_over_classes_every_class_counts_the_same():
    hits, frames = torch.tensor([9.0, 9.0, 0.0]), torch.tensor([9, 9, 9])
    cell = Cell.ratio(hits, frames, torch.tensor([4.0, 4.0, 7.0]))
    assert (cell.value, cell.n) == (0.5, 3)
    # A resample has both classes, or one of them.
    assert cell.interval == (0.0, 1.0)
    assert Cell.ratio(hits, frames, torch.tensor([0.0, 0.0, 0.0])) == Cell.ratio(hits, frames)


def test_a_table_prints_missing_cells_as_dashes():
    table = Table("Title", ["a (%)", "b (%)"], "Caption.")
    table.add("method", "b (%)", Cell(0.5, 7, (0.25, 0.75)))
    table.add("oracle", "a (%)", Cell(1.0, 7))
    assert table.cells() == [["method", "-", "50.0 [25.0, 75.0]"], ["oracle", "100.0", "-"]]
    assert "| method | - | 50.0 [25.0, 75.0] |" in table.markdown()
    assert table.records()[1] == {
        "table": "Title",
        "method": "oracle",
        "measure": "a (%)",
        "value": 1.0,
        "n": 7,
        "exact": True,
    }


def test_an_unknown_model_to_time_is_one_clear_line(tmp_path: Path):
    with pytest.raises(SystemExit, match="--only takes vgg16"):
        main(["run", "speed_eb", "--output", str(tmp_path), "--only", "vgg"])
