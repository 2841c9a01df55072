"""Extremal perturbation: clips of which the evidence is known."""

import pytest
import torch
from captum.attr import LayerAttribution
from extremal_toys import BOX, BOX_SHARE, box_scores, clip_with_a_box, data, share_in_box, shown_in_box

from captum_ext.attr import ExtremalPerturbation, SpatioTemporalExtremalPerturbation
from captum_ext.perturbation import StepSettings

STEP = SpatioTemporalExtremalPerturbation(box_scores)


def textured_clip():
    return data(3, 8, 24, 32, n=1)


def texture_scores(clips):
    """Logits of "the box is textured" and "it is smooth", which blur tells apart."""
    logit = 8 * clips[BOX].flatten(1).std(1) - 3
    return torch.stack([logit, torch.zeros_like(logit)], 1)


@pytest.mark.parametrize("smoothness", ["step", None, "gaussian", "evenly"])
@pytest.mark.parametrize("perturbation", ["blur", "fade"])
def test_the_map_points_at_the_box_in_space_and_time(smoothness, perturbation):
    maps, found = STEP.attribute(
        clip_with_a_box(),
        target=0,
        smoothness=smoothness,
        perturbation=perturbation,
        return_input_shape=False,
        return_masks=True,
    )
    frames = maps[0, 0]
    for t in range(3, 7):
        y, x = divmod(int(frames[t].argmax()), 32)
        assert 8 <= y < 14, f"frame {t} points at ({x}, {y})"
        assert 18 <= x < 25, f"frame {t} points at ({x}, {y})"
    if smoothness != "evenly":
        assert int(frames.sum((1, 2)).argmax()) in range(3, 7)
    assert found.original_probabilities > 0.97
    assert found.probabilities[0, 1:].min() > 0.9


@pytest.mark.parametrize("smoothness", ["step", None, "gaussian", "evenly"])
def test_the_map_points_at_texture_that_blur_would_take_away(smoothness):
    maps = SpatioTemporalExtremalPerturbation(texture_scores).attribute(
        textured_clip(), target=0, smoothness=smoothness, return_input_shape=False
    )
    for t in range(3, 7):
        y, x = divmod(int(maps[0, 0, t].argmax()), 32)
        assert 8 <= y < 14, f"frame {t} points at ({x}, {y})"
        assert 18 <= x < 25, f"frame {t} points at ({x}, {y})"


@pytest.mark.parametrize("corner", [(0, 0), (0, 25), (18, 0), (9, 13)])
def test_the_box_is_found_wherever_it_lies(corner):
    y, x = corner
    box = (slice(None), slice(None), slice(1, 4), slice(y, y + 6), slice(x, x + 7))
    clip = 0.1 * data(3, 8, 24, 32, n=1)
    clip[box] += 1

    def scores(clips):
        logit = 8 * clips[box].flatten(1).mean(1) - 4
        return torch.stack([logit, torch.zeros_like(logit)], 1)

    maps = SpatioTemporalExtremalPerturbation(scores).attribute(
        clip, target=0, perturbation="fade", return_input_shape=False, settings=StepSettings(n_iter=50)
    )
    for t in range(1, 4):
        row, column = divmod(int(maps[0, 0, t].argmax()), 32)
        assert y <= row < y + 6, f"frame {t} points at ({column}, {row})"
        assert x <= column < x + 7, f"frame {t} points at ({column}, {row})"


def test_each_variant_shows_the_box_by_its_own_probability():
    clip = clip_with_a_box()
    for variant in ("preserve", "delete", "dual"):
        _, found = STEP.attribute(
            clip, target=0, areas=0.1, variant=variant, perturbation="fade", return_masks=True
        )
        mask = found.masks[:, 0]
        assert shown_in_box(mask) > 0.8, variant
        p_without, p_with = (box_scores(clip * part).softmax(1)[0, 0] for part in (1 - mask, mask))
        assert p_with > 0.9, variant
        assert p_without < 0.1, variant
        expected = p_without if variant == "delete" else p_with
        torch.testing.assert_close(found.probabilities[0, 0], expected, msg=variant)


def test_a_class_that_the_box_speaks_against_is_kept_by_leaving_it_out():
    found = STEP.attribute(clip_with_a_box(), target=1, areas=0.5, perturbation="fade", return_masks=True)[1]
    assert found.original_probabilities < 0.03
    assert shown_in_box(found.masks[:, 0]) < 0.2
    assert found.probabilities > 0.9


