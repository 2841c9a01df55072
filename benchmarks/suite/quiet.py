"""What Lightning says that means nothing to those who run a benchmark."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_lightning"]

_INFOS = ("\N{ELECTRIC LIGHT BULB} Tip:", "TPU available")
_WARNINGS = (
    # How many processes decode is the user's choice.
    ".*does not have many workers.*",
    # Lightning's own use of torch.
    ".*LeafSpec.*is deprecated.*",
    # A process, or all of them, that has nothing left to do after a resumed run.
    ".*has zero length.*",
    "Total length of .* across ranks is zero.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's advertisements, and warnings of what is meant to be so; nothing else."""
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    log.addFilter(_says_something)
    try:
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.removeFilter(_says_something)


def _says_something(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_INFOS)
