"""When a child that died is started again, and when no longer."""

from __future__ import annotations

from collections import deque

from asyncq.supervisor._delays import doubling

__all__ = ["CrashLoop", "CrashLoopBreaker"]

#: Seconds until a restart: at first, and at most.
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
#: So many deaths within so many seconds, none after a task had ended, are a crash loop.
_DEATHS, _WINDOW = 5, 60.0


class CrashLoop(Exception):
    """Starting again doesn't help; whoever supervises the supervisor must see it."""


class CrashLoopBreaker:
    """Tells a child that works and dies now and then from one that dies before it does anything."""

    def __init__(self) -> None:
        #: When children died of which no task had ended: how many in a row, and the times of the latest.
        self._in_a_row = 0
        self._fruitless: deque[float] = deque(maxlen=_DEATHS)

    def delay(self, now: float, achieved: int) -> float:
        """A child is gone that had brought so many tasks to an end: seconds until the next shall start.

        Raises CrashLoop.
        """
        if achieved:
            self.reset()
            return _FIRST_DELAY
        self._in_a_row += 1
        self._fruitless.append(now)
        if len(self._fruitless) == _DEATHS and now - self._fruitless[0] <= _WINDOW:
            raise CrashLoop(f"{_DEATHS} processes were gone within {_WINDOW:.0f} s before any task ended")
        return doubling(self._in_a_row, _FIRST_DELAY, _LONGEST_DELAY)

    def reset(self) -> None:
        """What happened so far doesn't count any more."""
        self._in_a_row = 0
        self._fruitless.clear()
