"""Grounding the words of captions (Bargal et al. 2018, section 4.2) on clips whose truth is known exactly.

A captioner is trained on generated clips in which one shape moves beside another; the subject, the motion and
the object of held-out captions are grounded by every method, and the maps are scored against the boxes.
"""

from benchmarks.captioning.run import CaptionGrounding, add_arguments, ground_captions, run

__all__ = ["CaptionGrounding", "add_arguments", "ground_captions", "run"]