@pytest.mark.parametrize("explainer", [STEP, ExtremalPerturbation(box_scores)])
def test_what_hides_the_clip_is_what_was_asked_for(explainer):
    clip = clip_with_a_box()
    few = {"areas": 0.4, "settings": StepSettings(n_iter=4, learning_rate=0.25), "return_masks": True}

    def found(**options):
        return explainer.attribute(clip, target=0, **few, **options)[1]

    def kept(mask, hidden):
        mask = mask.unsqueeze(1)
        return box_scores(mask * clip + (1 - mask) * hidden).softmax(1)[:, 0]

    noise = data(3, 8, 24, 32, n=1, seed=5)
    hidden = {
        "fade": (found(perturbation="fade"), torch.zeros_like(clip)),
        "mean": (found(perturbation="mean"), clip.mean(2, keepdim=True).expand_as(clip)),
        "number": (found(baselines=0.5), torch.full_like(clip, 0.5)),
        "tensor": (found(baselines=noise), noise),
        "tuple": (found(baselines=(noise,)), noise),
        "one for all": (found(baselines=noise[:, :1, :1]), noise[:, :1, :1].expand_as(clip)),
    }
    for name, (masks, behind) in hidden.items():
        torch.testing.assert_close(masks.probabilities[:, 0], kept(masks.masks[:, 0], behind), msg=name)
    assert torch.equal(found(baselines=0).masks, hidden["fade"][0].masks)
    assert torch.equal(
        found(baselines=torch.zeros_like(clip), perturbation="mean").masks, hidden["fade"][0].masks
    )
    assert not torch.equal(found().masks, hidden["fade"][0].masks)


def test_a_baseline_of_images_is_an_image():
    image, hidden = clip_with_a_box()[:, :, 4], data(3, 24, 32, n=1, seed=5)

    def scores(images):
        logit = 8 * images[:, :, 8:14, 18:25].mean((1, 2, 3)) - 4
        return torch.stack([logit, torch.zeros_like(logit)], 1)

    maps, found = ExtremalPerturbation(scores).attribute(
        image, hidden, target=0, areas=0.1, return_masks=True
    )
    mask = found.masks
    p = scores(mask * image + (1 - mask) * hidden).softmax(1)[:, 0]
    torch.testing.assert_close(found.probabilities[:, 0], p)
    y, x = divmod(int(maps[0, 0].argmax()), 32)
    assert 8 <= y < 14
    assert 18 <= x < 25


def test_the_mean_frame_of_a_still_clip_hides_nothing():
    still = clip_with_a_box()[:, :, 4:5].expand(1, 3, 8, 24, 32)
    with pytest.warns(UserWarning, match="the score of example 0 stayed the same whatever the mask showed"):
        STEP.attribute(still, target=0, areas=0.5, perturbation="mean", settings=StepSettings(n_iter=10))


# Areas


@pytest.mark.parametrize("smoothness", ["step", None, "gaussian", "evenly"])
def test_masks_keep_the_areas_that_they_were_asked_for(smoothness):
    areas = (0.1, 0.2, 0.4)
    found = STEP.attribute(
        clip_with_a_box(), target=0, areas=areas, smoothness=smoothness, return_masks=True
    )[1]
    torch.testing.assert_close(found.volumes[0], torch.tensor(areas), rtol=0.25, atol=0)


def test_frame_by_frame_each_frame_keeps_its_area():
    clip = clip_with_a_box()
    options = {"target": 0, "areas": (0.1, 0.3), "perturbation": "fade", "return_masks": True}
    options["settings"] = StepSettings(n_iter=50)
    found = ExtremalPerturbation(box_scores).attribute(clip, **options)[1]
    for a, area in enumerate((0.1, 0.3)):
        of_frames = found.masks[0, a].mean((1, 2))
        torch.testing.assert_close(of_frames, torch.full((8,), area), rtol=0.3, atol=0)
    same = STEP.attribute(clip, smoothness="evenly", **options)[1]
    assert torch.equal(same.masks, found.masks)
    free = STEP.attribute(clip, smoothness=None, **options)[1]
    of_frames = free.masks[0, 0].mean((1, 2))
    assert of_frames[3:7].mean() > 1.5 * of_frames[[0, 1, 2, 7]].mean()


