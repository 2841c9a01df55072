"""Faithfulness and sanity as tables; figures of tiny runs mean nothing."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.quality.sanity import _tables
from benchmarks.suite.evaluation import Evaluated
from benchmarks.suite.results import Record

TINY = ["--train", "2", "--test", "1", "--epochs", "1", "--workers", "0", "--accelerator", "cpu"]


def run(name, tmp_path, *options):
    output, prepared = tmp_path / "out", tmp_path / "prepared"
    return main(["run", name, "--output", str(output), "--prepared", str(prepared), *TINY, *options])


def test_sanity_has_every_layer_of_the_small_network_and_its_negative_control(tmp_path):
    assert run("sanity", tmp_path, "--limit", "1") == 0
    _, header, *lines = (json.loads(line) for line in (tmp_path / "out" / "tables.jsonl").open())
    assert header["columns"][:4] == ["classifier", "+ lstm", "+ embedding", "+ features"]
    cells = {(line["method"], line["measure"]): line["value"] for line in lines}
    # A map that never looks at the model stays as it is.
    assert cells["random map", "+ features"] == pytest.approx(1)
    assert cells["cEB-R", "conservation"] == pytest.approx(0, abs=1e-4)
    assert ("Grad-CAM", "conservation") not in cells


def test_layers_of_another_network_stand_under_their_own_names():
    values = {"classifier": 0.75, "lstm": 0.5, "fc": 0.25, "features": 0.0}
    evaluated = Evaluated([Record("clip", "EB-R", values)], {})
    (table,) = _tables(evaluated)
    assert table.columns[:4] == ["classifier", "+ lstm", "+ fc", "+ features"]
    assert [table.rows["EB-R"][column].value for column in table.columns[:4]] == [0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("name", ["faithfulness", "sanity"])
def test_figures_that_need_the_model_are_not_made_of_saved_maps(tmp_path, capsys, name):
    assert run(name, tmp_path, "--from-maps", str(tmp_path)) == 1
    assert "running the model again" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
