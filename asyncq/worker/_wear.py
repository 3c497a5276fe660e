"""When a worker's process is worn out, and another one shall take its place."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from asyncq._flight import FlightRecorder

_STATM = Path("/proc/self/statm")
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Beats between two looks at the memory: a second.
_BEATS = 4


class Wear:
    """Counts tasks and looks at the memory; calls `condemn` with the reason when there was enough of one."""

    def __init__(
        self,
        flights: FlightRecorder,
        condemn: Callable[[str], None],
        *,
        max_tasks: int | None,
        max_memory: int | None,
    ) -> None:
        """`max_memory` is in KiB."""
        self._flights = flights
        self._condemn = condemn
        self._max_tasks = max_tasks
        self._max_memory = max_memory
        self._beats = 0

    def count(self, ended: int) -> None:
        """So many tasks have come to an end."""
        self._flights.count_ended(ended)
        if self._max_tasks is not None and self._flights.ended >= self._max_tasks:
            self._condemn(f"{self._flights.ended} tasks have ended in it (max_tasks_per_child)")

    def beat(self) -> None:
        """To be called several times a second."""
        self._flights.beat()
        self._beats += 1
        # A limit below what an idle process takes must not keep every process from doing anything.
        if self._max_memory is None or self._beats % _BEATS or not self._flights.ended:
            return
        held = resident_kib()
        if held > self._max_memory:
            self._condemn(f"it holds {held:,} KiB of memory (max_memory_per_child)")


def resident_kib() -> int:
    """Memory of this process, in KiB; its peak where the system tells no more than that."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE // 1024
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak
