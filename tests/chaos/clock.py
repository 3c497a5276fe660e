"""A wall clock that a test sets, in the processes of its workers; the monotonic one goes on as it is.

It is what Python code reads by `time.time`, so what asyncq and its servers' clients read: asyncq asks in one place
alone, which a lint rule sees to. What C code asks of the kernel (`datetime.now`, a library of a user's) is not moved.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

#: Name of the file, in the folder of the ledger.
CLOCK = "clock"

_SECONDS = struct.Struct("=d")


class WallClock:
    """The test's end. To be made before the workers start."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CLOCK).write_bytes(bytes(_SECONDS.size))
        self._offset = _map(folder / CLOCK)

    def jump(self, seconds: float) -> None:
        """It is so many seconds later than it is."""
        _SECONDS.pack_into(self._offset, 0, seconds)


def follow(path: Path) -> None:
    """Have this process read that clock."""
    memory, wall, wall_ns = _map(path), time.time, time.time_ns

    def offset() -> float:
        return _SECONDS.unpack_from(memory)[0]

    time.time = lambda: wall() + offset()
    time.time_ns = lambda: wall_ns() + int(offset() * 1e9)


def _map(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), _SECONDS.size)