@pytest.mark.parametrize("smoothness", ["step", None])
def test_the_minimum_area_is_that_of_the_box(smoothness):
    clip = clip_with_a_box()
    found = STEP.minimum_area(
        clip,
        target=0,
        threshold=0.9,
        relative=False,
        smoothness=smoothness,
        perturbation="fade",
        settings=StepSettings(n_iter=50),
    )
    # The threshold needs 0.78 of the box, which smooth masks cannot cut out sharply.
    assert 0.6 * BOX_SHARE < float(found.areas) < 3 * BOX_SHARE
    assert found.probabilities >= 0.9
    assert found.masks.shape == (1, 8, 24, 32)
    assert share_in_box(found.masks) > 0.3
    p = box_scores(clip * found.masks.unsqueeze(1)).softmax(1)[:, 0]
    torch.testing.assert_close(p, found.probabilities)
    torch.testing.assert_close(found.volumes, found.masks.mean((1, 2, 3)))


def test_the_minimum_area_of_each_example_is_its_own():
    clips = torch.cat([clip_with_a_box(), 0.6 * clip_with_a_box()]).double()
    options = {"target": 0, "threshold": 0.6, "relative": False, "tolerance": 0.1, "perturbation": "fade"}
    options["settings"] = StepSettings(n_iter=30)
    found = STEP.minimum_area(clips, **options)
    torch.testing.assert_close(found.original_probabilities, box_scores(clips).softmax(1)[:, 0])
    for i in range(2):
        alone = STEP.minimum_area(clips[i : i + 1], **options)
        torch.testing.assert_close(found.areas[i : i + 1], alone.areas)
        torch.testing.assert_close(found.masks[i : i + 1], alone.masks, rtol=0, atol=1e-9)
    assert found.areas.tolist() == sorted(found.areas.tolist())


def test_a_threshold_out_of_reach_needs_the_whole_clip():
    clip = clip_with_a_box()
    few = {"target": 0, "tolerance": 0.2, "settings": StepSettings(n_iter=3)}
    for explainer in (STEP, ExtremalPerturbation(box_scores)):
        found = explainer.minimum_area(clip, threshold=0.999, relative=False, **few)
        assert found.areas.tolist() == [1.0]
        assert torch.equal(found.probabilities, found.original_probabilities)
        assert torch.equal(found.masks, torch.ones(1, 8, 24, 32))


def linear_scores(clips):
    return clips.flatten(1)[:, :2]


WHOLE_ELLIPSOIDS = StepSettings(
    n_iter=2, kernel=(7, 5, 5), stride=(1, 5, 5), kernel_count="volume", kernel_to_the_edges=False
)


@pytest.mark.parametrize(
    ("explainer", "settings", "tolerance"),
    [
        # Half a pixel from the whole frame, and from the whole clip with and without a margin.
        (ExtremalPerturbation(linear_scores), StepSettings(n_iter=2), 0.002),
        (SpatioTemporalExtremalPerturbation(linear_scores), StepSettings(n_iter=2), 0.0005),
        (
            SpatioTemporalExtremalPerturbation(linear_scores),
            StepSettings(n_iter=2, margin=True, seed_step=4, sigma=5),
            0.0005,
        ),
        # Too few ellipsoids fit for half of the clip.
        (SpatioTemporalExtremalPerturbation(linear_scores), WHOLE_ELLIPSOIDS, 0.2),
    ],
)
def test_areas_that_masks_cannot_have_end_no_search(explainer, settings, tolerance):
    clip = 5 - 10 * torch.rand(1, 3, 8, 12, 11, generator=torch.Generator().manual_seed(0))
    found = explainer.minimum_area(
        clip, target=0, threshold=1.0, relative=False, settings=settings, tolerance=tolerance
    )
    assert found.areas.tolist() == [1.0]
    assert torch.equal(found.masks, torch.ones(1, 8, 12, 11))


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, float("nan")])
def test_thresholds_and_tolerances_out_of_range_are_refused(threshold):
    with pytest.raises(ValueError, match=f"threshold must be above 0 and at most 1, got {threshold}"):
        STEP.minimum_area(clip_with_a_box(), target=0, threshold=threshold)
    with pytest.raises(ValueError, match=f"tolerance must lie between 0 and 1, got {threshold}"):
        STEP.minimum_area(clip_with_a_box(), target=0, tolerance=threshold)


def test_maps_can_be_resized_by_captum():
    maps = STEP.attribute(
        clip_with_a_box(),
        target=0,
        areas=0.5,
        settings=StepSettings(n_iter=3, learning_rate=0.2),
        return_input_shape=False,
    )
    assert LayerAttribution.interpolate(maps, (4, 12, 16), "trilinear").shape == (1, 1, 4, 12, 16)
