"""The STEP paper's tables and the cost of an iteration, by command; in tiny runs the figures mean nothing."""

import argparse
import json
import math
import shutil

import pytest
import torch
from torch import nn

from benchmarks import speed_step
from benchmarks.__main__ import main
from benchmarks.registry import BENCHMARKS
from benchmarks.step.methods import PERTURBATIONS, every_method, perturbations
from benchmarks.step.networks import Network
from benchmarks.step.protocol import pointing_on
from benchmarks.suite.batches import Batch
from benchmarks.suite.evaluation import Explained
from captum_ext.attr import SpatioTemporalExtremalPerturbation
from captum_ext.data import generate_actions
from captum_ext.models import FrameCNNLSTM
from captum_ext.perturbation import StepSettings

TABLES = ["step_table2", "step_table3", "step_table4", "step_table5"]
BOTH = {"Grad-CAM", "RISE", "EP-3D", "STEP"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Six training clips, six held-out ones and networks after one epoch, for all tables here."""
    return tmp_path_factory.mktemp("prepared")


def run(name, output, prepared, *options):
    """The facts and the cells of a run with two iterations of two clips."""
    tiny = ["--train", "1", "--test", "1", "--epochs", "1", "--iterations", "2", "--limit", "2"]
    masks = ["--masks", "4"] if name in ("step_table3", "step_table5") else []
    where = ["--output", str(output), "--prepared", str(prepared), "--workers", "0"]
    assert main(["run", name, *where, *tiny, *masks, *options]) == 0
    facts, *records = [json.loads(line) for line in (output / "tables.jsonl").read_text().splitlines()]
    return facts, [record for record in records if "measure" in record]


def rows(cells, measure):
    return {cell["method"] for cell in cells if cell["measure"] == measure}


def the_value(cells, method, measure):
    (value,) = {cell["value"] for cell in cells if (cell["method"], cell["measure"]) == (method, measure)}
    return value


def results_of(output):
    """What was measured, by clip and cell, without the seconds."""
    records = [json.loads(line) for line in (output / "results-0000.jsonl").read_text().splitlines()]
    found = {(record["clip"], record["cell"]): record["values"] for record in records}
    assert len(found) == len(records)
    return found


def batch_of(number=0, n=2, frames=6, height=24, width=32, labels=(1, 0)):
    return Batch(
        number=number,
        ids=[f"clip {i}" for i in range(n)],
        clips=torch.rand(n, 3, frames, height, width, generator=torch.Generator().manual_seed(5)),
        labels=torch.tensor(labels),
        boxes=torch.full((n, frames, 1, 4), torch.nan),
        spans=[torch.tensor([[1, 3]])] * n,
        extra={},
        broken=[],
    )


def clip_network():
    """A 3-D CNN of the tables' form, for clips of six frames."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv3d(3, 4, 3, stride=2, padding=1), nn.ReLU())
    parts = {"features": features, "pool": nn.AdaptiveAvgPool3d(1), "flat": nn.Flatten()}
    model = nn.Sequential()
    for name, part in parts.items():
        model.add_module(name, part)
    model.add_module("classifier", nn.Linear(4, 3))
    return Network("3-D CNN", model.eval())


def lstm_network():
    torch.manual_seed(1)
    return Network("CNN-LSTM", FrameCNNLSTM(3, hidden_size=5, output="steps", embedding_size=7).eval())


def options(**changed):
    defaults = {"areas": [0.2, 0.4], "iterations": 3, "plateau": None, "masks": 5, "seed": 0}
    return argparse.Namespace(**defaults | changed)


def test_each_table_is_a_benchmark_that_says_what_its_data_root_is():
    assert "step_tables" not in BENCHMARKS
    for name in TABLES:
        module = __import__(BENCHMARKS[name].module, fromlist=["run"])
        assert module.__doc__.startswith(f"Table {name[-1]} of Li et al. (2021)")
        assert "Other than in the paper:" in module.__doc__
        assert "``--data-root``: UCF101-24" in module.__doc__


def test_the_smallest_areas_of_both_networks_are_those_of_their_masks(tmp_path, prepared):
    _, cells = run("step_table2", tmp_path, prepared, "--limit", "1")
    share = "smallest share (%)"
    assert rows(cells, share) == {"3-D CNN", "CNN-LSTM", "whole clip"}
    assert the_value(cells, "whole clip", share) == 1
    assert {cell["n"] for cell in cells} == {1}
    assert all(0 <= cell["value"] <= 1 for cell in cells)
    found = results_of(tmp_path)
    assert {cell for _, cell in found} == {"3-D CNN: EP-3D", "CNN-LSTM: EP-3D"}
    for (_, cell), values in found.items():
        assert set(values) == {"area", "volume", "original", "kept", "recognised"}
        assert the_value(cells, cell.split(":")[0], share) == pytest.approx(values["area"])
        assert values["recognised"] in (0, 1)
        assert values["area"] == 1 or values["kept"] >= 0.99 * values["original"] - 1e-6


def test_pointing_in_space_has_each_method_on_the_networks_that_it_can_explain(tmp_path, prepared, capsys):
    facts, cells = run("step_table3", tmp_path, prepared)
    frame = {"random point (exact)", "centre", "oracle"}
    assert rows(cells, "S-PT (%), 3-D CNN") == frame | BOTH | {"SaliencyTubes"}
    assert rows(cells, "S-PT (%), CNN-LSTM") == frame | BOTH | {"EB-R", "cEB-R"}
    assert all(0 <= cell["value"] <= 1 and cell["n"] == 2 for cell in cells)
    assert {cell["method"] for cell in cells if "low" not in cell} == {"random point (exact)", "oracle"}
    assert (facts["iterations"], facts["masks"]) == (2, 4)
    # Two clips with six frames of the action each; the other action's boxes do not count.
    assert "2 clips rand+GT+rand, the 12 frames of the class's own action" in capsys.readouterr().out


def test_a_resumed_run_draws_the_masks_that_a_whole_one_draws(tmp_path, prepared):
    run("step_table3", tmp_path / "whole", prepared, "--group", "1")
    whole = results_of(tmp_path / "whole")
    # Two baselines, five methods of the 3-D CNN and six of the CNN-LSTM, of two clips.
    assert len(whole) == 2 * (2 + 5 + 6)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    file = tmp_path / "cut" / "results-0000.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    # Without the second clip's last methods and the middle of a line of the first one.
    file.write_bytes(b"".join(lines[:17]) + lines[17][:20])
    run("step_table3", tmp_path / "cut", prepared, "--group", "1", "--resume")
    assert results_of(tmp_path / "cut") == whole


def test_smoothness_is_that_of_perturbations_and_saved_maps_have_their_points_alone(tmp_path, prepared):
    maps = str(tmp_path / "maps")
    _, cells = run("step_table4", tmp_path / "explained", prepared, "--limit", "1", "--save-maps", maps)
    assert rows(cells, "S-PT (%)") == {"random point (exact)", "centre", "oracle", *PERTURBATIONS}
    assert rows(cells, "kept probability (%)") == {"whole clip", *PERTURBATIONS}
    assert rows(cells, "change per frame (%)") == set(PERTURBATIONS)
    assert {cell["table"].rpartition(", ")[2] for cell in cells} == {"3-D CNN", "CNN-LSTM"}
    _, again = run("step_table4", tmp_path / "again", prepared, "--limit", "1", "--from-maps", maps)
    assert {cell["measure"] for cell in again} == {"S-PT (%)"}
    points = [cell for cell in cells if cell["measure"] == "S-PT (%)"]
    assert [(cell["table"], cell["method"]) for cell in again] == [(c["table"], c["method"]) for c in points]


def test_pointing_in_time_has_the_chance_of_six_frames_of_sixteen(tmp_path, prepared):
    _, cells = run("step_table5", tmp_path, prepared)
    frame = {"random frame (exact)", "centre", "oracle"}
    in_time = BOTH | set(PERTURBATIONS) - {"EP-3D-Evenly"}
    for measure in ("T-PT (%)", "frame AUC (%)"):
        assert rows(cells, f"{measure}, 3-D CNN") == frame | in_time | {"SaliencyTubes"}
        assert rows(cells, f"{measure}, CNN-LSTM") == frame | in_time | {"EB-R", "cEB-R"}
    assert the_value(cells, "random frame (exact)", "T-PT (%), 3-D CNN") == pytest.approx(6 / 16)
    assert the_value(cells, "random frame (exact)", "frame AUC (%), CNN-LSTM") == 0.5
    assert {cell["value"] for cell in cells if cell["method"] == "oracle"} == {1.0}
    assert {cell["method"] for cell in cells if "low" not in cell} == {"random frame (exact)", "oracle"}


def test_a_given_checkpoint_is_explained_alone(tmp_path, prepared):
    run("step_table3", tmp_path / "trained", prepared, "--limit", "1")
    (checkpoint,) = prepared.glob("cnn-lstm-*/cnn_lstm.pt")
    given = ["--limit", "1", "--checkpoint", str(checkpoint)]
    _, cells = run("step_table3", tmp_path / "given", prepared, *given)
    assert {cell["measure"] for cell in cells} == {"S-PT (%), CNN-LSTM"}
    trained, again = results_of(tmp_path / "trained"), results_of(tmp_path / "given")
    assert again == {key: values for key, values in trained.items() if "3-D CNN" not in key[1]}


def test_clips_under_a_data_root_are_joined_and_named(tmp_path, capsys):
    for split in ("train", "test"):
        generate_actions(tmp_path / "real", 1, split=split, shapes=("disc",))
    root = ["--data-root", str(tmp_path / "real"), "--limit", "1"]
    facts, cells = run("step_table3", tmp_path / "out", tmp_path / "prepared", *root)
    assert facts["about"] == "Clips under real."
    assert "STEP" in rows(cells, "S-PT (%), 3-D CNN")
    assert "Clips under real." in capsys.readouterr().out


def test_masks_of_rise_follow_from_the_seed_and_the_number_of_the_group():
    network = clip_network()

    def maps(number, seed):
        return every_method(network, options(seed=seed))["RISE"](batch_of(number)).maps

    first = maps(3, seed=0)
    torch.rand(1)
    assert torch.equal(maps(3, seed=0), first)
    assert not torch.equal(maps(4, seed=0), first)
    assert not torch.equal(maps(3, seed=1), first)


@pytest.mark.parametrize("network", [clip_network(), lstm_network()], ids=lambda network: network.name)
def test_every_method_gives_a_map_for_every_frame(network):
    batch = batch_of(height=64, width=72)
    found = every_method(network, options(iterations=1, masks=2))
    own = {"EB-R", "cEB-R"} if network.is_recurrent else {"SaliencyTubes"}
    assert set(found) == {"Grad-CAM", "RISE", *own, *PERTURBATIONS}
    for method in found.values():
        explained = method(batch)
        assert explained.maps.shape[:2] == explained.scores.shape == (2, 6)
        torch.testing.assert_close(explained.scores, explained.maps.sum((2, 3)))


def test_convention_the_cnn_lstm_is_explained_at_its_last_time_step():
    assert lstm_network().target(batch_of(frames=6)) == [(5, 1), (5, 0)]
    assert clip_network().target(batch_of(frames=6)) == [1, 0]


def test_values_of_a_perturbation_are_those_of_its_masks():
    network, batch = clip_network(), batch_of()
    arguments = options(iterations=12, plateau=2)
    explained = perturbations(network, arguments)["EP-3D"](batch)
    _, found = SpatioTemporalExtremalPerturbation(network.module).attribute(
        batch.clips,
        target=[1, 0],
        areas=[0.2, 0.4],
        smoothness=None,
        settings=StepSettings(n_iter=12, plateau=2),
        perturbations_per_eval=2,
        return_masks=True,
    )
    for n in range(2):
        changes, kept, iterations = [], [], []
        for a in range(2):
            mask = found.masks[n, a].double()
            steps = [(mask[t + 1] - mask[t]).abs().mean() for t in range(5)]
            changes.append(float(sum(steps) / 5 / mask.mean()))
            with torch.no_grad():
                whole = network.module(batch.clips[n : n + 1]).softmax(1)[0, batch.labels[n]]
            kept.append(float(found.probabilities[n, a]))
            iterations.append(sum(not math.isnan(loss) for loss in found.losses[n, a].tolist()) / 12)
        assert float(explained.values["change"][n]) == pytest.approx(sum(changes) / 2, rel=1e-5)
        assert float(explained.values["kept"][n]) == pytest.approx(sum(kept) / 2)
        assert float(explained.values["original"][n]) == pytest.approx(float(whole))
        assert float(explained.values["iterations"][n]) == pytest.approx(sum(iterations) / 2)


def test_pointing_in_space_counts_frames_with_a_box_within_the_scaled_radius():
    pointing = pointing_on((56, 84))
    assert pointing.radius == 3.5  # 7 pixels of 112
    maps = torch.zeros(2, 3, 56, 84)
    boxes = torch.full((2, 3, 1, 4), torch.nan)
    points = [[(10, 20), (10, 24), (0, 0)], [(55, 83), (0, 0), (0, 0)]]  # row, column
    for n, clip in enumerate(points):
        for t, (row, column) in enumerate(clip):
            maps[n, t, row, column] = 1.0
    boxes[0, 0] = torch.tensor([10.0, 5.0, 18.0, 15.0])  # last column 17: 3 pixels from column 20, a hit
    boxes[0, 1] = torch.tensor([10.0, 5.0, 18.0, 15.0])  # 7 pixels from column 24
    boxes[1, 0] = torch.tensor([80.0, 50.0, 84.0, 56.0])
    batch = batch_of(frames=3)
    batch = Batch(0, batch.ids, batch.clips, batch.labels, boxes, batch.spans, {}, [])
    found = pointing.measure(batch, Explained.of(maps))
    assert found["hits"].tolist() == [1, 1]
    assert found["frames"].tolist() == [2, 1]
    baselines = pointing.baselines(batch)
    assert baselines["centre"]["hits"].tolist() == [0, 0]
    disc = {(dx, dy) for dx in range(-3, 4) for dy in range(-3, 4) if dx * dx + dy * dy < 3.5**2}
    near = {(x + dx, y + dy) for x in range(10, 18) for y in range(5, 15) for dx, dy in disc}
    corner = {(x + dx, y + dy) for x in range(80, 84) for y in range(50, 56) for dx, dy in disc}
    inside = [sum(0 <= x < 84 and 0 <= y < 56 for x, y in pixels) / (56 * 84) for pixels in (near, corner)]
    random = baselines["random point (exact)"]["hits"].tolist()
    assert random == pytest.approx([2 * inside[0], inside[1]])


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
