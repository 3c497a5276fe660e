"""Who is stuck, and what to make of an end: decisions alone, from what stands in a flight table and a clock's reading.

Nothing here reads a clock or touches a process. Times are monotonic seconds, which a child and its supervisor share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from asyncq._flight import Flight, Header, Phase, Stage

__all__ = [
    "SILENT",
    "After",
    "Attendance",
    "End",
    "Silence",
    "deadline_of_drain",
    "deadline_of_stop",
    "find_culprit",
    "is_stalled",
    "what_follows",
    "what_follows_wear",
]

#: Seconds without a beat that are no silence yet: a beat comes several times a second, and machines are busy.
SILENT = 1.0
#: A supervisor that was this many seconds late has missed what the children did meanwhile.
_LATE = 1.0

#: Seconds to end for a child that has not said yet how many it needs.
_DEFAULT_STOP = 10.0

#: So many times `stall_timeout` is what the loop of a starting process may stand still.
_MORE_PATIENCE = 10

#: Exit codes of a child that are no crash: done, wrong usage, server unreachable (`asyncq.cli._failures.ExitCode`).
OK, USAGE, UNREACHABLE = 0, 2, 3


class Silence:
    """For how long a child's loop has not turned, as far as its supervisor could see."""

    def __init__(self, now: float) -> None:
        self._beats = self._looks = -1
        self._since = self._looked_at = now
        self._stopped = False

    def hear(self, header: Header, now: float) -> None:
        """This stands there now."""
        if header.beats != self._beats:
            self._beats, self._since = header.beats, now
        if header.looks != self._looks:
            self._looks, self._looked_at = header.looks, now

    def stop(self) -> None:
        """The child was stopped by a signal: it can't beat, which is not its fault."""
        self._stopped = True

    def resume(self, now: float) -> None:
        """It goes on."""
        self._stopped = False
        self.forgive(now)

    def forgive(self, now: float) -> None:
        """Count from now on: it may have beaten while nobody looked."""
        self._since = self._looked_at = now

    def seconds(self, now: float) -> float:
        return 0.0 if self._stopped else now - self._since

    def is_the_loops(self, now: float) -> bool:
        """Another thread has had its turn in the second half of the silence: nobody holds the whole interpreter.

        Not just once: the two don't beat at the same moment, so that one of them always is the first to stop.
        """
        silence = self.seconds(now)
        return silence > 2 * SILENT and now - self._looked_at < silence / 2


class Attendance:
    """Whether the supervisor itself was there: it may have been stopped, or its whole machine suspended."""

    def __init__(self, now: float) -> None:
        self._last = now

    def absence(self, now: float, planned: float) -> float:
        """Seconds by which it missed the turn that was planned for `planned` seconds after the last; 0 when in time."""
        late = now - self._last - planned
        self._last = now
        return late if late > _LATE else 0.0


def find_culprit(header: Header, flights: Sequence[Flight], *, is_the_loops: bool) -> Flight | None:
    """The task whose code the loop runs, if it still does.

    None where a `def` task may be what the loop waits for: `is_the_loops` says that other threads have their turns.
    """
    if header.threads and not is_the_loops:
        return None
    on_loop = (flight for flight in flights if flight.slot == header.on_loop and flight.stage is not Stage.CONCLUDED)
    return next(on_loop, None)


def is_stalled(header: Header, culprit: Flight | None, silence: float, now: float) -> bool:
    """Whether the loop has been silent for too long: for anybody, or for the task that holds it.

    While a process starts it may load what it likes, for as long as it likes. Its loop, once it has turned, is judged
    then as well, but with much more patience: a lifespan may load on it.
    """
    if silence <= SILENT:
        return False
    if header.phase is Phase.STARTING:
        return header.beats > 0 and silence > _MORE_PATIENCE * header.stall_timeout
    overdue = culprit is not None and now > culprit.deadline + header.kill_grace
    return overdue or silence > header.stall_timeout


