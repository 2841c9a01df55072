"""Extremal perturbation: smooth masks of given areas that keep a score, optimised by gradients.

Knows nothing of models, targets or Captum: scores come from a function.
"""

from captum_ext.perturbation.mask_space import MaskSpace, Smoothness, possible_areas
from captum_ext.perturbation.operators import Perturbation, blur_pyramid, gaussian_blur, mean_frame
from captum_ext.perturbation.optimization import (
    LogProbability,
    NonFiniteScoreError,
    OptimizedMasks,
    Variant,
    optimize_masks,
)
from captum_ext.perturbation.settings import STEP_PAPER, STEP_REFERENCE, StepSettings

__all__ = [
    "STEP_PAPER",
    "STEP_REFERENCE",
    "LogProbability",
    "MaskSpace",
    "NonFiniteScoreError",
    "OptimizedMasks",
    "Perturbation",
    "Smoothness",
    "StepSettings",
    "Variant",
    "blur_pyramid",
    "gaussian_blur",
    "mean_frame",
    "optimize_masks",
    "possible_areas",
]
