"""Who is stuck, and what to make of an end: decisions alone, from what stands in a flight table and a clock's reading.

Nothing here reads a clock or touches a process. Times are monotonic seconds, which a child and its supervisor share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum, auto

from asyncq._flight import Flight, Header, Phase, Stage

__all__ = [
    "SILENT",
    "UNREACHABLE",
    "USAGE",
    "After",
    "Attendance",
    "Silence",
    "deadline_of_drain",
    "deadline_of_stop",
    "ended_well",
    "find_culprit",
    "is_stalled",
    "is_suspicious",
    "what_follows",
]

#: Seconds without a beat that are no silence yet: a beat comes several times a second, and machines are busy.
SILENT = 1.0
#: A supervisor that was this many seconds late has missed what the children did meanwhile.
_LATE = 1.0

#: Seconds to end for a child that has not said yet how many it needs.
_DEFAULT_STOP = 10.0

#: Exit codes of a child that are no crash: done, wrong usage, server unreachable (`asyncq.cli._failures.ExitCode`).
OK, USAGE, UNREACHABLE = 0, 2, 3


class Silence:
    """For how long a child's loop has not turned, as far as its supervisor could see."""

    def __init__(self, now: float) -> None:
        self._beats = -1
        self._since = now
        self._stopped = False

    def hear(self, beats: int, now: float) -> None:
        """So many beats stand in its header."""
        if beats != self._beats:
            self._beats, self._since = beats, now

    def stop(self) -> None:
        """The child was stopped by a signal: it can't beat, which is not its fault."""
        self._stopped = True

    def resume(self, now: float) -> None:
        """It goes on."""
        self._stopped, self._since = False, now

    def forgive(self, now: float) -> None:
        """Count from now on: it may have beaten while nobody looked."""
        self._since = now

    def seconds(self, now: float) -> float:
        return 0.0 if self._stopped else now - self._since


class Attendance:
    """Whether the supervisor itself was there: it may have been stopped, or its whole machine suspended."""

    def __init__(self, now: float) -> None:
        self._last = now

    def absence(self, now: float, planned: float) -> float:
        """Seconds by which it missed the turn that was planned for `planned` seconds after the last; 0 when in time."""
        late = now - self._last - planned
        self._last = now
        return late if late > _LATE else 0.0


def find_culprit(header: Header, flights: Sequence[Flight]) -> Flight | None:
    """The task whose code the loop runs, if it still does."""
    on_loop = (flight for flight in flights if flight.slot == header.on_loop and flight.stage is not Stage.CONCLUDED)
    return next(on_loop, None)


def is_stalled(header: Header, culprit: Flight | None, silence: float, now: float) -> bool:
    """Whether the loop has been silent for too long: for anybody, or for the task that holds it.

    While a process starts it may load what it likes, for as long as it likes.
    """
    if header.phase is Phase.STARTING or silence <= SILENT:
        return False
    overdue = culprit is not None and now > culprit.deadline + header.kill_grace
    return overdue or silence > header.stall_timeout


def deadline_of_stop(header: Header | None, *, asked_at: float, at_once_at: float | None) -> float:
    """Until when a child may live that was told to stop, and perhaps later to stop at once."""
    if header is None:
        return asked_at + _DEFAULT_STOP
    patient = asked_at + header.shutdown_timeout + header.kill_grace
    return patient if at_once_at is None else min(patient, at_once_at + header.kill_grace)


def deadline_of_drain(header: Header | None) -> float:
    """Until when a child may live that is worn out; infinity when it isn't."""
    return header.drain_until if header is not None and header.phase is Phase.CONDEMNED else math.inf


class After(Enum):
    """What follows the end of a child."""

    #: Nothing: it did what it was there for.
    NOTHING = auto()
    #: Another, at once: it has only made room.
    SUCCESSOR = auto()
    #: Another, after a while: it died.
    RESTART = auto()
    #: Another, when its code has changed.
    CHANGE = auto()
    #: The end of the supervisor, with the child's code: trying again won't help.
    GIVE_UP = auto()


def ended_well(code: int, header: Header | None, flights: Sequence[Flight], *, asked: bool) -> bool:
    """Whether it has left nothing to others, and no question. `asked`: it was told to end.

    A task that calls `os._exit(0)` makes no orderly end.
    """
    if header is None and asked:
        return True
    at_work = header is not None and header.phase is Phase.READY
    return code == OK and not (at_work and any(flight.stage is not Stage.CONCLUDED for flight in flights))


def what_follows(
    code: int, header: Header | None, *, well: bool, reloading: bool, first: bool, watching: bool
) -> After:
    """What follows the end of a child while the supervisor goes on.

    `reloading`: it was told to end for the sake of its successor. `first`: no child was ever ready. `watching`: a
    change of the source starts children anew.
    """
    if reloading:
        return After.SUCCESSOR
    if well:
        return After.SUCCESSOR if header is not None and header.phase is Phase.CONDEMNED else After.NOTHING
    if code == USAGE and watching:
        return After.CHANGE
    return After.GIVE_UP if first and code in (USAGE, UNREACHABLE) else After.RESTART


def is_suspicious(code: int, *, put_down: bool) -> bool:
    """Whether a task may have caused this end, nobody knows which. `put_down`: the supervisor ended it, for its age."""
    return not put_down and code not in (USAGE, UNREACHABLE)
