"""The one place that waits for processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

__all__ = ["Change", "Happened", "Reaper"]

#: A process that has ended, been stopped (SIGSTOP, Ctrl-Z in a debugger), or been continued.
_ALL_CHANGES = os.WNOHANG | os.WUNTRACED | os.WCONTINUED


class Happened(Enum):
    ENDED = auto()
    STOPPED = auto()
    CONTINUED = auto()


class Change(NamedTuple):
    """What became of a process."""

    happened: Happened
    #: Of one that has ended: its exit code, or minus the number of the signal that killed it. Else 0.
    code: int = 0


class Reaper:
    """Tells the owners of processes what became of them, and leaves no zombie.

    It collects every child of this process, those too that nobody watches: as process 1 of a container, the supervisor
    inherits the orphans.
    """

    def __init__(self) -> None:
        self._owners: dict[int, Callable[[Change], None]] = {}

    def watch(self, pid: int, owner: Callable[[Change], None]) -> None:
        """From now on until the process has ended, `owner` is called with what becomes of it."""
        self._owners[pid] = owner

    def reap(self) -> None:
        """Tell what has happened since the last call; never waits."""
        while True:
            try:
                pid, status = os.waitpid(-1, _ALL_CHANGES)
            except ChildProcessError:
                return
            if pid == 0:
                return
            change = _change_of(status)
            owner = self._owners.pop(pid, None) if change.happened is Happened.ENDED else self._owners.get(pid)
            if owner is not None:
                owner(change)


def _change_of(status: int) -> Change:
    if os.WIFSTOPPED(status):
        return Change(Happened.STOPPED)
    if os.WIFCONTINUED(status):
        return Change(Happened.CONTINUED)
    return Change(Happened.ENDED, os.waitstatus_to_exitcode(status))
