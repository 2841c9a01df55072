"""What the loop promises: independent masks, seeds in range, early stops, scores that are no numbers."""

from dataclasses import replace

import pytest
import torch

from captum_ext.perturbation import (
    MaskSpace,
    NonFiniteScoreError,
    Perturbation,
    StepSettings,
    optimize_masks,
)

C, T, H, W = 2, 5, 12, 15
SEEDS = (4 + 6, 5 + 6)  # one for each 3 pixels, and three beyond the frame on either side
SETTINGS = StepSettings(
    n_iter=8,
    seed_step=3,
    sigma=4,
    area_weight=30.0,
    area_growth=1.0,
    smoothness_weight=30.0,
    smoothness_start=2,
    kernel=(3, 5, 5),
    stride=(1, 2, 2),
    kernel_count="volume",
    kernel_to_the_edges=True,
    balanced=True,
    last_forward=False,
    optimizer="adam",
    learning_rate=0.1,
)
SGD = replace(SETTINGS, optimizer="sgd", learning_rate=0.05)


def clips(n=3):
    return torch.randn(n, C, T, H, W, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def seeds_of(n_areas, n=3):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(n_areas, n, T, *SEEDS, dtype=torch.float64, generator=generator)


def scores(shown):
    """log p of the target from (A, N, C, T, H, W): quadratic in the clip, so no frame is like another."""
    weights = torch.linspace(-1, 1, C * T * H * W, dtype=torch.float64).view(C, T, H, W)
    return torch.nn.functional.logsigmoid(
        (weights * shown).sum((2, 3, 4, 5)) / 5 + (shown**2).mean((2, 3, 4, 5))
    )


def log_probability(shown, kept):
    log = scores(shown)
    return log if kept else torch.log(-torch.expm1(log))


def optimize(
    x, areas, seeds, settings=SETTINGS, smoothness="step", variant="preserve", model=log_probability
):
    """Areas of all clips alike."""
    space = MaskSpace((T, H, W), [[area] * len(x) for area in areas], settings, smoothness, 2, x)
    perturb = Perturbation([torch.zeros_like(x), x], 1)
    shown = []
    return optimize_masks(model, perturb, space, seeds, variant, shown.append), shown


def close(found, expected):
    for name in ("seeds", "masks", "probabilities", "losses", "rewards"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=0, atol=1e-9, equal_nan=True, msg=name
        )


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
@pytest.mark.parametrize("smoothness", ["step", "evenly", "gaussian", None])
@pytest.mark.parametrize("settings", [SETTINGS, SGD], ids=["adam", "sgd"])
def test_two_areas_in_one_batch_equal_one_at_a_time(settings, smoothness, variant):
    x, seeds = clips(), seeds_of(2)
    together, _ = optimize(x, [0.1, 0.3], seeds, settings, smoothness, variant)
    assert together.masks.shape == (2, 3, T, H, W)
    assert together.losses.shape == together.rewards.shape == (2, 3, 8)
    for number, area in enumerate([0.1, 0.3]):
        alone, _ = optimize(x, [area], seeds[number : number + 1], settings, smoothness, variant)
        one = type(together)(*(getattr(together, f)[number : number + 1] for f in vars(together)))
        close(one, alone)
    assert (together.masks[0] - together.masks[1]).abs().max() > 0.05


@pytest.mark.parametrize("smoothness", ["step", None])
def test_examples_do_not_see_each_other(smoothness):
    x, seeds = clips(), seeds_of(2)
    together, _ = optimize(x, [0.1, 0.3], seeds, smoothness=smoothness)
    for n in range(len(x)):
        alone, _ = optimize(x[n : n + 1], [0.1, 0.3], seeds[:, n : n + 1], smoothness=smoothness)
        close(type(together)(*(getattr(together, f)[:, n : n + 1] for f in vars(together))), alone)


def test_the_energy_falls():
    found, _ = optimize(clips(), [0.2], torch.ones(1, 3, T, *SEEDS).double(), smoothness=None)
    assert (found.losses[..., -1] < 0.7 * found.losses[..., 0]).all()


@pytest.mark.parametrize("smoothness", ["step", "evenly", "gaussian", None])
@pytest.mark.parametrize("settings", [SETTINGS, SGD], ids=["adam", "sgd"])
def test_seeds_and_masks_stay_between_zero_and_one(settings, smoothness):
    eager = replace(settings, learning_rate=3.0)
    found, _ = optimize(clips(), [0.1, 0.3], seeds_of(2), eager, smoothness)
    for values in (found.seeds, found.masks):
        assert values.min() >= 0
        assert values.max() <= 1
    assert (found.seeds == 0).any()
    assert (found.seeds == 1).any()


def test_the_seeds_and_inputs_given_are_not_changed():
    x, seeds = clips(), seeds_of(2)
    before = x.clone(), seeds.clone()
    found, _ = optimize(x, [0.1, 0.3], seeds)
    assert torch.equal(x, before[0])
    assert torch.equal(seeds, before[1])
    assert not seeds.requires_grad
    assert seeds.grad is None
    assert (found.seeds - seeds).abs().max() > 0.1
    assert not any(tensor.requires_grad for tensor in vars(found).values())


def test_two_runs_are_bit_equal():
    first, second = (optimize(clips(), [0.1, 0.3], seeds_of(2))[0] for _ in range(2))
    assert all(torch.equal(getattr(first, name), getattr(second, name)) for name in vars(first))


def test_masks_and_probabilities_belong_to_the_seeds_returned():
    x = clips()
    found, shown = optimize(x, [0.1, 0.3], seeds_of(2))
    space = MaskSpace((T, H, W), [[0.1] * 3, [0.3] * 3], SETTINGS, "step", 2, x)
    torch.testing.assert_close(found.masks, space.visible(space.masks(found.seeds)), rtol=0, atol=1e-12)
    kept = scores(found.masks.unsqueeze(2) * x).exp()
    torch.testing.assert_close(found.probabilities, kept, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.rewards.exp(), torch.stack(shown, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("variant", "inverted"), [("preserve", False), ("delete", True), ("dual", False)])
def test_probabilities_are_of_what_the_variant_leaves(variant, inverted):
    x = clips()
    found, _ = optimize(x, [0.2], seeds_of(1), variant=variant)
    left = 1 - found.masks if inverted else found.masks
    torch.testing.assert_close(found.probabilities, scores(left.unsqueeze(2) * x).exp(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["log", "probability"])
@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_the_first_energy_is_the_sum_of_the_weighted_terms(variant, form):
    x, seeds = clips(), seeds_of(2)
    settings = replace(SETTINGS, n_iter=1, smoothness_start=0, reward=form, reward_weight=1.7)
    found, _ = optimize(x, [0.1, 0.3], seeds, settings, variant=variant)
    space = MaskSpace((T, H, W), [[0.1] * 3, [0.3] * 3], settings, "step", 2, x)
    masks = space.masks(seeds)
    kept, left = scores(masks.unsqueeze(2) * x).exp(), scores((1 - masks).unsqueeze(2) * x).exp()
    rewards = {"preserve": [kept], "delete": [1 - left], "dual": [kept, 1 - left]}[variant]
    reward = sum(p.log() if form == "log" else p for p in rewards)
    energy = space.losses(masks, 0) - 1.7 * reward
    torch.testing.assert_close(found.losses[..., 0], energy, rtol=1e-9, atol=0)


PATIENT = replace(SETTINGS, n_iter=60, plateau=4, plateau_tolerance=0.01, smoothness_start=0)


def stops(found):
    """Iterations that each mask took part in."""
    return found.losses.isfinite().sum(-1)


@pytest.mark.parametrize("settings", [PATIENT, replace(PATIENT, optimizer="sgd", learning_rate=0.2)])
def test_a_mask_that_has_stopped_does_not_move(settings):
    x, seeds = clips(), seeds_of(2)
    found, _ = optimize(x, [0.1, 0.3], seeds, settings)
    lengths = stops(found)
    assert len(lengths.unique()) > 1  # or nothing could have moved on
    assert lengths.max() == found.losses.shape[-1] <= settings.n_iter
    for length in lengths.unique().tolist():
        shorter, _ = optimize(x, [0.1, 0.3], seeds, replace(settings, n_iter=length, plateau=None))
        rows = lengths == length
        torch.testing.assert_close(found.seeds[rows], shorter.seeds[rows], rtol=0, atol=1e-12)
        torch.testing.assert_close(found.masks[rows], shorter.masks[rows], rtol=0, atol=1e-12)
        torch.testing.assert_close(found.probabilities[rows], shorter.probabilities[rows], rtol=0, atol=1e-12)
        for values, expected in [(found.losses, shorter.losses), (found.rewards, shorter.rewards)]:
            torch.testing.assert_close(values[rows][:, :length], expected[rows], rtol=0, atol=1e-12)
            assert values[rows][:, length:].isnan().all()


def test_a_stop_comes_where_two_windows_differ_by_less_than_the_tolerance():
    found, shown = optimize(clips(), [0.1, 0.3], seeds_of(2), PATIENT)
    window, tolerance = PATIENT.plateau, PATIENT.plateau_tolerance
    for row, length in zip(found.losses.flatten(0, 1), stops(found).flatten().tolist(), strict=True):
        for end in range(2 * window, length + 1, window):
            before = row[end - 2 * window : end - window].mean()
            recent = row[end - window : end].mean()
            flat = abs(before - recent) <= tolerance * abs(before)
            assert flat == (end == length < PATIENT.n_iter)
    assert len(shown) == found.losses.shape[-1]


def test_the_loop_ends_when_all_masks_have_stopped():
    found, shown = optimize(clips(), [0.1, 0.3], seeds_of(2), replace(PATIENT, plateau_tolerance=10.0))
    assert len(shown) == found.losses.shape[-1] == found.rewards.shape[-1] == 2 * PATIENT.plateau


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
@pytest.mark.parametrize("iteration", [0, 3, 7])
def test_a_score_that_is_no_number_is_named_with_its_iteration(iteration, bad):
    calls = []

    def model(shown, kept):
        log = log_probability(shown, kept)
        calls.append(len(calls))
        if calls[-1] == iteration:
            place = torch.zeros_like(log)
            place[1, 2] = bad
            log = log + place
        return log

    with pytest.raises(NonFiniteScoreError) as caught:
        optimize(clips(), [0.1, 0.3], seeds_of(2), model=model)
    assert (caught.value.area, caught.value.example, caught.value.iteration) == (1, 2, iteration)
    assert len(calls) == iteration + 1


def test_a_gradient_that_is_no_number_is_named_too():
    def model(shown, kept):
        log = log_probability(shown, kept)
        spike = (shown[0, 1].sum() * 0).sqrt()  # 0, with an infinite slope
        place = torch.zeros_like(log)
        place[0, 1] = 1
        return log + spike * place

    with pytest.raises(NonFiniteScoreError) as caught:
        optimize(clips(), [0.1, 0.3], seeds_of(2), model=model)
    assert (caught.value.area, caught.value.example, caught.value.iteration) == (0, 1, 0)


def test_a_score_of_the_final_masks_that_is_no_number_is_an_error_as_well():
    calls = []

    def model(shown, kept):
        calls.append(len(calls))
        return log_probability(shown, kept) + (torch.nan if calls[-1] == SETTINGS.n_iter else 0)

    with pytest.raises(NonFiniteScoreError):
        optimize(clips(), [0.1], seeds_of(1), model=model)
