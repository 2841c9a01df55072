"""Recurrent layers and cells, along the value path.

Gates (sigmoids) modulate and receive nothing; a state shares its mass between what it is the sum of; a
value shares it over x_t and h_{t-1} jointly, by the rule of linear maps. Constant initial states are biases.
One file per kind of cell holds its equations; ``calls`` takes apart what torch runs as one call.
"""

from captum_ext.excitation.rules.recurrent import calls, packing

__all__ = ["calls", "packing"]
