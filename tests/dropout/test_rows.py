"""Layers with several rows per example, as the frames of a clip: what is counted is counted per example."""

import pytest
import torch

from captum_ext.dropout import ExcitationDropoutLayer
from captum_ext.dropout import layer as layer_module

EXAMPLES, ROWS, UNITS = 3, 4, 7
HAS_TARGET = torch.ones(EXAMPLES, dtype=torch.bool)


def activations():
    torch.manual_seed(1)
    h = torch.rand(EXAMPLES * ROWS, UNITS, dtype=torch.float64)
    h[torch.rand_like(h) < 0.4] = 0
    p_eb = h * torch.rand_like(h)
    p_eb /= p_eb.view(EXAMPLES, -1).sum(1).repeat_interleave(ROWS)[:, None]
    return h, p_eb


def test_n_counts_the_active_units_of_all_rows(monkeypatch):
    h, p_eb = activations()
    seen = []

    def mask(p_eb, p, n, inverse):
        seen.append(n)
        return torch.ones_like(p_eb, dtype=torch.bool)

    monkeypatch.setattr(layer_module, "excitation_keep_mask", mask)
    ExcitationDropoutLayer(n="active").multiplier(h, p_eb, HAS_TARGET)
    expected = [int((h[i * ROWS : (i + 1) * ROWS] != 0).sum()) for i in range(EXAMPLES)]
    assert seen[0].flatten().tolist() == expected
    assert len(set(expected)) > 1


def test_the_fraction_is_that_of_the_example():
    h, p_eb = activations()
    layer = ExcitationDropoutLayer(p=0.6)
    torch.manual_seed(2)
    factor = layer.multiplier(h, p_eb, HAS_TARGET).view(EXAMPLES, -1)
    keep = layer.last.keep.view(EXAMPLES, -1)
    for i in range(EXAMPLES):
        kept = keep[i].sum().item()
        assert 0 < kept < ROWS * UNITS
        expected = [ROWS * UNITS / kept if unit else 0.0 for unit in keep[i].tolist()]
        assert factor[i].tolist() == pytest.approx(expected, rel=1e-12)


def test_inverse_keeps_an_example_whole_only_if_none_of_its_rows_has_evidence():
    h, p_eb = activations()
    p_eb[0] = 0  # one row of example 0, all rows of example 2
    p_eb[2 * ROWS :] = 0
    layer = ExcitationDropoutLayer(p=0.9, inverse=True)
    layer.multiplier(h, p_eb, HAS_TARGET)
    assert not layer.last.keep[0].any()
    assert layer.last.keep[2 * ROWS :].all()


def test_channels_of_rows_are_counted_per_example():
    torch.manual_seed(3)
    h = torch.rand(EXAMPLES * ROWS, UNITS, 2, 5)
    p_eb = torch.rand_like(h)
    p_eb /= p_eb.view(EXAMPLES, -1).sum(1).repeat_interleave(ROWS).view(-1, 1, 1, 1)
    layer = ExcitationDropoutLayer(unit="channel")
    factor = layer.multiplier(h, p_eb, HAS_TARGET)
    keep = layer.last.keep
    assert keep.shape == (EXAMPLES * ROWS, UNITS, 1, 1)
    assert torch.allclose(layer.last.p_eb, p_eb.sum((2, 3), keepdim=True))
    share = keep.view(EXAMPLES, -1).float().mean(1).repeat_interleave(ROWS).view(-1, 1, 1, 1)
    assert torch.allclose(factor, keep / share)
