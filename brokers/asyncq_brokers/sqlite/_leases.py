"""When leases are over, told by a clock that may be set."""

from __future__ import annotations

from asyncq.driver import Clock
from asyncq_brokers._clients.sqlite import Session
from asyncq_brokers.sqlite import _rows

#: Seconds between two looks, at most: a due message may be a second late.
HOUSEKEEPING = 0.5

#: Seconds by which the wall clock may gain on the monotonic one between two looks before that counts as a jump.
JUMP = 1.0


class Housekeeper:
    """Rescues expired leases and releases due messages, for all consumers of the file.

    Leases are told by the machine's wall clock: all processes share it, containers too, and a reboot doesn't set it
    back to zero. If it is set forward (or the machine slept), every lease looks over, those of running tasks too; so
    after a jump nothing is rescued for one lease, in which living owners renew theirs. If it is set back, a dead
    owner's lease would last longer by as much; so none may last longer than it was given for.
    """

    def __init__(self, clock: Clock, lease: float) -> None:
        self._clock = clock
        self._lease = lease
        self._offset = clock.wall() - clock.monotonic()
        self._wait_until = clock.monotonic()

    def run(self, session: Session) -> float:
        """Do what is due; return the seconds until the next look."""
        now, monotonic = self._clock.wall(), self._clock.monotonic()
        if now - monotonic > self._offset + JUMP:
            self._wait_until = monotonic + self._lease
        elif now - monotonic < self._offset - JUMP:
            _rows.shorten_leases(session, now)
        self._offset = now - monotonic
        until, due = _rows.next_events(session.db)
        if until is not None and until <= now and monotonic >= self._wait_until:
            _rows.rescue(session, now)
        if due is not None and due <= now:
            _rows.unpark(session, now)
        ahead = [event - now for event in (until, due) if event is not None and event > now]
        return min([HOUSEKEEPING, *ahead])
