"""Keeps the order of what was admitted, and starts it as slots come free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from asyncq._cores import usable_cores
from asyncq.driver import Clock, GiveBack, Park
from asyncq.worker._attempt import Attempt
from asyncq.worker._executor import Executor
from asyncq.worker._flow import Flow
from asyncq.worker._rate_gate import LocalBuckets
from asyncq.worker._settler import Settler

#: Seconds that a delivery waits for a slot. What is taken ahead should begin within one; when what runs lasts longer
#: than was thought, another worker may have a slot at once, and this one perhaps none for hours.
_PATIENCE = 1.0

#: Suspects that run at a time: as many as there are cores, each in a process, and no fewer than this.
_LEAST_QUARANTINE_PLACES = 2

#: Suspects that wait here until quarantine is free. Others may take the rest: they are parked, and come again.
_MOST_SUSPECTS = 32

#: Stands for the quarantine among the names of tasks.
_QUARANTINE = ""

#: Seconds that a call of a full task is put aside for: no less, since each time it comes it costs as much as a run, and
#: no more, since the guess at its turn is a guess.
_SHORTEST, _LONGEST = 1.0, 60.0


class Dispatcher:
    """First in, first out, `concurrency` at a time, and of a task with `max_running` no more than that.

    Calls of a full task don't stand in the way of others: as many as may run wait here, the rest is parked until about
    the time when it may be their turn. So it is with suspects, for which there are few places in quarantine.
    """

    def __init__(
        self, executor: Executor, settler: Settler, flow: Flow, *, clock: Clock, park_due: Callable[[float], None]
    ) -> None:
        self._executor = executor
        self._settler = settler
        self._flow = flow
        self._clock = clock
        self._park_due = park_due
        #: Each with the monotonic second since when it has waited.
        self._waiting: deque[tuple[float, Attempt]] = deque()
        self._lined_up = asyncio.Event()
        #: Name of a full task -> its calls that wait.
        self._of_full: dict[str, deque[Attempt]] = {}
        self._turns = LocalBuckets(clock)
        self._quarantine_places = max(_LEAST_QUARANTINE_PLACES, usable_cores())

    def admit(self, attempt: Attempt) -> None:
        """Run it now, or as soon as it may."""
        if self._is_full(attempt):
            self._line_up(attempt)
        elif self._flow.slots > 0 and not self._waiting:
            self._executor.start(attempt)
        else:
            self._waiting.append((self._clock.monotonic(), attempt))
            self._flow.waiting += 1
            self._lined_up.set()

    async def run(self) -> None:
        """Start what waits whenever something has ended."""
        while True:
            await self._flow.change()
            for attempt in self._startable():
                self._executor.start(attempt)

    async def return_overdue(self) -> None:
        """Return what waits to its queue, once it has waited for too long: in order, and what would wait longer too."""
        while True:
            await self._lined_up.wait()
            if not self._waiting:
                self._lined_up.clear()
            elif (left := self._waiting[0][0] + _PATIENCE - self._clock.monotonic()) > 0:
                await asyncio.sleep(left)
            else:
                self._give_back_waiting()

    def give_back(self) -> None:
        """Return what has not started to its queue, unblamed, in order."""
        self._give_back_waiting()
        for line in self._of_full.values():
            for attempt in line:
                self._settler.put(GiveBack(attempt.delivery))
        self._flow.stats.handed_back += self._flow.aside
        self._flow.aside = 0
        self._of_full.clear()

    def _give_back_waiting(self) -> None:
        for _, attempt in self._waiting:
            self._settler.put(GiveBack(attempt.delivery))
        self._flow.stats.handed_back += len(self._waiting)
        self._flow.waiting -= len(self._waiting)
        self._waiting.clear()

    def _startable(self) -> Iterator[Attempt]:
        for name, line in list(self._of_full.items()):
            while line and self._flow.slots > 0 and not self._is_full(line[0]):
                self._flow.aside -= 1
                yield line.popleft()
            if not line:
                del self._of_full[name]
        while self._waiting and self._flow.slots > 0:
            _, attempt = self._waiting.popleft()
            self._flow.waiting -= 1
            if self._is_full(attempt):
                self._line_up(attempt)
            else:
                yield attempt

    def _is_full(self, attempt: Attempt) -> bool:
        if attempt.quarantined and self._executor.quarantined >= self._quarantine_places:
            return True
        bound = attempt.program.max_running
        return bound is not None and self._executor.running_of(attempt.program) >= bound

    def _line_up(self, attempt: Attempt) -> None:
        bound, name = attempt.program.max_running, attempt.program.definition.name
        most = bound
        if attempt.quarantined:
            bound, most, name = self._quarantine_places, _MOST_SUSPECTS, _QUARANTINE
        line = self._of_full.setdefault(name, deque())
        if bound is None or most is None or len(line) < most:
            line.append(attempt)
            self._flow.aside += 1
            return
        runtime = max(self._flow.prefetch.mean_runtime, 0.001)
        turn = self._turns.take(name, bound / runtime, soonest=_SHORTEST, latest=_LONGEST)
        until = self._clock.wall() + turn
        self._settler.put(Park(attempt.delivery, until))
        self._park_due(until)
