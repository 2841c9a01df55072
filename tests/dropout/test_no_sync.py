"""Nothing in a training step looks at values, which would make the host wait for a GPU.

Tensors on the meta device have no values: whatever asks for one is an error.
"""

import pytest
import torch
import torch.nn.functional as F
from dropout_nets import NETS, Net, made

from captum_ext.dropout import attach, excitation_keep_probability


@pytest.fixture(autouse=True)
def autocast(monkeypatch):
    """The meta device has no autocast to ask about."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda *_: torch.bfloat16)


def step(net, x, y, **settings):
    with attach(net, "drop", **settings) as dropout:
        dropout.arm(y)
        loss = F.cross_entropy(net(x), y)
        loss.backward()
    return loss, dropout.layers["drop"].last


@pytest.mark.parametrize("kind", NETS, ids=lambda kind: kind.__name__)
def test_a_step_never_asks_for_a_value(kind):
    net, x, y = made(kind, dtype=torch.float32)
    try:
        loss, last = step(net.to("meta"), x.to("meta"), y.to("meta"))
    except NotImplementedError as error:
        if "no fake impl or Meta kernel" not in str(error):
            raise
        pytest.skip(f"torch {torch.__version__} cannot run {kind.__name__} without values")
    assert loss.device.type == last.keep.device.type == "meta"
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize(
    "settings",
    [
        {"rescale": "none"},
        {"rescale": "unit"},
        {"rescale": "mass"},
        {"n": "active"},
        {"inverse": True},
        {"head": lambda net, h: net.above(h, None)},
    ],
    ids=["none", "unit", "mass", "active", "inverse", "head"],
)
def test_nor_does_any_setting(settings):
    net, x, y = made(Net, dtype=torch.float32)
    step(net.to("meta"), x.to("meta"), y.to("meta"), **settings)


def test_nor_does_a_layer_too_large_for_its_signed_parts():
    with torch.device("meta"):
        net = torch.nn.Sequential(
            torch.nn.Linear(4, 4096), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(4096, 2304),
            torch.nn.ReLU(), torch.nn.Linear(2304, 3),
        )  # fmt: skip
        x, y = torch.rand(2, 4), torch.zeros(2, dtype=torch.long)
    with attach(net, "2") as dropout:
        dropout.arm(y)
        net(x).sum().backward()


def test_soft_labels_and_predictions_do_not_either():
    net, x, y = made(Net, dtype=torch.float32)
    net, x, y = net.to("meta"), x.to("meta"), y.to("meta")
    with attach(net, "drop") as dropout:
        for targets in (torch.rand(6, 4), "predicted"):
            dropout.arm(targets.to("meta") if isinstance(targets, torch.Tensor) else targets)
            net(x).sum().backward()


def test_the_meta_device_notices_a_look_at_values():
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(excitation_keep_probability(torch.rand(2, 3, device="meta")).any())


def test_a_step_on_a_gpu_does_not_wait_for_it():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    net, x, y = made(Net, dtype=torch.float32)
    net, x, y = net.cuda(), x.cuda(), y.cuda()
    step(net, x, y)  # the first may set up libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(net, x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")
