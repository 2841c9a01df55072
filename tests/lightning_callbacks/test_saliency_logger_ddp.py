"""Two real processes, and the two packages that Lightning comes as."""

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DDP = """
import sys
from pathlib import Path

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from saliency_toys import Broken, Spy, Toy, fit, inputs

from lightning_callbacks import SaliencyLogger

root = Path(sys.argv[1])


class Dead(TensorBoardLogger):
    class Experiment:
        def add_image(self, *_):
            raise ConnectionError("no route to host")

        def __getattr__(self, name):
            return lambda *_, **__: None

    experiment = property(lambda self: self.Experiment())


calls = []
callbacks = [
    SaliencyLogger(lambda module: Spy(module, calls), num_samples=3, key="good"),
    SaliencyLogger(Broken, num_samples=1, key="broken"),
]
loggers = [TensorBoardLogger(root), Dead(root / "dead")]
model, run = fit(
    root, callbacks=callbacks, logger=loggers, max_epochs=2, devices=2, strategy="ddp", num_sanity_val_steps=1
)
run.validate(model, run.val_dataloaders, verbose=False)
total = run.strategy.reduce(torch.tensor(float(len(calls))), reduce_op="sum")
weights = torch.cat([p.detach().flatten() for p in model.parameters()])
same = torch.equal(run.strategy.broadcast(weights), weights)
samples = [call["inputs"] for call in calls[:3]]
ours = [i for i, x in enumerate(inputs()) for sample in samples if torch.equal(x, sample[0])]
report = f"{len(calls)} {int(total)} {run.global_step} {same} {ours}"
(root / f"rank_{run.global_rank}.txt").write_text(report)
"""


def run(code, *arguments, timeout=240, **environment):
    folders = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "lightning_callbacks")])
    path = os.pathsep.join([environment.pop("PYTHONPATH", ""), folders]).strip(os.pathsep)
    kept = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")}
    settings = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    done = subprocess.run(
        [sys.executable, *code, *arguments],
        env=kept | settings,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def test_of_two_processes_the_first_logs_and_nobody_waits_forever(tmp_path):
    """Although an attribution and a logger fail in the first process alone, in every epoch."""
    script = tmp_path / "script.py"
    script.write_text(DDP)
    done = run([str(script)], str(tmp_path), MASTER_PORT=free_port())
    first, second = ((tmp_path / f"rank_{rank}.txt").read_text() for rank in (0, 1))
    # Two epochs and a validation of three samples: every second one, as the sampler deals them out.
    assert first == "9 9 2 True [0, 2, 4]"
    assert second.startswith("0 9 2 True")
    assert done.stderr.count("Dead failed to take pictures") == 1
    assert done.stderr.count("could not be explained by Broken") == 1


# The two packages

STUB = {
    "lightning/__init__.py": "",
    "lightning/pytorch/__init__.py": (
        "class Callback: ...\nclass LightningModule: ...\nclass Trainer: ...\n"
    ),
    "lightning/pytorch/utilities/__init__.py": "",
    "lightning/pytorch/utilities/exceptions.py": "class MisconfigurationException(Exception): ...\n",
    "lightning/pytorch/utilities/rank_zero.py": "def rank_zero_warn(*_): ...\n",
}

WHICH = """
import {imports}
import lightning_callbacks
for package in ("lightning.pytorch", "pytorch_lightning"):
    known = sys.modules.get(package)
    print(known is not None and issubclass(lightning_callbacks.SaliencyLogger, known.Callback))
"""


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ("sys, lightning.pytorch", ["True", "False"]),
        ("sys, pytorch_lightning", ["False", "True"]),
        ("sys", ["True", "True"]),
    ],
)
def test_the_package_that_was_imported_is_the_one_built_upon_or_both(tmp_path, imports, expected):
    for name, text in STUB.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done = run(["-c", WHICH.format(imports=imports)], PYTHONPATH=str(tmp_path))
    assert done.stdout.split() == expected


TWIN = """
import sys
from pathlib import Path

import lightning
import torch
from captum.attr import Saliency
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from lightning_callbacks import SaliencyLogger

assert "pytorch_lightning" not in sys.modules


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(60, 4)

    def forward(self, x):
        return self.layer(x.flatten(1))

    def validation_step(self, batch, batch_idx): ...


callback = SaliencyLogger(Saliency, num_samples=2, strict=True)
trainer = lightning.Trainer(
    accelerator="cpu", callbacks=[callback], logger=TensorBoardLogger(sys.argv[1]), enable_progress_bar=False
)
trainer.validate(Model(), DataLoader(TensorDataset(torch.rand(3, 3, 4, 5), torch.arange(3))), verbose=False)
"""


@pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None,
    reason="the package 'lightning' is not installed; its stand-in is tested above",
)
def test_it_runs_under_the_other_package(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(["-c", TWIN], str(tmp_path))
    (folder,) = {path.parent for path in tmp_path.rglob("events*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Tags()["images"] == ["saliency/0", "saliency/1"]
