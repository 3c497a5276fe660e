"""Room on the disk that is kept back: a full disk must stop what adds, and let through what ends."""

from __future__ import annotations

import os
from pathlib import Path

#: Bytes. To acknowledge, too, is to write: up to a full log (1,000 pages, 4 MiB), and as much when the log goes into
#: the file.
SIZE = 10 * 1024 * 1024


class Reserve:
    """A file of that size beside the database, which is deleted when the disk is full.

    Until it can be laid in again nothing new is stored, so that the room goes to settling and to leases. All processes
    see it, since it is a file.
    """

    def __init__(self, path: Path) -> None:
        self._file = f"{path}-reserve"

    def lay_in(self) -> bool:
        """Make sure that it is there; False if there is no room for it."""
        if os.path.exists(self._file):  # noqa: PTH110 - twice as fast as a Path's, on a hot path
            return True
        unfinished = f"{self._file}.new"
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _allocate(descriptor)
            finally:
                os.close(descriptor)
            Path(unfinished).rename(self._file)
        except FileNotFoundError:  # another process was as quick
            return os.path.exists(self._file)  # noqa: PTH110 - as above
        except OSError:
            Path(unfinished).unlink(missing_ok=True)
            return False
        return True

    def give_way(self) -> bool:
        """Free the room; False if it was freed before."""
        try:
            Path(self._file).unlink()
        except OSError:
            return False
        return True


def _allocate(descriptor: int) -> None:
    """Take up the room, where a hole in a file would not."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, SIZE)
        return
    zeros = bytes(1024 * 1024)  # macOS
    for start in range(0, SIZE, len(zeros)):
        os.pwrite(descriptor, zeros, start)
