"""RISE: the estimate against a slow loop, its expectation by enumeration, and Captum's contract."""

import itertools

import pytest
import torch
from attr_state import differences, snapshot
from captum.attr import NoiseTunnel
from captum.metrics import infidelity, sensitivity_max
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import captum_ext.attr.rise
from captum_ext.attr import Rise
from captum_ext.attr._grid_masks import GridMasks, draw_grid_masks

N, C, T, H, W, K = 3, 2, 4, 5, 7, 4
FEW = {"n_masks": 11, "grid": 3}


def classifier(*shape):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 6), nn.Tanh(), nn.Linear(6, K)
    ).double()


def data(*shape):
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


IMAGE, CLIP = (C, H, W), (C, T, H, W)


# Masks


def sample(n_in, n_out):
    """Linear interpolation with half-pixel centres: the two neighbours of each output and their weights."""
    for i in range(n_out):
        source = min(max((i + 0.5) * n_in / n_out - 0.5, 0.0), n_in - 1.0)
        low = int(source)
        yield (low, 1 - (source - low)), (min(low + 1, n_in - 1), source - low)


def slow_mask(grid, offset, size):
    """One mask, entry by entry."""
    axes = []
    for cells, begin, n in zip(grid.shape, offset, size, strict=True):
        cell = -(-n // cells)
        axes.append(list(sample(cells, (cells + 1) * cell))[begin : begin + n])
    mask = torch.zeros(size, dtype=torch.float64)
    for index in itertools.product(*map(range, size)):
        for corner in itertools.product(*(axis[i] for axis, i in zip(axes, index, strict=True))):
            weight = 1.0
            for _, w in corner:
                weight *= w
            mask[index] += weight * float(grid[tuple(position for position, _ in corner)])
    return mask


@pytest.mark.parametrize(("cells", "size"), [((2, 3), (H, W)), ((2, 3, 2), (T, H, W)), ((7, 7), (H, W))])
def test_masks_are_enlarged_and_cut_as_the_paper_says(cells, size):
    masks = draw_grid_masks(6, cells, size, 0.5, torch.Generator().manual_seed(0))
    found = masks.enlarged(0, 6, torch.empty(0, dtype=torch.float64))
    for i in range(6):
        expected = slow_mask(masks.grids[i], masks.offsets[i].tolist(), size)
        torch.testing.assert_close(found[i], expected)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    cells=st.tuples(st.integers(1, 10), st.integers(1, 10), st.integers(1, 10)),
    n_axes=st.integers(2, 3),
)
def test_masks_cover_every_size_and_stay_between_0_and_1(size, cells, n_axes):
    masks = draw_grid_masks(5, cells[:n_axes], size[:n_axes], 0.5, torch.Generator().manual_seed(0))
    found = masks.enlarged(1, 5, torch.empty(0))
    assert found.shape == (4, *size[:n_axes])
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


def test_the_share_of_kept_cells_and_the_offsets_follow_their_probabilities():
    masks = draw_grid_masks(4000, (3, 2), (12, 10), 0.3, torch.Generator().manual_seed(0))
    assert abs(float(masks.grids.float().mean()) - 0.3) < 0.01
    for axis, cell in enumerate((4, 5)):
        counts = masks.offsets[:, axis].bincount(minlength=cell)
        assert len(counts) == cell
        assert (counts / 4000 - 1 / cell).abs().max() < 0.03


# The estimate


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("shape", [IMAGE, CLIP], ids=["images", "clips"])
def test_the_map_is_the_mean_of_masks_times_scores(shape, softmax):
    model, x, targets = classifier(*shape), data(*shape), [1, 3, 0]
    cells = (2, 3) if shape == IMAGE else (2, 2, 3)
    found = Rise(model).attribute(
        x,
        targets,
        n_masks=9,
        grid=cells,
        keep_probability=0.4,
        softmax=softmax,
        seed=5,
        return_input_shape=False,
    )
    size = shape[1:]
    masks = draw_grid_masks(9, cells, size, 0.4, torch.Generator().manual_seed(5))
    for i, k in enumerate(targets):
        expected = torch.zeros(size, dtype=torch.float64)
        for grid, offset in zip(masks.grids, masks.offsets.tolist(), strict=True):
            mask = slow_mask(grid, offset, size)
            with torch.no_grad():
                scores = model((x[i] * mask)[None])[0]
            score = (scores.exp() / scores.exp().sum() if softmax else scores)[k]
            expected += score * mask / (9 * 0.4)
        torch.testing.assert_close(found[i, 0], expected)


