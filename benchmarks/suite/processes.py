"""What the processes of one run tell each other, whoever launched them (Lightning, torchrun, SLURM)."""

from __future__ import annotations

import os
import threading
import time
from functools import cached_property

from torch import distributed
from torch.distributed import HashStore, Store  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import _get_default_store

__all__ = ["Processes", "end_with_parent"]

_POLL_S = 0.2
_PARENT = "CAPTUM_EXT_PARENT"


class Processes:
    """Notes that every process of a run can read at any time, so that none waits in a collective operation.

    Shares differ, and a barrier would give up after half an hour.
    """

    @cached_property
    def _store(self) -> Store:
        """Lightning's process group has one; a process alone keeps its own."""
        if distributed.is_initialized():
            return _get_default_store()
        return HashStore()

    def stop(self, reason: str) -> None:
        """Let every process stop after the group that it works on."""
        self._store.set("captum_ext/stopped", reason)

    @property
    def stopped(self) -> str | None:
        """Why a process wants all of them to stop; None if they are to go on."""
        if not self._store.check(["captum_ext/stopped"]):
            return None
        return str(self._store.get("captum_ext/stopped").decode())

    def finish(self, rank: int) -> None:
        """This process has written all of its results."""
        self._store.set(f"captum_ext/finished/{rank}", "")

    def wait(self, n_processes: int) -> None:
        """Until all have finished, however long that takes."""
        while not self._store.check([f"captum_ext/finished/{rank}" for rank in range(n_processes)]):
            time.sleep(_POLL_S)


def end_with_parent() -> None:
    """End a process that was launched on this machine with its launcher, though that was ended by kill -9.

    Otherwise it would go on explaining clips for nobody, beside the run that resumes.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        os.environ[_PARENT] = str(os.getpid())  # for those that Lightning launches from here
        return
    parent = int(os.environ.get(_PARENT, os.getppid()))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
