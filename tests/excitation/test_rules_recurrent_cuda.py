"""Recurrent layers on a GPU in evaluation mode, where cuDNN has no backward pass of its own."""

from __future__ import annotations

import pytest
import torch
from dense_reference import numbers, randomize
from recurrent_reference import Net
from torch import nn

from captum_ext.attr import ExcitationBackprop

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

MODULES = {
    "LSTM": lambda: nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True),
    "projected LSTM": lambda: nn.LSTM(3, 4, proj_size=2),
    "GRU": lambda: nn.GRU(3, 4, 2, bidirectional=True),
    "RNN": lambda: nn.RNN(3, 4),
}


@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk")
@pytest.mark.parametrize("name", MODULES)
def test_maps_on_the_gpu_in_evaluation_mode_equal_those_on_the_cpu(name):
    net, x = randomize(Net(MODULES[name]()), seed=1), numbers(3, 5, 3)
    expected = ExcitationBackprop(net).attribute(x, target=(4, 1))
    flags = torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark
    found = ExcitationBackprop(net.cuda().eval()).attribute(x.cuda(), target=(4, 1))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-9)
    assert flags == (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark)
