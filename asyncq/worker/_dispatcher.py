"""Keeps the order of what was admitted, and starts it as slots come free."""

from __future__ import annotations

from collections import deque

from asyncq.driver import GiveBack
from asyncq.worker._attempt import Attempt
from asyncq.worker._executor import Executor
from asyncq.worker._flow import Flow
from asyncq.worker._settler import Settler


class Dispatcher:
    """First in, first out, `concurrency` at a time."""

    def __init__(self, executor: Executor, settler: Settler, flow: Flow) -> None:
        self._executor = executor
        self._settler = settler
        self._flow = flow
        self._waiting: deque[Attempt] = deque()

    def admit(self, attempt: Attempt) -> None:
        """Run it now, or as soon as a slot is free."""
        if self._flow.slots > 0 and not self._waiting:
            self._executor.start(attempt)
        else:
            self._waiting.append(attempt)
            self._flow.waiting += 1

    async def run(self) -> None:
        """Start what waits whenever something has ended."""
        while True:
            await self._flow.change()
            while self._waiting and self._flow.slots > 0:
                self._flow.waiting -= 1
                self._executor.start(self._waiting.popleft())

    def give_back(self) -> int:
        """Return what has not started to its queue, unblamed, in order."""
        count = len(self._waiting)
        for attempt in self._waiting:
            self._settler.put(GiveBack(attempt.delivery))
        self._waiting.clear()
        self._flow.waiting = 0
        self._flow.stats.handed_back += count
        return count
