"""Attribution methods with Captum's interface."""

from captum_ext.attr._extremal_problem import ExtremalMasks, MinimumArea
from captum_ext.attr.caption_guided_saliency import CaptionGuidedSaliency
from captum_ext.attr.excitation_backprop import ExcitationBackprop
from captum_ext.attr.extremal_perturbation import ExtremalPerturbation
from captum_ext.attr.layer_excitation_backprop import LayerExcitationBackprop
from captum_ext.attr.recurrent_excitation_backprop import RecurrentExcitationBackprop
from captum_ext.attr.recurrent_gradient import RecurrentGradient
from captum_ext.attr.rise import Rise
from captum_ext.attr.saliency_tubes import SaliencyTubes
from captum_ext.attr.spatio_temporal_extremal_perturbation import SpatioTemporalExtremalPerturbation
from captum_ext.attr.video_grad_cam import VideoGradCam

__all__ = [
    "CaptionGuidedSaliency",
    "ExcitationBackprop",
    "ExtremalMasks",
    "ExtremalPerturbation",
    "LayerExcitationBackprop",
    "MinimumArea",
    "RecurrentExcitationBackprop",
    "RecurrentGradient",
    "Rise",
    "SaliencyTubes",
    "SpatioTemporalExtremalPerturbation",
    "VideoGradCam",
]
