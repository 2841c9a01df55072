"""How far the published recurrences of EB-R are from its equations, and a tanh LSTM from a ReLU one.

A small CNN-LSTM is trained for a minute on generated clips, converted by ``to_relu_lstm`` and fine-tuned.
Held-out clips of two classes, one behind the other, are explained for the class of the second half, once with
``recurrence="value"`` and once with ``"published"``; compared are the evidence per frame S_t of both.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.environment import environment
from captum_ext.attr import RecurrentExcitationBackprop
from captum_ext.data import SyntheticActions
from captum_ext.excitation.operand import Recurrence
from captum_ext.metrics.functional import frame_auc
from captum_ext.models import FrameCNNLSTM, to_relu_lstm

__all__ = ["add_arguments", "run"]

_RECURRENCES: tuple[Recurrence, ...] = ("value", "published")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--clips", type=int, default=90, help="training clips")
    parser.add_argument("--steps", type=int, default=150, help="training steps; half as many to fine-tune")
    parser.add_argument("--held-out", type=int, default=31, help="held-out clips; each is joined to the next")
    parser.add_argument("--frames", type=int, default=12, help="frames of one clip")
    parser.add_argument("--seed", type=int, default=0, help="seed of clips and training")


def run(arguments: argparse.Namespace) -> None:
    """Train, explain with both recurrences, compare the temporal profiles."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    x, y = _clips("train", arguments.clips, arguments.frames, arguments.seed)
    held_out, classes = _clips("test", arguments.held_out, arguments.frames, arguments.seed)
    tanh = FrameCNNLSTM(int(y.max()) + 1, output="steps", hidden_size=48)
    _train(tanh, x, y, arguments.steps)
    relu = to_relu_lstm(tanh)
    _train(relu, x, y, arguments.steps // 2)
    joined = torch.stack([torch.cat(pair, dim=1) for pair in pairwise(held_out)])
    records: list[dict[str, object]] = []
    for name, model in (("tanh LSTM", tanh), ("ReLU LSTM", relu)):
        accuracy = _accuracy(model, held_out, classes)
        for contrastive in (False, True):
            value, published = (
                _profile(model, joined, classes[1:], recurrence, contrastive) for recurrence in _RECURRENCES
            )
            figures = _compare(value, published, contrastive)
            one_clip = {"value": value[0].tolist(), "published": published[0].tolist()}
            method = "cEB-R" if contrastive else "EB-R"
            records.append({"model": name, "accuracy": accuracy, "method": method, **figures, **one_clip})
    _write(arguments, records)


def _clips(split: str, n: int, n_frames: int, seed: int) -> tuple[Tensor, Tensor]:
    actions = SyntheticActions(motions=("left-right",), n_frames=n_frames, split=split, seed=seed)
    rendered = [actions.render(index) for index in range(n)]
    frames = torch.stack([clip.frames for clip in rendered]).transpose(1, 2) / 255 - 0.5
    return frames, torch.tensor([clip.label_index for clip in rendered])


def _train(model: nn.Module, x: Tensor, y: Tensor, steps: int, batch_size: int = 10) -> None:
    """Cross-entropy of the scores at every time step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(x), (batch_size,))
        scores = model(x[chosen])
        loss = F.cross_entropy(scores.flatten(0, 1), y[chosen].repeat_interleave(scores.shape[1]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x)[:, -1].argmax(1) == y).double().mean())


def _profile(
    model: nn.Module, clips: Tensor, classes: Tensor, recurrence: Recurrence, contrastive: bool
) -> Tensor:
    """S_t of every clip, (N, T), for its class at the last step."""
    method = RecurrentExcitationBackprop(model, "features", recurrence=recurrence)
    targets = [(clips.shape[2] - 1, int(k)) for k in classes]
    maps = method.attribute(clips, targets, contrastive=contrastive, sum_channels=True)
    scores: Tensor = maps.sum((1, 3, 4))
    return scores.double()


def _compare(value: Tensor, published: Tensor, contrastive: bool) -> dict[str, float]:
    """Correlation and total variation of the profiles, and which of them finds the second half."""
    kept = (value.abs().sum(1) > 0) & (published.abs().sum(1) > 0)
    value, published = value[kept], published[kept]
    correlation = torch.stack(
        [torch.corrcoef(torch.stack(p))[0, 1] for p in zip(value, published, strict=True)]
    )
    inside = (torch.arange(value.shape[1]) >= value.shape[1] // 2).expand(value.shape)
    figures = {
        "clips": int(kept.sum()),
        "correlation": float(correlation.mean()),
        "lowest": float(correlation.min()),
        "auc_value": float(frame_auc(value, inside).mean()),
        "auc_published": float(frame_auc(published, inside).mean()),
    }
    if not contrastive:  # a distribution over frames
        figures["total_variation"] = float((value - published).abs().sum(1).mean() / 2)
    return figures


def _write(arguments: argparse.Namespace, records: list[dict[str, object]]) -> None:
    columns = ["clips", "correlation", "lowest", "total_variation", "auc_value", "auc_published"]
    lines = [
        "| model | accuracy | method | " + " | ".join(columns) + " |",
        "| --- " * (len(columns) + 3) + "|",
    ]
    for record in records:
        cells = [
            f"{record[c]:.2f}" if c in record and c != "clips" else str(record.get(c, "-")) for c in columns
        ]
        head = f"| {record['model']} | {record['accuracy']:.2f} | {record['method']} | "
        lines.append(head + " | ".join(cells) + " |")
    lines += ["", "S_t of the first clip, in per cent of the mass:", ""]
    for record in records:
        for recurrence in _RECURRENCES:
            profile = record[recurrence]
            assert isinstance(profile, list)  # noqa: S101
            numbers = " ".join(f"{100 * s:.0f}" for s in profile)
            lines.append(f"{record['model']}, {record['method']}, {recurrence}: {numbers}")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    (arguments.output / "recurrences.md").write_text(text)
    rows = [environment(), *records]
    (arguments.output / "recurrences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
