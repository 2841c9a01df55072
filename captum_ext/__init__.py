"""Explain video and recurrent PyTorch models: where and when is the evidence.

The attribution classes live in :mod:`captum_ext.attr` and follow Captum's API; the other packages hold
what they are built on (:mod:`captum_ext.excitation`) and what is done with their maps
(:mod:`captum_ext.grounding`, :mod:`captum_ext.metrics`, :mod:`captum_ext.visualization`).
"""

__version__ = "0.1.0.dev0"
