"""Conservation residual against sums by hand and on maps of the engine itself."""

import math

import pytest
import torch
from torch import nn

from captum_ext.attr import ExcitationBackprop
from captum_ext.metrics.functional import conservation_residual


def test_it_is_the_distance_of_mass_and_what_was_dropped_from_what_was_put_in():
    maps = torch.tensor([[[0.5, -0.25], [0.25, 0.0]], [[1.0, 1.0], [0.0, -2.0]]])
    assert conservation_residual(maps).tolist() == [0.5, 1.0]
    assert conservation_residual(maps, expected=0.0).tolist() == [0.5, 0.0]
    assert conservation_residual(maps, torch.tensor([0.5, -1.0])).tolist() == [0.0, 1.0]
    assert conservation_residual(maps, delta=torch.tensor([0.25, 1.5])).tolist() == [0.25, 0.5]


def test_sums_of_many_small_values_are_taken_in_float64():
    maps = torch.full((1, 1000, 1000), 1e-6, dtype=torch.float32)
    assert conservation_residual(maps).item() < 1e-7


def test_excitation_backprop_conserves_and_a_doubled_map_does_not():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    x = torch.rand(4, 7)
    eb = ExcitationBackprop(model)
    maps, delta = eb.attribute(x, target=1, return_convergence_delta=True)
    assert (conservation_residual(maps, delta=delta) < 1e-6).all()
    assert (conservation_residual(2 * maps, delta=delta) > 0.5).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.rand(3),), ValueError, r"\(N, ...\)"),
        ((torch.rand(0, 3),), ValueError, "empty"),
        ((torch.ones(2, 3, dtype=torch.int64),), TypeError, "int64"),
        ((torch.full((2, 3), math.nan),), ValueError, "example 0"),
        ((torch.rand(2, 3), math.inf), ValueError, "finite"),
        ((torch.rand(2, 3), torch.ones(3)), ValueError, "expected must be a number"),
        ((torch.rand(2, 3), 1.0, torch.ones(2, 1)), ValueError, r"delta \(N,\)"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        conservation_residual(*arguments)
