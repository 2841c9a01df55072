"""Extremal perturbation: what must not change the masks, and what goes on from where."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from extremal_toys import CLASSES, CLIP, FEW, IMAGE, C, H, N, T, W, classifier, data, masks_of

from captum_ext.attr import ExtremalPerturbation, SpatioTemporalExtremalPerturbation
from captum_ext.perturbation import STEP_REFERENCE, StepSettings

USES = [
    pytest.param(ExtremalPerturbation, IMAGE, {}, id="images"),
    pytest.param(ExtremalPerturbation, CLIP, {}, id="frames"),
    pytest.param(SpatioTemporalExtremalPerturbation, CLIP, {}, id="step"),
    pytest.param(SpatioTemporalExtremalPerturbation, CLIP, {"smoothness": None}, id="ep-3d"),
    pytest.param(SpatioTemporalExtremalPerturbation, CLIP, {"smoothness": "gaussian"}, id="gaussian"),
    pytest.param(SpatioTemporalExtremalPerturbation, CLIP, {"variant": "dual"}, id="dual"),
]


# What is compared goes through other sums, and so through other rounding errors. In float64 none of them is
# large enough to move a value across the edge of the tolerance for ties.
DOUBLE = torch.float64


def require_close(found, expected, what=""):
    """Masks, and the numbers that come with them."""
    for name in ("masks", "volumes", "seeds", "probabilities", "rewards", "losses"):
        torch.testing.assert_close(
            getattr(found, name),
            getattr(expected, name),
            rtol=0,
            atol=1e-9,
            msg=lambda m, n=name: f"{what} {n}: {m}",
        )


def part(found, examples=slice(None), areas=slice(None)):
    """Some examples' and areas' share of what a call found."""
    names = ("masks", "volumes", "probabilities", "losses", "rewards", "seeds")
    parts = {name: getattr(found, name)[examples, areas] for name in names}
    return replace(found, **parts, original_probabilities=found.original_probabilities[examples])


@pytest.mark.parametrize(("cls", "shape", "options"), USES)
def test_a_batch_with_different_targets_equals_its_examples_alone(cls, shape, options):
    explainer, x = cls(classifier(*shape, dtype=DOUBLE)), data(*shape, n=3, dtype=DOUBLE)
    found = masks_of(explainer, x, [1, 3, 0], **options)
    for i, target in enumerate([1, 3, 0]):
        require_close(
            part(found, slice(i, i + 1)), masks_of(explainer, x[i : i + 1], target, **options), f"example {i}"
        )


@pytest.mark.parametrize(("cls", "shape", "options"), USES)
def test_areas_together_equal_areas_alone(cls, shape, options):
    explainer, x = cls(classifier(*shape, dtype=DOUBLE)), data(*shape, dtype=DOUBLE)
    together = masks_of(explainer, x, [1, 3], areas=(0.6, 0.4, 0.5), perturbations_per_eval=3, **options)
    assert together.areas == (0.6, 0.4, 0.5)
    for a, area in enumerate(together.areas):
        alone = masks_of(explainer, x, [1, 3], areas=area, **options)
        require_close(part(together, areas=slice(a, a + 1)), alone, f"area {area}")


@pytest.mark.parametrize(("cls", "shape", "options"), USES)
def test_perturbations_per_eval_does_not_change_the_masks(cls, shape, options):
    explainer, x = cls(classifier(*shape, dtype=DOUBLE)), data(*shape, dtype=DOUBLE)
    found = [
        masks_of(explainer, x, [1, 3], areas=(0.6, 0.4, 0.5), perturbations_per_eval=some, **options)
        for some in (1, 2, 3, 4)
    ]
    for some, other in enumerate(found[1:], 2):
        require_close(other, found[0], f"perturbations_per_eval={some}")


@pytest.mark.parametrize(("cls", "shape", "options"), USES)
def test_two_runs_are_equal_to_the_bit(cls, shape, options):
    explainer, x = cls(classifier(*shape)), data(*shape)
    first, second = (
        explainer.attribute(x, target=[1, 3], return_masks=True, **{**FEW, **options}) for _ in range(2)
    )
    assert torch.equal(first[0], second[0])
    for name in ("masks", "volumes", "probabilities", "losses", "rewards", "seeds"):
        assert torch.equal(getattr(first[1], name), getattr(second[1], name))


@pytest.mark.parametrize("perturbation", ["blur", "fade", "mean"])
@pytest.mark.parametrize("cls", CLASSES)
def test_clips_with_frames_first_have_the_same_masks(cls, perturbation):
    model, x = classifier(*CLIP, dtype=DOUBLE), data(*CLIP, dtype=DOUBLE)
    options = {**FEW, "perturbation": perturbation, "return_masks": True, "target": [1, 3]}
    maps, expected = cls(model).attribute(x, **options)
    frames_first = x.transpose(1, 2).contiguous()
    swapped, found = cls(lambda v: model(v.transpose(1, 2)), layout="NTCHW").attribute(
        frames_first, **options
    )
    require_close(found, expected)
    assert swapped.shape == (N, T, C, H, W)
    torch.testing.assert_close(swapped.transpose(1, 2), maps, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(7, 13), (13, 7), (1, 6), (6, 1), (17, 5), (33, 18)])
def test_frames_of_any_size_can_be_explained(size):
    for cls, shape in (
        (ExtremalPerturbation, (C, *size)),
        (SpatioTemporalExtremalPerturbation, (C, 4, *size)),
    ):
        # A side of one pixel has no blur.
        options = {**FEW, "perturbation": "fade", "return_masks": True}
        maps, found = cls(classifier(*shape)).attribute(data(*shape), target=1, **options)
        assert maps.shape == (N, *shape)
        assert found.masks.shape == (N, 2, *shape[1:])
        assert maps.amax() == 1
        assert maps.amin() >= 0


def in_both_precisions(cls, **options):
    """Masks in float32 and in float64."""
    for dtype in (torch.float32, DOUBLE):
        found = masks_of(cls(classifier(*CLIP, dtype=dtype)), data(*CLIP, dtype=dtype), [1, 3], **options)
        yield found.masks.double()


@pytest.mark.parametrize("cls", CLASSES)
def test_float32_and_float64_have_the_same_masks(cls):
    # Seeds far apart, so that rounding exchanges no ranks.
    start = data(2, T, H + 6, W + 6, seed=3).sigmoid()
    settings = StepSettings(n_iter=4, learning_rate=0.2, tie_tolerance=0.0)
    single, double = in_both_precisions(cls, initial_seeds=start, settings=settings)
    torch.testing.assert_close(single, double, rtol=0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:the mask of example")  # two iterations do not reach an area
@pytest.mark.parametrize("cls", CLASSES)
def test_rounding_does_not_choose_among_seeds_that_start_alike(cls):
    settings = StepSettings(n_iter=2, learning_rate=0.2)
    single, double = in_both_precisions(cls, settings=settings)
    torch.testing.assert_close(single, double, rtol=0, atol=1e-3)
    assert double.std((1, 2, 3)).min() > 1e-3  # they moved apart
    single, double = in_both_precisions(cls, settings=replace(settings, tie_tolerance=0.0))
    assert (single - double).abs().max() > 0.05


# Where optimisation starts


@pytest.mark.parametrize("cls", CLASSES)
def test_seeds_of_a_call_go_on_in_the_next(cls):
    explainer, x = cls(classifier(*CLIP)), data(*CLIP)
    options = {"areas": (0.6, 0.8), "perturbations_per_eval": 2}
    # Without memory, which a call does not return.
    plain = StepSettings(
        optimizer="sgd", learning_rate=0.5, momentum=0.0, dampening=0.0, area_growth=1.0, smoothness_start=0
    )
    first, both = (
        masks_of(explainer, x, [1, 3], **{**options, "settings": replace(plain, n_iter=n)}) for n in (3, 7)
    )
    second = masks_of(
        explainer, x, [1, 3], **{**options, "settings": replace(plain, n_iter=4)}, initial_seeds=first.seeds
    )
    assert (first.seeds < 1).any()
    torch.testing.assert_close(second.rewards[..., 0].exp(), first.probabilities)
    torch.testing.assert_close(torch.cat([first.rewards, second.rewards], 2), both.rewards)
    torch.testing.assert_close(second.masks, both.masks, rtol=0, atol=1e-5)


def test_initial_seeds_belong_to_the_caller():
    explainer, x = SpatioTemporalExtremalPerturbation(classifier(*CLIP)), data(*CLIP)
    seeds = masks_of(explainer, x, 1).seeds
    kept = seeds.clone()
    with torch.inference_mode():
        made_there = seeds.clone()
    found = masks_of(explainer, x, 1, initial_seeds=seeds)
    assert torch.equal(seeds, kept)
    assert not seeds.requires_grad
    assert torch.equal(masks_of(explainer, x, 1, initial_seeds=made_there).masks, found.masks)
    assert torch.equal(masks_of(explainer, x, 1, initial_seeds=seeds.double()).masks, found.masks)


@pytest.mark.parametrize("some", [1, 2])
def test_initial_seeds_of_another_number_of_areas_are_refused_before_anything_runs(some):
    model, calls = classifier(*CLIP), []

    def scores(clips):
        calls.append(1)
        return model(clips)

    explainer, x = SpatioTemporalExtremalPerturbation(scores), data(*CLIP)
    seeds = masks_of(explainer, x, 1).seeds
    calls.clear()
    for areas in (0.4, (0.3, 0.4, 0.5)):
        n_areas = 1 if areas == 0.4 else 3
        match = rf"one entry on axis 1 for each of the {n_areas} areas, got the shape \(2, 2, 5, "
        with pytest.raises(ValueError, match=match):
            masks_of(explainer, x, 1, areas=areas, initial_seeds=seeds, perturbations_per_eval=some)
    assert len(calls) == 2  # a look at the whole clip each


def test_initial_seeds_out_of_place_are_refused():
    explainer, x = SpatioTemporalExtremalPerturbation(classifier(*CLIP)), data(*CLIP)
    seeds = masks_of(explainer, x, 1).seeds
    for bad in (seeds[:1], seeds[:, :, :4], seeds[..., 1:]):
        with pytest.raises(
            ValueError, match=r"axes N, A, T, h, w, with \(2, 5, 15, 17\) for all but A, got \("
        ):
            masks_of(explainer, x, 1, initial_seeds=bad)
    for bad in (seeds - 2, seeds + 2, seeds * torch.nan):
        with pytest.raises(ValueError, match=r"initial_seeds must lie in 0\.\.1"):
            masks_of(explainer, x, 1, initial_seeds=bad)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_generator_changes_the_start_reproducibly(cls):
    explainer, x = cls(classifier(*CLIP)), data(*CLIP)
    before = torch.get_rng_state()

    def found(seed):
        return masks_of(explainer, x, 1, generator=torch.Generator().manual_seed(seed))

    first, again, other, without = found(3), found(3), found(4), masks_of(explainer, x, 1)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.seeds, other.seeds)
    assert not torch.equal(first.seeds, without.seeds)
    torch.testing.assert_close(
        first.rewards[..., 0].exp(), without.rewards[..., 0].exp(), rtol=0.1, atol=0.05
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_moves_on():
    explainer, x = SpatioTemporalExtremalPerturbation(classifier(*CLIP)), data(*CLIP)
    generator = torch.Generator().manual_seed(3)
    first, second = (masks_of(explainer, x, 1, generator=generator) for _ in range(2))
    assert not torch.equal(first.seeds, second.seeds)


def test_an_area_that_stops_early_leaves_the_others_alone():
    x = data(*CLIP, dtype=DOUBLE)
    explainer = SpatioTemporalExtremalPerturbation(classifier(*CLIP, dtype=DOUBLE))
    settings = StepSettings(
        n_iter=40, learning_rate=0.2, area_growth=1.0, smoothness_start=0, plateau=4, plateau_tolerance=0.05
    )
    options = {"areas": (0.3, 0.7), "settings": settings}
    found = masks_of(explainer, x, [1, 3], perturbations_per_eval=2, **options)
    stopped = found.losses.isnan()
    assert stopped.any()
    assert not stopped[..., :8].any()
    for some in (1, 2):
        for i, target in enumerate([1, 3]):
            alone = masks_of(explainer, x[i : i + 1], target, perturbations_per_eval=some, **options)
            torch.testing.assert_close(alone.masks[0], found.masks[i], rtol=0, atol=1e-9)


# The map and what is returned with it


@pytest.mark.parametrize(
    ("cls", "shape", "masks", "map_shape"),
    [
        (ExtremalPerturbation, IMAGE, (N, 2, H, W), (N, 1, H, W)),
        (ExtremalPerturbation, CLIP, (N, 2, T, H, W), (N, 1, T, H, W)),
        (SpatioTemporalExtremalPerturbation, CLIP, (N, 2, T, H, W), (N, 1, T, H, W)),
    ],
)
def test_all_that_is_returned_has_its_shape(cls, shape, masks, map_shape):
    explainer, x = cls(classifier(*shape)), data(*shape)
    maps, found = explainer.attribute(x, target=1, return_masks=True, **FEW)
    assert maps.shape == x.shape
    assert all(torch.equal(maps[:, 0], maps[:, c]) for c in range(1, C))
    assert found.masks.shape == masks
    assert found.areas == FEW["areas"]
    assert found.seeds.shape[:3] == (N, 2, T if x.dim() == 5 else 1)
    assert found.losses.shape == found.rewards.shape == (N, 2, 4)
    assert found.probabilities.shape == found.volumes.shape == (N, 2)
    assert found.original_probabilities.shape == (N,)
    assert 0 <= found.masks.min() <= found.masks.max() <= 1
    torch.testing.assert_close(found.volumes, found.masks.flatten(2).mean(2))
    one = explainer.attribute(x, target=1, return_input_shape=False, **FEW)
    assert one.shape == map_shape
    assert torch.equal(one, maps[:, :1])
    assert maps.flatten(1).amax(1).tolist() == [1.0] * N


def test_a_tuple_of_one_gives_a_tuple_of_one_beside_the_masks():
    explainer, x = SpatioTemporalExtremalPerturbation(classifier(*CLIP)), data(*CLIP)
    maps, found = explainer.attribute((x,), target=1, return_masks=True, **FEW)
    assert isinstance(maps, tuple)
    assert torch.equal(maps[0], explainer.attribute(x, target=1, **FEW))
    assert not any(value.requires_grad for value in vars(found).values() if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("cls", CLASSES)
def test_a_noise_tunnel_around_it_gives_the_mean_of_noisy_maps(cls):
    explainer, x = cls(classifier(*CLIP)), data(*CLIP)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = NoiseTunnel(explainer).attribute(x, nt_samples=3, stdevs=0.1, target=[1, 3], **FEW)
    assert found.shape == x.shape
    assert 0 <= found.min() <= found.max() <= 1
    assert (found - explainer.attribute(x, target=[1, 3], **FEW)).abs().max() > 1e-4


# Clips and areas that do not fit


@pytest.mark.parametrize("n_frames", [1, 2, 6])
@pytest.mark.parametrize("smoothness", ["step", "gaussian", "evenly", None])
def test_clips_shorter_than_the_kernel_work(n_frames, smoothness):
    shape = (C, n_frames, 13, 11)
    found = masks_of(
        SpatioTemporalExtremalPerturbation(classifier(*shape)), data(*shape), 1, smoothness=smoothness, dt=3
    )
    assert found.masks.shape == (N, 2, *shape[1:])
    assert found.masks.isfinite().all()


def test_clips_shorter_than_the_kernel_of_the_published_code_are_refused():
    shape = (C, 5, 40, 36)
    explainer = SpatioTemporalExtremalPerturbation(classifier(*shape))
    with pytest.raises(ValueError, match=r"kernel of 7 x 11 x 11 does not fit into masks of 5 x \d+ x \d+"):
        masks_of(explainer, data(*shape), 1, settings=STEP_REFERENCE)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("area", [0, 1, 0.0, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_areas_outside_of_0_to_1_are_refused(cls, area):
    for areas in (area, (0.5, area)):
        with pytest.raises(ValueError, match=f"between 0 and 1, got {area}"):
            masks_of(cls(classifier(*CLIP)), data(*CLIP), 1, areas=areas)


@pytest.mark.parametrize("cls", CLASSES)
def test_areas_that_are_no_numbers_are_refused(cls):
    explainer = cls(classifier(*CLIP))
    with pytest.raises(ValueError, match="areas is empty"):
        masks_of(explainer, data(*CLIP), 1, areas=())
    for bad in (True, None, "0.5", 0.5j, ("0.5",), (None,), (0.5, True)):
        with pytest.raises(TypeError, match="areas must be"):
            masks_of(explainer, data(*CLIP), 1, areas=bad)


def test_areas_may_be_real_numbers_of_any_type():
    explainer, x = SpatioTemporalExtremalPerturbation(classifier(*CLIP)), data(*CLIP)
    expected = masks_of(explainer, x, 1, areas=(0.5, 0.25))
    for areas in (
        [Fraction(1, 2), Fraction(1, 4)],
        np.array([0.5, 0.25]),
        (np.float32(0.5), np.float16(0.25)),
        (area for area in (0.5, 0.25)),
    ):
        found = masks_of(explainer, x, 1, areas=areas)
        assert found.areas == (0.5, 0.25)
        assert all(type(area) is float for area in found.areas)
        assert torch.equal(found.masks, expected.masks)
    for area in (Fraction(1, 4), np.float64(0.25)):
        assert torch.equal(masks_of(explainer, x, 1, areas=area).masks, expected.masks[:, 1:])


@pytest.mark.parametrize(("cls", "shape"), [(CLASSES[0], IMAGE), (CLASSES[0], CLIP), (CLASSES[1], CLIP)])
@pytest.mark.parametrize("area", [0.0009, 0.9991])
def test_areas_of_less_than_a_pixel_are_refused(cls, shape, area):
    n_pixels = 5 * 99 if cls is SpatioTemporalExtremalPerturbation else 99
    count = 0 if area < 0.5 else n_pixels
    with pytest.raises(ValueError, match=f"an area of {area} is {count} of {n_pixels} pixels"):
        masks_of(cls(classifier(*shape)), data(*shape), 1, areas=(0.5, area))


def test_areas_too_large_for_the_kernel_are_refused_by_name():
    shape = (C, 7, 13, 11)
    settings = StepSettings(
        n_iter=1, kernel=(5, 3, 3), stride=(1, 3, 3), kernel_to_the_edges=False, kernel_count="volume"
    )
    with pytest.raises(
        ValueError,
        match=r"area of 0\.8 has the volume of 89 smoothness kernels of 5 x 3 x 3, which have 36 positions",
    ):
        masks_of(
            SpatioTemporalExtremalPerturbation(classifier(*shape)),
            data(*shape),
            1,
            areas=(0.1, 0.8),
            settings=settings,
        )


def test_options_out_of_range_are_refused_by_name():
    explainer, x = SpatioTemporalExtremalPerturbation(classifier(*CLIP)), data(*CLIP)
    bad = {
        "variant must be one of .* got 'keep'": {"variant": "keep"},
        "smoothness must be one of .* got 'sharp'": {"smoothness": "sharp"},
        "perturbation must be one of .* got 'black'": {"perturbation": "black"},
        "dt must be at least 1, got 0": {"dt": 0},
        "perturbations_per_eval must be at least 1, got 0": {"perturbations_per_eval": 0},
        r"baselines of shape \(2, 3\) do not fit": {"baselines": torch.zeros(2, 3)},
    }
    for match, options in bad.items():
        with pytest.raises(ValueError, match=match):
            masks_of(explainer, x, 1, **options)
    with pytest.raises(ValueError, match="layout must be 'NCTHW' or 'NTCHW', got 'NHWC'"):
        SpatioTemporalExtremalPerturbation(classifier(*CLIP), layout="NHWC")
    wrong = {
        "settings must be StepSettings, got dict": {"settings": {"n_iter": 3}},
        "dt must be an integer, got 1.5": {"dt": 1.5},
        "perturbations_per_eval must be an integer": {"perturbations_per_eval": 2.5},
        r"baselines must be a number or a tensor, got \(0\.0, 1\.0\)": {"baselines": (0.0, 1.0)},
        "baselines must be a number or a tensor, got 'black'": {"baselines": "black"},
        r"baselines must be a number or a tensor, got \[0\.0\]": {"baselines": [0.0]},
        r"baselines must be a number or a tensor, got \(None,\)": {"baselines": (None,)},
    }
    for match, options in wrong.items():
        with pytest.raises(TypeError, match=match):
            masks_of(explainer, x, 1, **options)


@pytest.mark.parametrize("cls", CLASSES)
def test_inputs_of_a_wrong_form_are_refused(cls):
    explainer, x = cls(classifier(*CLIP)), data(*CLIP)
    with pytest.raises(ValueError, match="one tensor of clips, got 2"):
        masks_of(explainer, (x, x), 1)
    with pytest.raises(ValueError, match=r"got the shape \(2, 3, 5\)"):
        masks_of(explainer, x[..., 0, 0], 1)
    with pytest.raises(ValueError, match="frames and channels look swapped"):
        masks_of(explainer, data(16, 3, H, W), 1)
    with pytest.raises(ValueError, match="contains NaN"):
        masks_of(explainer, x * torch.nan, 1)
    with pytest.raises(TypeError, match="floating point"):
        masks_of(explainer, x.long(), 1)


def test_images_are_no_clips():
    with pytest.raises(ValueError, match=r"5 axes N, C, T, H, W, got the shape \(2, 3, 9, 11\)"):
        masks_of(SpatioTemporalExtremalPerturbation(classifier(*IMAGE)), data(*IMAGE), 1)
