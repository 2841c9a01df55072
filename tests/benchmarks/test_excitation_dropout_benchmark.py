"""The experiments of chapter 5 by command; in tiny runs the figures mean nothing, but they are all there."""

import json
import math
import pickle

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.excitation_dropout.evaluation import CURVES
from benchmarks.excitation_dropout.methods import METHODS, RATED, STANDARD
from benchmarks.excitation_dropout.seeds import over_seeds
from benchmarks.excitation_dropout.task import load_images

TINY = [
    "--quick",
    "--train",
    "20",
    "--test",
    "20",
    "--measured",
    "12",
    "--epochs",
    "1",
    "--hidden-size",
    "24",
]


def run(folder, *arguments):
    assert main(["run", "excitation_dropout", "--output", str(folder), "--processes", "1", *arguments]) == 0
    lines = [json.loads(line) for line in (folder / "tables.jsonl").read_text().splitlines()]
    return lines[0], [line for line in lines[1:] if "method" in line]


def test_all_tables_and_plots_have_all_methods_and_a_second_run_resumes(tmp_path, capsys):
    arguments = [*TINY, "--seeds", "2", "--rates", "0.25"]
    facts, cells = run(tmp_path, *arguments)
    assert facts["networks"] == 2 * (len(METHODS) + len(RATED))
    methods = {}
    for cell in cells:
        methods.setdefault(cell["table"].partition(" (")[0], set()).add(cell["method"])
        assert cell["n"] == 2
        assert cell["low"] <= cell["value"] <= cell["high"]
    assert methods == {
        "Accuracy": set(METHODS),
        "Utilisation of the first linear layer": set(METHODS),
        "Resilience to compression": set(METHODS),
        "Sensitivity to the drop rate": set(RATED),
    }
    measures = {cell["measure"] for cell in cells}
    assert {f"{name} (%)" for name in CURVES} | {"conservative filters (%)", "on (%)", "dead (%)"} <= measures
    value = {(cell["method"], cell["measure"]): cell["value"] for cell in cells}
    assert value["No", "ever on (%)"] + value["No", "dead (%)"] == pytest.approx(1)
    pictures = ["accuracy.png", "compression.png", "rates.png", "utilization.png"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == pictures
    assert "Resilience to compression (Figure 5.5)" in (tmp_path / "tables.md").read_text()
    assert "Resilience to compression (Figure 5.5)" in capsys.readouterr().out
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path), "--output", str(page)]) == 0
    assert page.read_text().count("data:image/png") == len(pictures)
    assert "Sensitivity to the drop rate (Table 5.5)" in page.read_text()

    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
    assert len(files) == facts["networks"]
    lost = sorted(files)[0]
    lost.unlink()
    _, resumed = run(tmp_path, *arguments, "--resume")
    assert {path for path in files if path.stat().st_mtime_ns != files[path]} == {lost}
    assert resumed == cells  # the same seeds give the same networks


def test_two_processes_train_what_one_does(tmp_path):
    arguments = [*TINY, "--seeds", "1", "--rates", "--methods", STANDARD, "Excitation"]
    _, alone = run(tmp_path / "one", *arguments)
    _, together = run(tmp_path / "two", *arguments, "--processes", "2")
    assert together == alone


def test_generated_images_are_the_same_whenever_made_and_show_two_cues_and_a_stray_one():
    first, again = (load_images("generated", None, 30, 20, 16) for _ in range(2))
    assert torch.equal(first.train, again.train)
    assert torch.equal(first.test_labels, again.test_labels)
    assert first.train.shape == (30, 3, 16, 16)
    assert first.n_classes == 10
    assert not torch.equal(first.train[:20], first.test)
    assert first.train.mean((0, 2, 3)).abs().max() < 1e-5
    assert first.train.std((0, 2, 3)).tolist() == pytest.approx([1] * 3, rel=1e-4)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_cifar_is_read_as_torchvision_unpacks_it(tmp_path, monkeypatch, dataset):
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[dataset]
    # Our few images are not those whose sums torchvision knows.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    labels = "fine_labels" if dataset == "cifar100" else "labels"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3 * 32 * 32), dtype=np.uint8)
    for name, _ in (*kind.train_list, *kind.test_list):
        (folder / name).write_bytes(pickle.dumps({"data": pixels, labels: [4, 0, 7]}))
    meta = {kind.meta["key"]: [str(k) for k in range(10)]}
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps(meta))
    images = load_images(dataset, tmp_path, 2, None, 32)
    assert images.train.shape == (2, 3, 32, 32)
    assert images.train_labels.tolist() == [4, 0]
    assert images.test_labels.tolist() == [4, 0, 7]
    # Channels first, and rows before columns: the sign of the order of two pixels stays.
    raw = torch.from_numpy(pixels).reshape(3, 3, 32, 32)[:2]
    assert torch.equal(images.train[0, 1, 5].argsort(stable=True), raw[0, 1, 5].argsort(stable=True))


def test_without_the_data_the_command_says_what_is_missing(tmp_path):
    with pytest.raises(SystemExit, match="needs --data-root"):
        run(tmp_path, *TINY, "--dataset", "cifar10", "--seeds", "1")
    with pytest.raises(SystemExit, match=r"does not hold cifar100 .*download=True"):
        run(tmp_path, *TINY, "--dataset", "cifar100", "--data-root", str(tmp_path), "--seeds", "1")
    with pytest.raises(SystemExit, match="rates between 0 and 1"):
        run(tmp_path, *TINY, "--rates", "1")
    with pytest.raises(SystemExit, match="at least 1"):
        run(tmp_path, *TINY, "--seeds", "0")


def test_the_interval_over_seeds_is_students():
    cell = over_seeds([0.1, 0.2, 0.4])
    mean, sd = 0.7 / 3, math.sqrt(sum((v - 0.7 / 3) ** 2 for v in (0.1, 0.2, 0.4)) / 2)
    assert cell.value == pytest.approx(mean)
    half = 4.303 * sd / 3**0.5
    assert cell.interval == pytest.approx((0, mean + half))  # cut off: a share is not below 0
    assert over_seeds([0.1, 0.2, 0.4], (-1, 1)).interval == pytest.approx((mean - half, mean + half))
    assert over_seeds([0.3]).interval is None
    assert over_seeds([0.3, math.nan]).n == 1
    assert math.isnan(over_seeds([math.nan]).value)
