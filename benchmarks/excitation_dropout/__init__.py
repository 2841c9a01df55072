"""Chapter 5 of the thesis in small: accuracy, utilisation and compression under seven kinds of dropout."""

from benchmarks.excitation_dropout.run import add_arguments, run

__all__ = ["add_arguments", "run"]
