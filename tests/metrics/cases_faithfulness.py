"""The faithfulness and sanity metrics for the tests that all metric classes share."""

import torch
from faithfulness_toys import N_CLASSES, GradientTimesInput, H, T, Toy, W, clips, random_maps
from metric_case import MetricCase

from captum_ext.metrics import (
    AreaBetweenPerturbationCurves,
    AreaOverPerturbationCurve,
    ConservationResidual,
    MinimumPreservationRatio,
    OrderSensitivity,
    ParameterRandomization,
    RandomTarget,
    SpatioTemporalDeletion,
    SpatioTemporalInsertion,
    TemporalDeletion,
    TemporalInsertion,
)


def spatio_temporal_deletion():
    return SpatioTemporalDeletion(Toy(), steps=4)


def spatio_temporal_insertion():
    return SpatioTemporalInsertion(Toy(), steps=4, score="logit")


def temporal_deletion():
    return TemporalDeletion(Toy(), steps_per_eval=2)


def temporal_insertion():
    return TemporalInsertion(Toy(), baseline=torch.full((1, 1, 1, 1), 0.5))


def area_over_perturbation_curve():
    return AreaOverPerturbationCurve(Toy(), unit="frame", baseline="mean_frame")


def area_between_perturbation_curves():
    return AreaBetweenPerturbationCurves(Toy(), baseline="zero", steps=4)


def order_sensitivity():
    return OrderSensitivity(model := Toy(), GradientTimesInput(model))


def parameter_randomization():
    return ParameterRandomization(model := Toy(), GradientTimesInput(model))


def random_target():
    return RandomTarget(GradientTimesInput(Toy()), N_CLASSES, similarity="pearson")


_CLIPS_AND_MAPS = (
    (clips(0, 3), random_maps(0, 3, T, H, W), torch.tensor([0, 5, 2])),
    (clips(1, 1), random_maps(1, 1, T, H, W), 3),
    (clips(2, 2), random_maps(2, 2, 3, 2, 2), [1, 4]),
)
_CLIPS = tuple((x, target) for x, _, target in _CLIPS_AND_MAPS)

CASES = [
    MetricCase(
        "AreaBetweenPerturbationCurves", area_between_perturbation_curves, _CLIPS_AND_MAPS, has_chance=True
    ),
    MetricCase("AreaOverPerturbationCurve", area_over_perturbation_curve, _CLIPS_AND_MAPS, has_chance=False),
    MetricCase(
        "ConservationResidual",
        ConservationResidual,
        (
            (random_maps(0, 3, 2, 4),),
            (random_maps(1, 1, 5), torch.tensor([0.25])),
            (random_maps(2, 2, 3), torch.tensor([0.5, -0.5])),
        ),
        has_chance=False,
    ),
    MetricCase(
        "MinimumPreservationRatio",
        MinimumPreservationRatio,
        (
            (
                torch.tensor([0.05, 0.1, 0.2]),
                torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.2, 0.1]]),
                torch.tensor([0.5, 0.4]),
            ),
            (torch.tensor([[0.31]]), torch.tensor([[0.9]]), torch.tensor([0.9])),
        ),
        has_chance=False,
    ),
    MetricCase("OrderSensitivity", order_sensitivity, _CLIPS, has_chance=True),
    MetricCase("ParameterRandomization", parameter_randomization, _CLIPS, has_chance=True),
    MetricCase("RandomTarget", random_target, _CLIPS, has_chance=True),
    MetricCase("SpatioTemporalDeletion", spatio_temporal_deletion, _CLIPS_AND_MAPS, has_chance=False),
    MetricCase("SpatioTemporalInsertion", spatio_temporal_insertion, _CLIPS_AND_MAPS, has_chance=False),
    MetricCase("TemporalDeletion", temporal_deletion, _CLIPS_AND_MAPS, has_chance=False),
    MetricCase("TemporalInsertion", temporal_insertion, _CLIPS_AND_MAPS, has_chance=False),
]
