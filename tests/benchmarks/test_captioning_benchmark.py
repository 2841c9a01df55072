"""The captioning benchmark runs from clips to picture; a tiny run, so the figures mean nothing."""

import json

import pytest
import torch
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.captioning.evaluation import Grounded, pointing_tables

pytest.importorskip("av")

METHODS = ("cEB-R", "EB-R", "caption-guided saliency", "Grad-CAM", "BP-R")


def test_the_benchmark_writes_tables_costs_and_picture(tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        main(["run", "captioning", "--output", str(out), "--train", "16", "--test", "2", "--epochs", "1"])
        == 0
    )
    assert {path.name for path in out.iterdir()} == {
        "captioned-clips",
        "caption_words.png",
        "captioning.jsonl",
        "captioning.md",
    }
    printed = capsys.readouterr().out
    for row in ("random point (exact)", "centre", "oracle", "decoder passes", *METHODS):
        assert row in printed
    facts, *records = (json.loads(line) for line in (out / "captioning.jsonl").read_text().splitlines())
    assert facts["torch"] == torch.__version__
    assert {record["table"] for record in records} == {
        "Where: words on their own object",
        "Where: words on the other object",
        "Where: nouns on their own object, noun by noun",
        "What the words need",
        "Language share",
        "Cost",
    }
    costs = {record["method"]: record for record in records if record["table"] == "Cost"}
    assert costs["cEB-R"]["decoder"] == 1
    assert costs["cEB-R, 3 words at once"]["cnn"] == pytest.approx(1 / 3)
    assert costs["caption-guided saliency"]["decoder"] == 12 * 16 * 16 + 1
    with Image.open(out / "caption_words.png") as picture:
        assert picture.size[0] > picture.size[1] > 100


def test_a_map_on_its_own_object_scores_there_and_nowhere_else():
    n, t = 2, 3
    boxes = {
        "subject": torch.tensor([2.0, 2.0, 12.0, 12.0]).expand(n, t, 1, 4),
        "object": torch.tensor([40.0, 44.0, 50.0, 60.0]).expand(n, t, 1, 4),
    }
    boxes["motion"] = boxes["subject"]
    on = {kind: torch.zeros(n, t, 64, 64) for kind in ("subject", "object")}
    on["subject"][..., 6, 6] = 1.0
    on["object"][..., 50, 45] = 1.0
    grounded = Grounded(
        clips=torch.zeros(n, 3, t, 64, 64),
        captions=torch.zeros(n, 8, dtype=torch.long),
        words=[[(1, 3)] * n] * 3,
        boxes=boxes,
        maps={
            "right": [on["subject"], on["subject"], on["object"]],
            "wrong": [on["object"], on["object"], on["subject"]],
        },
    )
    own, other = pointing_tables(grounded)
    for table, hits in ((own, {"right": 1.0, "wrong": 0.0}), (other, {"right": 0.0, "wrong": 1.0})):
        for name, value in hits.items():
            assert [cell.value for cell in table.rows[name].values()] == [value] * 3
        assert [cell.interval for cell in table.rows["random point (exact)"].values()] == [None] * 3
