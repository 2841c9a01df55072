"""The main job of the library, end to end, on clips whose truth is known exactly.

Clips of moving shapes are generated and stored as mp4 files, a small CNN-LSTM and its per-frame CNN are
trained on them, held-out clips and concatenations of two actions are explained by every method, and the maps
are scored in space and time. The protocols are those of Bargal et al. (2018), section 5.
"""

from benchmarks.demo.run import add_arguments, run

__all__ = ["add_arguments", "run"]
