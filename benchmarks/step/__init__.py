"""Tables 2 to 5 of the STEP paper, on clips whose truth is exact."""

from benchmarks.step.run import add_arguments, run

__all__ = ["add_arguments", "run"]