def deadline_of_stop(header: Header | None, *, asked_at: float, at_once_at: float | None) -> float:
    """Until when a child may live that was told to stop, and perhaps later to stop at once."""
    if header is None:
        # It still imports, and holds nothing.
        return asked_at + _DEFAULT_STOP if at_once_at is None else at_once_at
    patient = asked_at + header.shutdown_timeout + header.kill_grace
    return patient if at_once_at is None else min(patient, at_once_at + header.kill_grace)


def deadline_of_drain(header: Header | None) -> float:
    """Until when a child may live that is worn out; infinity when it isn't."""
    if header is None or not header.drain_until or header.phase not in {Phase.CONDEMNED, Phase.UNSETTLED}:
        return math.inf
    return header.drain_until


class After(Enum):
    """What follows the end of a child."""

    #: Nothing: it did what it was there for.
    NOTHING = auto()
    #: Another, at once: it has only made room.
    SUCCESSOR = auto()
    #: Another, after a while: it died, or was of no use.
    RESTART = auto()
    #: Another, when its code has changed.
    CHANGE = auto()
    #: The end of the supervisor, with the child's code: trying again won't help.
    GIVE_UP = auto()


class End(NamedTuple):
    """How a child ended, and what it has left."""

    #: Its exit code, or minus the number of a signal.
    code: int
    header: Header | None
    flights: Sequence[Flight]
    #: It had been told to end.
    asked: bool = False
    #: The supervisor killed it, since it didn't end when its time was over.
    put_down: bool = False
    #: The task for which the supervisor killed it, since its loop stood still.
    culprit: Flight | None = None

    @property
    def is_orderly(self) -> bool:
        """It came to its end by itself. A task that calls `os._exit(0)` makes no orderly end."""
        if self.header is None and self.asked:
            return True
        return self.code == OK and (self.is_unsettled or self._is_through)

    @property
    def is_unsettled(self) -> bool:
        """It knew that it left something to others."""
        return self.code == OK and self.header is not None and self.header.phase is Phase.UNSETTLED

    @property
    def is_well(self) -> bool:
        """It has left nothing to others, and no question."""
        return self.is_orderly and not self.is_unsettled

    @property
    def is_explained(self) -> bool:
        """Its own last line has said what is wrong; a task that calls `os._exit(3)` explains nothing."""
        return self.is_unsettled or (self.code in (USAGE, UNREACHABLE) and self._is_through)

    @property
    def is_suspicious(self) -> bool:
        """A task may have caused it, nobody knows which."""
        return not (self.put_down or self.culprit or self.is_explained)

    @property
    def _is_through(self) -> bool:
        """No task was under way."""
        return all(flight.stage is Stage.CONCLUDED for flight in self.flights)

    @property
    def may_hold_messages(self) -> bool:
        return self.header is not None and self.header.phase is not Phase.STARTING

    @property
    def achieved(self) -> int:
        """Tasks that came to an end, be it by a conviction."""
        return (0 if self.header is None else self.header.ended) + (self.culprit is not None)


def what_follows(end: End, *, first: bool, watching: bool) -> After:
    """What follows the end of a child while the supervisor goes on.

    `first`: no child was ever ready. `watching`: a change of the source starts children anew; it alone asks single
    children to end.
    """
    if end.asked:
        return After.SUCCESSOR
    if end.is_orderly:
        worn_out = end.header is not None and end.header.phase is Phase.CONDEMNED
        return what_follows_wear(end.achieved) if worn_out else After.NOTHING
    if end.code == USAGE and watching:
        return After.CHANGE
    return After.GIVE_UP if first and end.is_explained else After.RESTART


def what_follows_wear(achieved: int) -> After:
    """What follows when a child is worn out, after so many tasks.

    One that was worn out by starting alone, because of too low a limit of memory, is followed by others like it.
    """
    return After.SUCCESSOR if achieved else After.RESTART
