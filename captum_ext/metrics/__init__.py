"""Metrics of saliency in space and time; the functions are in :mod:`captum_ext.metrics.functional`."""
