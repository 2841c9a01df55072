"""The benchmark of training with Excitation Dropout, on a network small enough for a test."""

import json
from argparse import Namespace

import torch

from benchmarks import speed_dropout
from captum_ext.models import CNN2


def small(batch_size, device):
    model = CNN2(num_classes=3, image_size=16, hidden_size=8).to(device)
    batch = torch.rand(batch_size, 3, 16, 16), torch.randint(3, (batch_size,))
    return speed_dropout.Subject(model, "dropout1", ["fc2", "relu2", "classifier"], batch)


def test_every_variant_is_timed_against_the_plain_layer_of_its_round(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed_dropout, "_SUBJECTS", {"cnn2": small})
    arguments = Namespace(rounds=3, device="cpu", threads=1, batch_size=2, only=["cnn2"], output=tmp_path)
    threads = torch.get_num_threads()
    try:
        speed_dropout.run(arguments)
    finally:
        torch.set_num_threads(threads)
    rows = [json.loads(line) for line in (tmp_path / "speed_dropout.jsonl").read_text().splitlines()]
    assert [row["dropout"] for row in rows] == [
        "nn.Dropout",
        "nn.Dropout again",
        "Excitation Dropout",
        "Excitation Dropout, head=",
    ]
    assert rows[0]["ratio"] == 1
    assert all(row["seconds"] > 0 and row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in rows)
    assert "Excitation Dropout, head=" in capsys.readouterr().out