@pytest.mark.parametrize("perturbations_per_eval", [2, 4, 11, 50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_number_of_masks_per_call_does_not_matter(perturbations_per_eval, dtype):
    rise, x = Rise(classifier(*CLIP).to(dtype)), data(*CLIP).to(dtype)
    one = rise.attribute(x, [0, 1, 2], **FEW)
    several = rise.attribute(x, [0, 1, 2], perturbations_per_eval=perturbations_per_eval, **FEW)
    torch.testing.assert_close(several, one, rtol=1e-6, atol=1e-6)


def enumerated(cells, size):
    """All grids at all offsets, each once."""
    grids = list(itertools.product([False, True], repeat=torch.Size(cells).numel()))
    offsets = list(itertools.product(*(range(-(-n // c)) for n, c in zip(size, cells, strict=True))))
    pairs = list(itertools.product(grids, offsets))
    return GridMasks(
        torch.tensor([grid for grid, _ in pairs]).view(-1, *cells),
        torch.tensor([offset for _, offset in pairs]),
        size,
    )


def test_on_a_linear_model_all_masks_of_a_2_by_2_grid_give_the_expectation(monkeypatch):
    # f(v) = sum_j w_j v_j:  S_l = sum_j w_j v_j E[M_j M_l] / p.  Cells are independent with variance 1/4, so
    # E[M_j M_l] = 1/4 + 1/4 * mean over offsets of sum_cells a_cj a_cl with the interpolation weights a.
    size, cells = (4, 6), (2, 2)
    masks = enumerated(cells, size)
    monkeypatch.setattr(captum_ext.attr.rise, "draw_grid_masks", lambda *_: masks)
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(C * 24, 1, bias=False)).double(), data(C, *size)
    found = Rise(model).attribute(x, n_masks=len(masks.grids), return_input_shape=False)
    covariance = torch.zeros(24, 24, dtype=torch.float64)
    offsets = list(itertools.product(range(2), range(3)))
    for offset in offsets:
        for cell in itertools.product(range(2), range(2)):
            grid = torch.zeros(cells)
            grid[cell] = 1
            weights = slow_mask(grid, offset, size).flatten()
            covariance += torch.outer(weights, weights) / 4 / len(offsets)
    contribution = (model[1].weight.detach().view(C, 24) * x.flatten(2)).sum(1)
    expected = contribution @ (covariance + 0.25) / 0.5
    torch.testing.assert_close(found.flatten(1), expected)


def test_more_random_masks_come_closer_to_the_expectation(monkeypatch):
    model, x = classifier(C, 4, 6), data(C, 4, 6)

    def error(n, seed):
        found = Rise(model).attribute(
            x, 1, n_masks=n, grid=2, seed=seed, perturbations_per_eval=200, return_input_shape=False
        )
        return float((found - exact).norm())

    masks = enumerated((2, 2), (4, 6))
    with monkeypatch.context() as patch:
        patch.setattr(captum_ext.attr.rise, "draw_grid_masks", lambda *_: masks)
        exact = Rise(model).attribute(x, 1, n_masks=len(masks.grids), return_input_shape=False)
    few, many = (sum(error(n, seed) for seed in range(5)) / 5 for n in (50, 3200))
    assert 4 < few / many < 16  # sqrt(3200 / 50) = 8


def test_a_constant_score_gives_a_flat_map():
    masks = enumerated((2, 2), (4, 6))
    mean = masks.enlarged(0, len(masks.grids), torch.empty(0, dtype=torch.float64)).mean(0)
    torch.testing.assert_close(mean, torch.full_like(mean, 0.5))


# Random numbers


def test_the_same_seed_gives_the_same_map_and_another_one_another():
    rise, x = Rise(classifier(*IMAGE)), data(*IMAGE)
    before = torch.get_rng_state()
    found = rise.attribute(x, 1, seed=3, **FEW)
    assert torch.equal(found, rise.attribute(x, 1, seed=3, **FEW))
    assert not torch.equal(found, rise.attribute(x, 1, seed=4, **FEW))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_moves_on():
    rise, x, generator = Rise(classifier(*IMAGE)), data(*IMAGE), torch.Generator().manual_seed(3)
    first = rise.attribute(x, 1, generator=generator, **FEW)
    assert torch.equal(first, rise.attribute(x, 1, seed=3, **FEW))
    assert not torch.equal(first, rise.attribute(x, 1, generator=generator, **FEW))


# Captum's contract


@pytest.mark.parametrize("form", [2, (2,), torch.tensor(2), [2] * N, torch.tensor([2] * N), [(2,)] * N])
def test_every_form_of_target(form):
    rise, x = Rise(classifier(*IMAGE)), data(*IMAGE)
    found = rise.attribute(x, form, perturbations_per_eval=4, **FEW)
    torch.testing.assert_close(found, rise.attribute(x, 2, **FEW))


def test_targets_of_scores_with_a_time_axis():
    model, x = classifier(*CLIP), data(*CLIP)
    steps = Rise(lambda clips: torch.stack([model(clips), 2 * model(clips)], dim=1))
    found = steps.attribute(x, [(1, 2), (0, 2), (1, 0)], perturbations_per_eval=4, **FEW)
    plain = Rise(model)
    expected = [
        factor * plain.attribute(x[i : i + 1], k, **FEW)
        for i, (factor, k) in enumerate([(2, 2), (1, 2), (2, 0)])
    ]
    torch.testing.assert_close(found, torch.cat(expected))


def test_functions_without_classes_and_extra_arguments_and_examples_alone():
    def score(clips, factor, power):
        return (clips * factor).flatten(1).sum(1) ** power

    x, factor = data(*CLIP), torch.tensor([1.0, 2.0, 3.0]).double().view(N, 1, 1, 1, 1)
    found = Rise(score).attribute((x,), None, (factor, 2), perturbations_per_eval=4, **FEW)
    assert isinstance(found, tuple)
    for i in range(N):
        alone = Rise(score).attribute(x[i : i + 1] * factor[i], None, (1.0, 2), **FEW)
        torch.testing.assert_close(found[0][i : i + 1], alone)


def test_the_map_has_the_shape_of_the_input_in_either_layout():
    model, x = classifier(*CLIP), data(*CLIP)
    found = Rise(model).attribute(x, 1, **FEW)
    assert found.shape == x.shape
    assert found.is_contiguous()
    assert all(torch.equal(found[:, c], found[:, 0]) for c in range(C))
    swapped = Rise(lambda frames: model(frames.transpose(1, 2)), layout="NTCHW")
    assert torch.equal(swapped.attribute(x.transpose(1, 2), 1, **FEW), found.transpose(1, 2))
    one = swapped.attribute(x.transpose(1, 2), 1, return_input_shape=False, **FEW)
    assert torch.equal(one, found[:, :1])


def test_captums_tools_accept_it():
    model, x = classifier(*IMAGE), data(*IMAGE)
    rise = Rise(model)
    assert rise.get_name() == "Rise"
    assert not rise.has_convergence_delta()
    assert not rise.multiplies_by_inputs
    expected = rise.attribute(x, [0, 1, 2], **FEW)
    found = NoiseTunnel(rise).attribute(x, nt_samples=2, stdevs=0.0, target=[0, 1, 2], **FEW)
    torch.testing.assert_close(found, expected)
    assert infidelity(model, lambda v: (v * 0.1, v * 0.9), x, expected, target=[0, 1, 2]).isfinite().all()
    assert sensitivity_max(rise.attribute, x, target=1, n_perturb_samples=2, **FEW).isfinite().all()
    with pytest.raises(NotImplementedError, match="Rise"):
        rise.attribute_future()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_nothing_of_the_users_changes(mode):
    model, x = classifier(*IMAGE), data(*IMAGE).requires_grad_()
    with mode():
        before = snapshot(model, x)
        found = Rise(model).attribute(x, 1, **FEW)
        assert differences(before, snapshot(model, x)) == []
        with pytest.raises(IndexError):
            Rise(model).attribute(x, K, **FEW)
        assert differences(before, snapshot(model, x)) == []
    assert not found.requires_grad
    assert not found.is_inference()


def test_the_model_is_called_without_gradients_and_may_write_into_what_it_gets():
    modes = []

    def score(images):
        modes.append(torch.is_grad_enabled())
        images.mul_(2)
        return images.flatten(1).sum(1)

    x = data(*IMAGE)
    copy = x.clone()
    Rise(score).attribute(x, perturbations_per_eval=4, **FEW)
    assert modes == [False] * 3
    assert torch.equal(x, copy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_map_has_the_dtype_of_the_input(dtype):
    found = Rise(classifier(*IMAGE).to(dtype)).attribute(data(*IMAGE).to(dtype), 1, **FEW)
    assert found.dtype == dtype
    expected = Rise(classifier(*IMAGE)).attribute(data(*IMAGE), 1, **FEW)
    torch.testing.assert_close(found.double(), expected, rtol=0.1, atol=0.05)


def test_progress_is_shown_on_demand(capsys):
    rise = Rise(classifier(*IMAGE))
    rise.attribute(data(*IMAGE), 1, **FEW)
    assert capsys.readouterr().err == ""
    rise.attribute(data(*IMAGE), 1, show_progress=True, perturbations_per_eval=4, **FEW)
    assert "11/11" in capsys.readouterr().err


# What it refuses


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("n_masks must be at least 1", {"n_masks": 0}),
        ("perturbations_per_eval must be at least 1", {"perturbations_per_eval": 0}),
        ("keep_probability must be above 0", {"keep_probability": 0.0}),
        ("keep_probability must be above 0", {"keep_probability": 1.1}),
        (r"\(h, w\) for images, got \(2, 2, 2\)", {"grid": (2, 2, 2)}),
        ("grid must be a positive number", {"grid": 0}),
    ],
)
def test_settings_out_of_range_are_refused(match, options):
    with pytest.raises(ValueError, match=match):
        Rise(classifier(*IMAGE)).attribute(data(*IMAGE), 1, **{**FEW, **options})


@pytest.mark.parametrize(
    ("error", "match", "x"),
    [
        (ValueError, r"images with the axes N, C, H, W or clips .* got the shape \(3, 2\)", data(C)),
        (ValueError, "one tensor of clips, got 2", (data(*IMAGE), data(*IMAGE))),
        (ValueError, "contains NaN", data(*IMAGE) * float("nan")),
        (ValueError, "holds no example", data(*IMAGE)[:0]),
        (TypeError, "floating point", data(*IMAGE).long()),
        (ValueError, "frames and channels look swapped", torch.rand(2, 16, 3, 6, 7)),
    ],
)
def test_wrong_inputs_are_refused(error, match, x):
    with pytest.raises(error, match=match):
        Rise(classifier(*IMAGE)).attribute(x, 1, **FEW)


def test_wrong_scores_are_refused():
    x = data(*IMAGE)
    with pytest.raises(AssertionError, match="Target not provided"):
        Rise(classifier(*IMAGE)).attribute(x, **FEW)
    with pytest.raises(TypeError, match="returned a list"):
        Rise(lambda images: [1.0]).attribute(x, **FEW)
    with pytest.raises(ValueError, match="output for the target contains NaN"):
        Rise(lambda images: images.flatten(1).sum(1) / 0).attribute(x, **FEW)
    with pytest.raises(TypeError, match="forward_func must be callable"):
        Rise(3)


def test_models_that_are_random_or_write_to_themselves_are_refused():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="draws random numbers"):
        Rise(nn.Sequential(nn.Dropout(), classifier(*IMAGE))).attribute(data(*IMAGE), 1, **FEW)
    with pytest.raises(ValueError, match=r"module '0' \(BatchNorm2d\) is in training mode"):
        Rise(nn.Sequential(nn.BatchNorm2d(C).double(), classifier(*IMAGE))).attribute(data(*IMAGE), 1, **FEW)
    assert torch.equal(torch.get_rng_state(), before)
