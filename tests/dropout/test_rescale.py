"""The factors of kept activations, against their definitions written out example by example."""

import pytest
import torch

from captum_ext.dropout import ExcitationDropoutLayer, excitation_keep_probability
from captum_ext.dropout.rescale import rescale_factor


def drawn(shape=(3, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.rand(shape, generator=generator)
    keep = torch.rand(shape, generator=generator) < 0.6
    probability = torch.rand(shape, generator=generator) * 0.8 + 0.15
    return h, keep, probability


def test_fraction_divides_by_the_share_of_units_that_were_kept():
    h, keep, _ = drawn()
    factor = rescale_factor(h, keep, None, "fraction", 10.0)
    for example in range(3):
        assert factor[example].item() == pytest.approx(5 / int(keep[example].sum()))


def test_fraction_of_a_mask_that_keeps_nothing_is_finite():
    factor = rescale_factor(torch.ones(1, 4), torch.zeros(1, 4, dtype=torch.bool), None, "fraction", 10.0)
    assert torch.isfinite(factor).all()


def test_none_is_one():
    assert rescale_factor(*drawn()[:2], None, "none", 10.0) == 1.0


def test_unit_divides_by_the_units_probability_and_is_capped():
    h, keep, probability = drawn()
    probability[0, 0] = 1e-3
    factor = rescale_factor(h, keep, probability, "unit", 10.0)
    assert factor[0, 0] == 10.0
    assert torch.allclose(factor[1], (1 / probability[1]).clamp(max=10.0))


def test_mass_restores_the_expected_sum_of_the_layer():
    h, keep, probability = drawn()
    factor = rescale_factor(h, keep, probability, "mass", 10.0)
    for example in range(3):
        expected = sum(float(a * r) for a, r in zip(h[example], probability[example], strict=True))
        assert factor[example].item() == pytest.approx(float(h[example].sum()) / expected, rel=1e-5)


def test_mass_of_a_dead_layer_and_of_one_that_is_dropped_for_sure_is_finite():
    h = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    probability = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    factor = rescale_factor(h, probability > 0, probability, "mass", 10.0)
    assert factor.flatten().tolist() == [1.0, 10.0]


def test_mass_and_fraction_of_channels_are_per_example():
    h = torch.rand(2, 3, 4, 5)
    probability = torch.tensor([0.5, 1.0, 0.25]).view(1, 3, 1, 1).expand(2, 3, 1, 1)
    factor = rescale_factor(h, probability > 0.3, probability, "mass", 10.0)
    assert factor.shape == (2, 1, 1, 1)
    expected = h[1].sum() / sum(h[1, c].sum() * probability[1, c, 0, 0] for c in range(3))
    assert factor[1].item() == pytest.approx(expected.item(), rel=1e-5)
    fraction = rescale_factor(h, probability > 0.3, None, "fraction", 10.0)
    assert fraction.flatten().tolist() == pytest.approx([1.5, 1.5])


@pytest.mark.parametrize("rescale", ["unit", "mass"])
def test_the_unbiased_factors_keep_the_expectation(rescale):
    torch.manual_seed(0)
    h = torch.rand(1, 6)
    p_eb = torch.tensor([[0.3, 0.25, 0.2, 0.15, 0.1, 0.0]])
    layer = ExcitationDropoutLayer(0.5, rescale=rescale)
    draws = 20_000
    rows = h.expand(draws, 6)
    masked = rows * layer.multiplier(rows, p_eb.expand(draws, 6), torch.ones(draws, dtype=torch.bool))
    keep = excitation_keep_probability(p_eb, 0.5, 6)
    assert (keep < 1)[0, :5].all()  # something is dropped
    if rescale == "unit":
        assert torch.allclose(masked.mean(0), h[0], atol=0.03)
    assert masked.sum(1).mean().item() == pytest.approx(h.sum().item(), rel=0.02)


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match=r"rescale must be one of 'fraction', 'none', 'unit', 'mass'"):
        ExcitationDropoutLayer(rescale="evidence")
