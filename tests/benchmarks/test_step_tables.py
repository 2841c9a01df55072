"""The STEP paper's tables and the cost of an iteration, by command; in tiny runs the figures mean nothing."""

import json
import math

import pytest
import torch
from torch import nn

from benchmarks import speed_step
from benchmarks.__main__ import main
from benchmarks.step.methods import PERTURBATIONS

TINY = ["--train", "1", "--test", "1", "--minimum", "1", "--epochs", "1", "--iterations", "2", "--masks", "4"]


def test_all_tables_have_all_methods(tmp_path, capsys):
    assert main(["run", "step_tables", "--output", str(tmp_path), *TINY]) == 0
    printed = capsys.readouterr().out
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    facts, cells = records[0], records[1:]
    assert facts["iterations"] == 2
    assert set(facts["accuracy"]) == {"3-D CNN", "CNN-LSTM"}

    def methods(table, measure):
        return {
            cell["method"]
            for cell in cells
            if cell["table"].startswith(table) and cell["measure"].startswith(measure)
        }

    assert methods("Table 2", "smallest") == {"3-D CNN", "CNN-LSTM"}
    both = {"random point (exact)", "centre", "Grad-CAM", "Rise", "EP-3D", "STEP"}
    assert methods("Table 3", "S-PT") == both | {"SaliencyTubes", "EB-R", "cEB-R"}
    assert methods("Table 4", "S-PT") == set(PERTURBATIONS)
    in_time = {"random frame (exact)", "centre", "Grad-CAM", "Rise", "EB-R", "cEB-R", *PERTURBATIONS}
    assert methods("Table 5", "T-PT") == in_time - {"EP-3D-Evenly"}
    assert all(0 <= cell["value"] <= 1 for cell in cells if not cell["table"].startswith(("Table 4", "Cost")))
    (chance,) = {
        cell["value"]
        for cell in cells
        if cell["method"] == "random frame (exact)" and "T-PT" in cell["measure"]
    }
    assert chance == pytest.approx(6 / 16)
    assert "Table 5: temporal pointing game" in printed
    # Six clips with six frames of the action each; the other action's boxes do not count.
    assert "the 36 frames of the class's own action" in printed


def test_a_method_of_one_model_only_has_no_cell_for_the_other(tmp_path):
    assert main(["run", "step_tables", "--output", str(tmp_path), *TINY, "--models", "cnn-lstm"]) == 0
    cells = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()][1:]
    named = {cell["method"] for cell in cells}
    assert "EB-R" in named
    assert "SaliencyTubes" not in named


def test_every_iteration_is_paired_with_a_bare_pass():
    model = nn.Sequential(nn.Conv3d(3, 2, 3, stride=2), nn.Flatten(), nn.LazyLinear(3)).eval()
    x = torch.rand(1, 3, 8, 20, 24)
    with torch.no_grad():
        model(x)
    paired = speed_step.Paired(model, "cpu")
    speed_step._explain(paired, x, "STEP", n_iter=5)
    assert len(paired.bare) == len(paired.iterations) == 5
    assert len(paired.ratios) == 3
    assert all(math.isfinite(ratio) and ratio > 1 for ratio in paired.ratios)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_speed_step_refuses_no_iterations(tmp_path):
    with pytest.raises(SystemExit, match="number from 1"):
        main(["run", "speed_step", "--output", str(tmp_path), "--iterations", "0"])
