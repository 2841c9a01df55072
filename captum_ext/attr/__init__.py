"""Attribution methods with Captum's interface."""

from captum_ext.attr.excitation_backprop import ExcitationBackprop
from captum_ext.attr.layer_excitation_backprop import LayerExcitationBackprop
from captum_ext.attr.recurrent_excitation_backprop import RecurrentExcitationBackprop

__all__ = ["ExcitationBackprop", "LayerExcitationBackprop", "RecurrentExcitationBackprop"]
